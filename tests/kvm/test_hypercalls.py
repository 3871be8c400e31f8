"""Hypercalls: VMMCALL, PV IPI, PV kick and the directed yield. Sources: 6.1.176 to 7.3.4, unless a test says other."""

import pytest

from kvmmodel import GuestFault
from kvmmodel.events import (
    Block,
    Fault,
    HandlerEnter,
    HostIpi,
    KvmApicAcceptIrq,
    KvmApicIpi,
    KvmHypercall,
    PvUnhalted,
    SchedIn,
    SetIrr,
    VmExit,
    WakeUp,
)
from kvmmodel.kvm.caps import check_extension, enable_cap
from kvmmodel.kvm.names import name_in
from kvmmodel.machine.loop import run_nested
from kvmmodel.trace.text import tracepoint
from tests.machines import ID, SERIES, SVR, booted, events, irr, load, vm

POLL_IRQ, KICK_CPU, SEND_IPI, SCHED_YIELD = 1, 5, 10, 11
ENOSYS, EINVAL, EOPNOTSUPP = -1000, -22, -95
VECTOR = 0x41


def enabled(*ids):
    """vCPUs with these IDs, their xAPICs enabled."""
    made = vm(len(ids), ids=ids)
    for vcpu in made.vcpus:
        load(vcpu, {SVR: 0x1FF})
    return made


def waiting(kernel="6.18", *, program=("cli", "pv_wait lock 0"), **options):
    """vCPU 1 has halted with IF clear, as the waiter for a lock does that was taken with interrupts off."""
    made = booted(2, kernel, **options)
    made.execute(1, program)
    made.run()
    made.trace.clear(made.machine.now)
    return made


@pytest.mark.parametrize("kernel", SERIES)
def test_an_unknown_number_gives_enosys_and_polling_nothing(kernel):
    made = booted(1, kernel)
    guest = made.vcpus[0].guest
    assert [guest.vmmcall(nr) for nr in (POLL_IRQ, 0, 4, 99)] == [0, ENOSYS, ENOSYS, ENOSYS]
    assert made.vcpus[0].stat == {"hypercalls": 4}
    assert {e.reason for e in events(made, VmExit)} == {"hypercall"}


@pytest.mark.parametrize("kernel", SERIES)
def test_one_hypercall_sends_one_vector_to_many(kernel):
    """No kvm_apic_ipi: that tracepoint stands in the ICR's way only."""
    made = booted(4, kernel)
    assert made.vcpus[0].guest.vmmcall(SEND_IPI, 0b1110, 0, 0, VECTOR) == 3
    made.run()
    assert [vcpu.guest.handled for vcpu in made.vcpus] == [{}, {VECTOR: 1}, {VECTOR: 1}, {VECTOR: 1}]
    assert [e.apicid for e in events(made, KvmApicAcceptIrq)] == [1, 2, 3]
    assert not events(made, KvmApicIpi)


def test_the_bitmap_has_two_words_and_begins_at_an_id():
    """a2 is the APIC ID of bit 0; the second word goes on where the first one ends."""
    made = enabled(0, 9, 10, 10 + 63, 10 + 64, 10 + 127, 10 + 128)
    assert made.vcpus[0].guest.vmmcall(SEND_IPI, 1 | 1 << 63, 1 | 1 << 63, 10, VECTOR) == 4
    assert irr(made) == [set(), set(), {VECTOR}, {VECTOR}, {VECTOR}, {VECTOR}, set()]


@pytest.mark.parametrize(
    ("low", "high", "first", "accepted"),
    [
        (1 << 0 | 1 << 5, 0, 0, 2),
        (1 << 1 | 1 << 2, 0, 0, 0),  # holes between the IDs
        (0, 1 << 6, 0, 1),  # 70, in the second word
        ((1 << 64) - 1, (1 << 64) - 1, 0, 3),
        (1, 0, 256, 0),  # above every APIC ID of the map
        (1 << 1, 0, (1 << 32) - 1, 0),
        (0, 1 << 5, (1 << 32) - 64, 1),  # the second word's first ID is 32 bits wide, and 0 again
    ],
)
def test_ids_that_nobody_has_are_passed_over(low, high, first, accepted):
    made = enabled(0, 5, 70)
    assert made.vcpus[0].guest.vmmcall(SEND_IPI, low, high, first, VECTOR) == accepted
    assert sum(map(len, irr(made))) == accepted


@pytest.mark.parametrize("icr", [0x800, 0x40000, 0x80000, 0xC0000])
def test_an_icr_with_a_destination_of_its_own_is_refused(icr):
    made = booted(2)
    assert made.vcpus[0].guest.vmmcall(SEND_IPI, 0b10, 0, 0, icr | VECTOR) == EINVAL
    assert not events(made, KvmApicAcceptIrq)


def test_without_a_map_of_apic_ids_there_is_no_slow_way():
    """Two xAPICs with one ID have none; an ICR write reaches both all the same."""
    made = vm(2)
    for vcpu in made.vcpus:
        load(vcpu, {SVR: 0x1FF, ID: 5 << 24})
    guest = made.vcpus[0].guest
    assert guest.vmmcall(SEND_IPI, 1 << 5, 0, 0, VECTOR) == EOPNOTSUPP
    assert irr(made) == [set(), set()]
    guest.mmio_write(0xFEE00310, 5 << 24)
    guest.mmio_write(0xFEE00300, VECTOR)
    assert irr(made) == [{VECTOR}, {VECTOR}]


def test_an_nmi_goes_by_hypercall_too_and_a_disabled_apic_accepts_only_that():
    made = booted(2)
    made.vcpus[1].set_msr(0x80F, 0xFF)
    guest = made.vcpus[0].guest
    assert [guest.vmmcall(SEND_IPI, 0b10, 0, 0, icr) for icr in (VECTOR, 0x400)] == [0, 1]
    made.run()
    assert made.vcpus[1].guest.handled == {2: 1}


@pytest.mark.parametrize("kernel", SERIES)
def test_a_kick_wakes_a_vcpu_that_halted_with_interrupts_off(kernel):
    """No vector: nothing in the IRR, no handler. An interrupt in its place wakes the thread for a look, no more."""
    made = waiting(kernel)
    made.execute(0, (f"send_ipi 1 {VECTOR:#x}",))
    made.run()
    assert [type(e) for e in events(made, WakeUp, Block)] == [WakeUp, Block]
    assert made.vcpus[1].kvm_vcpu.mp_state == "halted"
    made.execute(0, ("set lock 1", "pv_kick 1"))
    made.run()
    assert [(e.vcpu_id, e.on) for e in events(made, PvUnhalted)] == [(1, True), (1, False)]
    assert [e.vcpu_id for e in events(made, WakeUp)] == [1, 1]
    assert made.vcpus[1].kvm_vcpu.mp_state == "runnable"
    assert [(e.vcpu_id, e.vector) for e in events(made, SetIrr)] == [(1, VECTOR)]
    assert not events(made, HandlerEnter)


@pytest.mark.parametrize("broken", [False, True])
@pytest.mark.parametrize("kernel", SERIES)
def test_a_kick_before_the_halt_is_not_lost(kernel, broken):
    """The waiter has executed HLT, KVM is about to handle it, and in that moment the lock is released."""
    made = booted(2, kernel, broken=("no-unhalt",) if broken else ())
    made.execute(1, ("cli", "pv_wait lock 0"))

    def at_the_exit(event):
        if isinstance(event, VmExit) and (event.vcpu_id, event.reason) == (1, "hlt"):
            made.trace.listeners.remove(at_the_exit)
            made.execute(0, ("set lock 1", "pv_kick 1"))
            run_nested(made.machine, lambda: made.vcpus[0].stat.get("hypercalls") == 1)

    made.trace.listeners.append(at_the_exit)
    made.run()
    slept = [e.vcpu_id for e in events(made, Block)].count(1)
    state = made.vcpus[1].kvm_vcpu
    assert (slept, state.mp_state, state.pv_unhalted) == ((1, "halted", False) if broken else (0, "runnable", False))


@pytest.mark.parametrize("kernel", SERIES)
def test_a_kick_is_used_up_by_the_halt_that_it_ends(kernel):
    """source 6.12.117 __kvm_emulate_halt, 6.18.35 kvm_set_mp_state. Once it stayed set: the next HLT never slept."""
    made = booted(2, kernel)
    made.execute(1, ("until go 1", "cli", "hlt", "hlt"))
    assert made.vcpus[0].guest.vmmcall(KICK_CPU, 0, 1) == 0
    made.execute(0, ("set go 1",))
    made.run()
    assert [e.reason for e in events(made, VmExit) if e.vcpu_id == 1].count("hlt") == 2
    assert made.vcpus[1].kvm_vcpu.task.state == "blocked"


def test_a_kick_of_a_vcpu_in_the_guest_costs_it_an_exit_and_nothing_else():
    made = booted(2)
    made.execute(1, ("spin 50000",))
    assert made.vcpus[0].guest.vmmcall(KICK_CPU, 0, 1) == 0
    made.run()
    assert [e.reason for e in events(made, VmExit) if e.vcpu_id == 1] == ["interrupt"]
    assert [e.name for e in events(made, HostIpi)] == ["reschedule"]


def test_a_kick_of_nobody_and_of_everybody_succeeds():
    """The answer is 0 in any case; 0xff is the physical broadcast for a message that no x2APIC sent."""
    made = booted(3)
    guest = made.vcpus[0].guest
    assert [guest.vmmcall(KICK_CPU, 0, apicid) for apicid in (9, 0xFF)] == [0, 0]
    assert [e.vcpu_id for e in events(made, PvUnhalted) if e.on] == [0, 1, 2]


@pytest.mark.parametrize("kernel", ["6.12", "7.3"])
def test_the_lines_of_a_trace(kernel):
    """No recording has them: the formats are read in arch/x86/kvm/trace.h."""
    made = waiting(kernel)
    made.execute(0, ("pv_send_ipi 0b10 0x41", "set lock 1", "pv_kick 1"))
    made.run()
    told = [tracepoint(e, made.host.kernel) for e in events(made, KvmHypercall, KvmApicAcceptIrq)]
    assert told == [
        "nr 0xa a0 0x1 a1 0x0 a2 0x1 a3 0x41",
        "apicid 1 vec 65 (Fixed|edge)",
        "nr 0x5 a0 0x0 a1 0x1 a2 0x0 a3 0x0",
        "apicid 1 vec 0 (Res3|edge)",
    ]


@pytest.mark.parametrize(
    ("kernel", "top"),
    [
        ("5.10", ("kvm_emulate_hypercall", "vmmcall_interception")),
        ("6.1", ("kvm_emulate_hypercall", "svm_invoke_exit_handler")),
        ("6.12", ("__kvm_emulate_hypercall", "kvm_emulate_hypercall", "vmmcall_interception")),
        ("7.3", ("____kvm_emulate_hypercall", "kvm_emulate_hypercall", "vmmcall_interception")),
    ],
)
def test_each_release_has_its_own_names_on_the_stack(kernel, top):
    made = booted(2, kernel)
    made.vcpus[0].guest.vmmcall(SEND_IPI, 0b10, 0, 0, VECTOR)
    record = next(r for r in made.trace.records if isinstance(r.event, KvmApicAcceptIrq))
    names = [name for f in record.stack if (name := name_in(f, made.host.kernel))]
    expected = ["__apic_accept_irq", "kvm_apic_set_irq", "__pv_send_ipi", "kvm_pv_send_ipi", *top]
    assert names[: len(expected)] == expected


@pytest.mark.parametrize(
    ("features", "answers"),
    [
        (None, [0, 1, 0]),
        ((), [ENOSYS, ENOSYS, ENOSYS]),
        (("PV_UNHALT",), [0, ENOSYS, ENOSYS]),
        (("PV_SEND_IPI", "PV_SCHED_YIELD"), [ENOSYS, 1, 0]),
    ],
)
def test_cpuid_counts_only_if_userspace_wants_it_enforced(features, answers):
    made = booted(2, pv_features=features)
    guest = made.vcpus[0].guest
    calls = ((KICK_CPU, 0, 1), (SEND_IPI, 0b10, 0, 0, VECTOR), (SCHED_YIELD, 1))
    assert [guest.vmmcall(*call) for call in calls] == answers
    with pytest.raises(ValueError, match="no hypercall needs PV_EOI: expected PV_UNHALT"):
        vm(1, pv_features=["PV_EOI"])


def test_a_directed_yield_runs_the_target_before_others():
    made = booted(3, pcpus=[0, 0, 0])
    for vcpu in (1, 2):
        made.execute(vcpu, ("spin 10000",))
    made.execute(0, ("send_ipi 1 0x41", "send_ipi 2 0x42", "pv_yield 2"))
    made.run()
    assert made.vcpus[0].stat == {
        "hypercalls": 1, "directed_yield_attempted": 1, "directed_yield_successful": 1
    }  # fmt: skip
    yielded = next(i for i, e in enumerate(made.trace.events) if isinstance(e, KvmHypercall))
    ran = [e.task for e in made.trace.events[yielded:] if isinstance(e, SchedIn)]
    assert ran[0] == "vcpu2"


@pytest.mark.parametrize("target", [0, 1, 9])
def test_a_yield_that_has_nobody_to_yield_to_does_nothing(target):
    """To itself, to one that runs, to an ID that nobody has."""
    made = booted(2)
    made.execute(1, ("spin 10000",))
    assert made.vcpus[0].guest.vmmcall(SCHED_YIELD, target) == 0
    assert made.vcpus[0].stat == {"hypercalls": 1, "directed_yield_attempted": 1}


def test_a_kick_ends_with_a_yield_to_the_kicked():
    """Three on one CPU: the waiter runs before a thread that has waited longer."""
    made = waiting(pcpus=[0, 0])
    made.burn(0, 100_000)
    made.execute(0, ("set lock 1", "pv_kick 1"))
    made.run()
    assert made.vcpus[0].stat["directed_yield_successful"] == 1
    kicked = next(i for i, e in enumerate(made.trace.events) if isinstance(e, KvmHypercall))
    assert next(e.task for e in made.trace.events[kicked:] if isinstance(e, SchedIn)) == "vcpu1"


def test_vmmcall_is_undefined_where_nobody_intercepts_it():
    """recalled: the manual. KVM always does, for L1."""
    made = booted(1)
    made.vcpus[0].kvm_vcpu.vmcb01.intercepts.discard(0x81)
    with pytest.raises(GuestFault) as fault:
        made.vcpus[0].guest.vmmcall(POLL_IRQ)
    assert (fault.value.vector, fault.value.error_code) == (6, None)
    assert [e.vector for e in events(made, Fault)] == [6]


def test_the_timer_s_bus_can_be_set_only_before_there_are_timers():
    """source 7.3.4 kvm_vm_ioctl_enable_cap."""
    kvm = vm(1).machine.kvm
    assert check_extension(kvm, "X86_APIC_BUS_CYCLES_NS") == 1
    assert enable_cap(kvm, "X86_APIC_BUS_CYCLES_NS", 10) == EINVAL
    kvm.vcpus.clear()
    assert [enable_cap(kvm, "X86_APIC_BUS_CYCLES_NS", ns) for ns in (0, 1 << 40, 10)] == [EINVAL, EINVAL, 0]
    assert check_extension(kvm, "X86_APIC_BUS_CYCLES_NS") == 10
    assert check_extension(kvm, "SOMETHING_ELSE") == 0
