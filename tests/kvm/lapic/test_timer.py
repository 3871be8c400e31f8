"""The APIC timer: modes, divider, current count, deadline, restore."""

import pytest

from kvmmodel import Host
from kvmmodel.events import HandlerEnter, TimerArmed, TimerPending
from kvmmodel.kvm.lapic.timer import advance_periodic_target_expiration
from kvmmodel.scenarios.run import built_in, run
from tests.machines import LVTT, SERIES, TDCR, TMCCT, TMICT, TSC_DEADLINE, booted, events, load, msr, vm, word, x2apic

ONESHOT, PERIODIC, DEADLINE = 0xE2, 0x200E2, 0x400E2


@pytest.mark.parametrize(("tdcr", "divisor"), [(0, 2), (1, 4), (2, 8), (3, 16), (8, 32), (9, 64), (0xA, 128), (0xB, 1)])
def test_the_divider(tdcr, divisor):
    """live 6.18.44: the timer counts at 1 GHz over the divisor."""
    made = booted()
    guest = made.vcpus[0].guest
    guest.wrmsr(msr(TDCR), tdcr)
    guest.wrmsr(msr(LVTT), ONESHOT)
    guest.wrmsr(msr(TMICT), 10_000)
    made.run(until=HandlerEnter, limit_ns=10_000_000)
    records = made.trace.records
    armed = next(r for r in records if isinstance(r.event, TimerArmed))
    fired = next(r for r in records if isinstance(r.event, TimerPending))
    assert armed.event.expires - made.trace.base - armed.t == 10_000 * divisor
    assert 0 <= fired.t - armed.t - 10_000 * divisor < 10_000


def fired(made, within):
    """How many handlers began so many ns after the first arming."""
    start = next(r.t for r in made.trace.records if isinstance(r.event, TimerArmed))
    return sum(isinstance(r.event, HandlerEnter) and r.t - start < within for r in made.trace.records)


def test_one_shot_fires_once_and_periodic_goes_on():
    """source 6.18.35."""
    for mode, times in ((ONESHOT, 1), (PERIODIC, 5)):
        made = booted()
        guest = made.vcpus[0].guest
        guest.wrmsr(msr(TDCR), 0xB)
        guest.wrmsr(msr(LVTT), mode)
        guest.wrmsr(msr(TMICT), 300_000)
        made.run(limit_ns=1_700_000)
        assert fired(made, 1_600_000) == times


def test_a_period_has_a_lower_limit():
    """source 6.18.35: min_timer_period_us, 200."""
    made = booted()
    guest = made.vcpus[0].guest
    guest.wrmsr(msr(LVTT), PERIODIC)
    guest.wrmsr(msr(TMICT), 10)
    made.run(limit_ns=1_050_000)
    assert fired(made, 1_050_000) == 5


def test_periods_missed_collapse_into_one():
    """source 6.18.35: while interrupts are off, expiries are noted once."""
    made = booted()
    guest = made.vcpus[0].guest
    guest.cli()
    guest.wrmsr(msr(LVTT), PERIODIC)
    guest.wrmsr(msr(TMICT), 100_000)
    made.run(until=lambda: False, limit_ns=1_000_000)
    guest.wrmsr(msr(TMICT), 0)
    guest.sti()
    made.run()
    assert len(events(made, HandlerEnter)) == 1


def test_the_current_count_goes_down_and_reads_0_in_deadline_mode():
    """live 6.18.44."""
    vcpu = x2apic(1).vcpus[0]
    vcpu.set_msr(msr(TDCR), 0xB)
    vcpu.set_msr(msr(LVTT), ONESHOT)
    vcpu.set_msr(msr(TMICT), 1_000_000)
    vcpu.guest.nop()
    first = vcpu.get_msr(msr(TMCCT))
    vcpu.guest.nop()
    second = vcpu.get_msr(msr(TMCCT))
    assert 1_000_000 > first > second > 900_000
    vcpu.set_msr(msr(LVTT), DEADLINE)
    assert (vcpu.get_msr(msr(TMCCT)), vcpu.get_msr(msr(TMICT))) == (0, 0)


def test_to_and_from_deadline_mode_the_timer_stops():
    """live 6.18.44: TMICT is zeroed; the deadline reads 0 outside its mode, and a write is ignored."""
    vcpu = x2apic(1).vcpus[0]
    vcpu.set_msr(TSC_DEADLINE, 123_456_789)
    assert vcpu.get_msr(TSC_DEADLINE) == 0
    vcpu.set_msr(msr(LVTT), DEADLINE)
    vcpu.set_msr(msr(TMICT), 55)
    assert vcpu.get_msr(msr(TMICT)) == 0
    vcpu.set_msr(TSC_DEADLINE, 123_456_789)
    assert vcpu.get_msr(TSC_DEADLINE) == 123_456_789
    vcpu.set_msr(msr(LVTT), ONESHOT)
    assert vcpu.get_msr(TSC_DEADLINE) == 0
    assert vcpu.lapic.timer.hrtimer.expires is None


def test_a_delivered_deadline_reads_0():
    """source 6.18.35: kvm_apic_inject_pending_timer_irqs clears it."""
    made = booted()
    guest = made.vcpus[0].guest
    guest.wrmsr(msr(LVTT), DEADLINE)
    guest.wrmsr(TSC_DEADLINE, made.machine.now + 50_000)
    made.run()
    assert (len(events(made, HandlerEnter)), guest.rdmsr(TSC_DEADLINE)) == (1, 0)


def test_a_masked_timer_is_not_delivered():
    made = booted()
    guest = made.vcpus[0].guest
    guest.wrmsr(msr(LVTT), ONESHOT | 1 << 16)
    guest.wrmsr(msr(TMICT), 1_000)
    made.run()
    assert (events(made, HandlerEnter), made.vcpus[0].lapic.irr) == ([], 0)


def test_what_expired_while_masked_comes_when_the_mask_goes():
    """Inferred from the source: only the look at the timer asks for the mask, and pending stays."""
    made = booted()
    guest = made.vcpus[0].guest
    guest.wrmsr(msr(LVTT), ONESHOT | 1 << 16)
    guest.wrmsr(msr(TMICT), 1_000)
    made.run()
    guest.wrmsr(msr(LVTT), ONESHOT)
    made.run()
    assert len(events(made, HandlerEnter)) == 1


def test_a_new_divisor_rescales_what_is_left():
    """source 6.18.35: update_target_expiration."""
    vcpu = x2apic(1).vcpus[0]
    vcpu.set_msr(msr(LVTT), ONESHOT)
    vcpu.set_msr(msr(TMICT), 100_000)
    left = vcpu.lapic.timer.target_expiration - vcpu.vm.machine.host.current.now
    vcpu.set_msr(msr(TDCR), 1)
    assert vcpu.lapic.timer.target_expiration - vcpu.vm.machine.host.current.now == left * 2


@pytest.mark.parametrize(("tmcct", "left"), [(300, 300), (5_000, 1_000)])
def test_a_restored_timer_goes_on_from_tmcct(tmcct, left):
    """live 6.18.44: at most TMICT."""
    vcpu = x2apic(1).vcpus[0]
    load(vcpu, {LVTT: ONESHOT, TDCR: 0xB, TMICT: 1_000, TMCCT: tmcct})
    assert vcpu.lapic.timer.target_expiration - vcpu.vm.machine.host.current.now == left
    assert word(vcpu.get_lapic(), TMICT) == 1_000


def test_a_restored_periodic_timer_with_nothing_left_takes_a_whole_period():
    """recalled: __start_apic_timer with TMCCT 0."""
    vcpu = x2apic(1).vcpus[0]
    load(vcpu, {LVTT: PERIODIC, TDCR: 0xB, TMICT: 300_000, TMCCT: 0})
    assert vcpu.lapic.timer.target_expiration - vcpu.vm.machine.host.current.now == 300_000


@pytest.mark.parametrize(("kernel", "pending"), [("6.1.106", 0), ("6.1.107", 1), ("6.6", 0), ("6.12", 1)])
def test_a_restored_one_shot_timer_that_had_expired(kernel, pending):
    """Debian changelog 6.1.107: fire timer when it is migrated and expired, and in oneshot mode."""
    vcpu = x2apic(1, kernel).vcpus[0]
    load(vcpu, {LVTT: ONESHOT, TDCR: 0xB, TMICT: 300_000, TMCCT: 0})
    assert vcpu.lapic.timer.pending == pending


@pytest.mark.parametrize("kernel", SERIES)
def test_a_deadline_in_the_past_fires_at_once(kernel):
    """source 5.10 to 7.3: apic_timer_expired without the hrtimer."""
    made = booted(kernel=kernel)
    guest = made.vcpus[0].guest
    guest.wrmsr(msr(LVTT), DEADLINE)
    guest.wrmsr(TSC_DEADLINE, 1)
    made.run()
    assert ([e.vector for e in events(made, HandlerEnter)], events(made, TimerArmed)) == ([0xE2], [])


RULES = {
    # scenario: what arrives without the kick, and without the request, on 6.12 and on 7.3
    "timer-in-guest": (True, (True, True)),
    "timer-halted": (False, (True, True)),
    "timer-deadline-in-host": (True, (True, True)),
    "timer-preempted": (True, (False, False)),
    "timer-in-host": (True, (True, False)),
}


@pytest.mark.parametrize(("name", "kick", "request_"), [(n, k, r) for n, (k, r) in RULES.items()])
def test_what_an_expired_timer_s_kick_and_request_are_for(name, kick, request_):
    """The kick is for a thread that sleeps; the request for one that is past its look at the timer, and enters."""
    for kernel, request in zip(("6.12", "7.3"), request_, strict=True):
        for rule, arrives in (("no-timer-kick", kick), ("no-timer-request", request)):
            made = run(built_in(name), Host(kernel=kernel, avic=False), broken=(rule,))
            assert len(events(made, HandlerEnter)) == arrives, (kernel, rule)


@pytest.mark.parametrize(
    ("kernel", "catches_up"), [("6.6", True), ("6.12.63", True), ("6.12.64", False), ("6.18", False)]
)
def test_a_late_periodic_timer_catches_up_only_in_older_releases(kernel, catches_up):
    """source 6.18.35, changelog 6.12.64: the target is put to now instead of staying in the past."""
    made = booted(kernel=kernel)
    guest, host = made.vcpus[0].guest, made.machine.host
    for register, value in ((TDCR, 0xB), (LVTT, PERIODIC), (TMICT, 300_000)):
        guest.wrmsr(msr(register), value)
    timer = made.vcpus[0].lapic.timer
    host.current.now += 10 * timer.period
    advance_periodic_target_expiration(made.vcpus[0].lapic)
    assert (timer.target_expiration < host.current.now) == catches_up


def test_a_period_is_limited_when_the_mode_becomes_periodic():
    """source 6.18.35 apic_update_lvtt: the count runs on, and its period obeys min_timer_period_us at once."""
    made = booted()
    guest = made.vcpus[0].guest
    guest.wrmsr(msr(TDCR), 0xB)
    guest.wrmsr(msr(LVTT), ONESHOT)
    guest.wrmsr(msr(TMICT), 100_000)
    guest.wrmsr(msr(LVTT), PERIODIC)
    assert made.vcpus[0].lapic.timer.period == 200_000
    made.run(limit_ns=950_000)
    assert fired(made, 950_000) == 5  # after 100 us, then every 200


def test_both_mode_bits_are_no_mode():
    """source 6.18.35 start_sw_timer: neither one-shot nor periodic nor deadline, so nothing is armed or fires."""
    made = booted()
    guest = made.vcpus[0].guest
    guest.wrmsr(msr(LVTT), PERIODIC)
    guest.wrmsr(msr(TMICT), 100_000)
    guest.wrmsr(msr(LVTT), 3 << 17 | 0xE2)
    made.trace.clear(made.machine.now)
    guest.wrmsr(msr(TMICT), 100_000)
    made.run(limit_ns=5_000_000)
    assert not events(made, TimerArmed, TimerPending)


@pytest.mark.parametrize("kernel", SERIES)
def test_the_deadline_msr_while_the_apic_is_disabled(kernel):
    """source 5.10.13, 6.18.35 kvm_get_lapic_tscdeadline_msr and its setter: reads 0, writes are ignored."""
    made = vm(1, kernel)
    vcpu = made.vcpus[0]
    load(vcpu, {0xF0: 0x1FF, LVTT: DEADLINE})
    vcpu.set_msr(TSC_DEADLINE, 1 << 40)
    base = vcpu.get_msr(0x1B)
    vcpu.set_msr(0x1B, base & ~0x800)
    vcpu.set_msr(TSC_DEADLINE, 1 << 41)
    assert vcpu.get_msr(TSC_DEADLINE) == 0
    vcpu.set_msr(0x1B, base)
    assert vcpu.get_msr(TSC_DEADLINE) == 1 << 40


def test_an_expiry_that_waits_keeps_the_divider_from_arming():
    """source 6.18.35 restart_apic_timer: a one-shot timer that has expired and waits is not started again."""
    made = x2apic(1)
    vcpu = made.vcpus[0]
    vcpu.set_msr(msr(LVTT), ONESHOT)
    vcpu.set_msr(msr(TMICT), 100_000)
    vcpu.lapic.timer.pending = 1
    vcpu.set_msr(msr(TDCR), 0xB)
    assert vcpu.lapic.timer.hrtimer.expires is None
