"""Timer advance: armed early, spun to the deadline, adapted by an eighth of the error."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvmmodel import Host
from kvmmodel.events import HandlerEnter, KvmWaitLapicExpire, TimerArmed
from kvmmodel.kvm.lapic.advance import LAPIC_TIMER_ADVANCE_NS_MAX, adjust_lapic_timer_advance

VECTOR = 0x51


def run_deadline(host, ns=100_000, times=1):
    """A guest spins until its timer's handler has run so many times."""
    vm = host.create_vm(1, boot=True)
    lines = [f"wrmsr LVTT {0x40000 | VECTOR:#x}"]
    for done in range(times):
        lines += [f"deadline {ns}", f"busy {VECTOR:#x} {done + 1}"]
    vm.execute(0, tuple(lines))
    vm.run()
    return vm


def times(vm, kind):
    return [record.t for record in vm.trace.records if isinstance(record.event, kind)]


def test_the_host_timer_is_armed_early_and_the_handler_runs_not_before_the_deadline():
    vm = run_deadline(Host(kernel="6.12", avic=False))
    armed = next(r.event.expires for r in vm.trace.records if isinstance(r.event, TimerArmed))
    handled = times(vm, HandlerEnter)[0] + vm.trace.base
    assert armed + 1000 <= handled


def test_a_fixed_advance_never_adapts_and_zero_never_waits():
    for ns in (0, 3000):
        host = Host(kernel="6.6", avic=False, lapic_timer_advance_ns=ns)
        vm = run_deadline(host, times=4)
        assert vm.vcpus[0].lapic.timer.timer_advance_ns == ns
        assert bool(times(vm, KvmWaitLapicExpire)) == (ns > 0)


def test_the_parameter_is_a_number_up_to_6_6_and_a_bool_since_6_12():
    assert "lapic_timer_advance" not in Host(kernel="6.6", avic=False).params
    with pytest.raises(ValueError, match="no parameter 'lapic_timer_advance_ns'"):
        Host(kernel="6.12", avic=False, lapic_timer_advance_ns=0)
    off = run_deadline(Host(kernel="6.12", avic=False, lapic_timer_advance=False))
    assert not times(off, KvmWaitLapicExpire)


def test_a_one_shot_count_is_not_advanced():
    vm = Host(kernel="6.12", avic=False).create_vm(1, boot=True)
    vm.execute(0, (f"wrmsr LVTT {VECTOR:#x}", "wrmsr TDCR 0xb", "wrmsr TMICT 50000", f"busy {VECTOR:#x} 1"))
    vm.run()
    assert not times(vm, KvmWaitLapicExpire)


@given(st.integers(0, LAPIC_TIMER_ADVANCE_NS_MAX), st.integers(-20_000, 20_000))
def test_small_and_wild_errors_teach_nothing_and_the_advance_stays_in_bounds(advance, delta):
    apic = Host(avic=False).create_vm(1, trace=False).vcpus[0].lapic
    apic.timer.timer_advance_ns = advance
    adjust_lapic_timer_advance(apic, delta)
    assert 0 <= apic.timer.timer_advance_ns <= LAPIC_TIMER_ADVANCE_NS_MAX
    if not 100 <= abs(delta) <= 10_000:
        assert apic.timer.timer_advance_ns == advance
