"""Kicks and wake-ups, requests and modes, injection and windows: the vCPU's loop with AVIC off."""

from itertools import pairwise

import pytest

from kvmmodel import GuestStuck, Host
from kvmmodel.events import (
    Ack,
    Block,
    CheckBlock,
    CheckRequest,
    ClearIsr,
    HandlerEnter,
    HostIpi,
    IrqWindow,
    Kick,
    KvmInjVirq,
    MakeRequest,
    PvEoiArm,
    SetMode,
    VmExit,
    VmRun,
    WakeUp,
)
from kvmmodel.scenarios.run import built_in, run
from tests.machines import MSI, RELEASES, SERIES, booted, events, irr, vm


def scenario(name, kernel="6.18"):
    return run(built_in(name), Host("zen4", kernel, avic=False))


def kicks(made):
    return [(event.vcpu_id, event.outcome) for event in events(made, Kick)]


def reschedules(made):
    return [event.target_cpu for event in events(made, HostIpi) if event.name == "reschedule"]


@pytest.mark.parametrize("kernel", SERIES)
def test_a_halted_target_is_woken_and_gets_no_reschedule_ipi(kernel):
    """recorded 6.12.95, 7.3.4 (S04): the scheduler's own IPI reaches the idle CPU."""
    made = scenario("ipi-halted", kernel)
    assert kicks(made) == [(1, "woken")]
    assert [(e.name, e.target_cpu) for e in events(made, HostIpi)] == [("call_function_single", 5)]
    assert [e.vcpu_id for e in events(made, WakeUp)] == [1]


@pytest.mark.parametrize("kernel", SERIES)
def test_a_target_in_guest_mode_gets_one_reschedule_ipi(kernel):
    """recorded 6.12.95, 7.3.4 (S05): its next exit is that host interrupt."""
    made = scenario("ipi-in-guest", kernel)
    assert (kicks(made), reschedules(made)) == ([(1, "ipi")], [5])
    assert next(e.reason for e in events(made, VmExit) if e.vcpu_id == 1) == "interrupt"


def test_two_senders_make_one_ipi():
    """source 6.18.35: the second finds EXITING_GUEST_MODE."""
    made = booted(1, pcpus=[0])
    assert made.vcpus[0].mode == "IN_GUEST_MODE"
    assert [made.signal_msi(MSI, v) for v in (0x41, 0x51)] == [1, 1]
    assert (kicks(made), reschedules(made)) == ([(0, "ipi"), (0, "nothing")], [0])
    assert made.vcpus[0].mode == "EXITING_GUEST_MODE"
    made.run()
    assert [e.vector for e in events(made, HandlerEnter)] == [0x51, 0x41]


def test_a_target_outside_gets_nothing():
    """source 6.18.35: no sleeper, mode OUTSIDE_GUEST_MODE: the request will be seen before the next entry."""
    made = scenario("ipi-in-host")
    assert (kicks(made), events(made, HostIpi)) == ([(1, "nothing")], [])
    assert [e.vector for e in events(made, HandlerEnter)] == [0x43]


@pytest.mark.parametrize(
    ("kernel", "outcome"), [("5.10", "nothing"), ("5.15", "nothing"), ("6.1", "itself"), ("7.3", "itself")]
)
def test_a_self_ipi_kicks_itself(kernel, outcome):
    """source: since 6.1 the own vCPU is told apart; before, the cmpxchg fails or it is its own CPU. Never an IPI."""
    made = scenario("self-ipi", kernel)
    assert (kicks(made), events(made, HostIpi)) == ([(0, outcome)], [])


@pytest.mark.parametrize("kernel", RELEASES)
def test_irr_then_request_then_event_pass_then_isr_then_vmrun(kernel):
    """source 5.10 to 7.3: ISR is set when the injection is decided, before VMRUN."""
    made = scenario("ipi-in-guest", kernel)
    order = [
        e.kind
        for e in events(made, MakeRequest, CheckRequest, Ack, KvmInjVirq, VmRun, HandlerEnter, ClearIsr)
        if getattr(e, "vcpu_id", 1) == 1 and getattr(e, "request", "EVENT") == "EVENT"
    ]
    assert order[:7] == ["request", "check_request", "ack", "kvm_inj_virq", "vmrun", "handler", "clear_isr"]
    injected = next(e for e in events(made, VmRun) if e.vcpu_id == 1)
    assert injected.event_inj == 0x80000043


@pytest.mark.parametrize("name", ["ipi-in-guest", "ipi-halted", "timer-halted", "msi-preempted", "self-ipi", "nmi"])
def test_at_the_end_no_request_is_left(name):
    """Every request that was made is taken by the vCPU it was made for."""
    made = scenario(name)
    assert [vcpu.kvm_vcpu.requests for vcpu in made.vcpus] == [0] * len(made.vcpus)


def test_modes_go_round():
    """source 6.18.35: OUTSIDE -> IN -> (EXITING) -> OUTSIDE, nothing else."""
    made = scenario("ipi-in-guest")
    for ident in (0, 1):
        steps = [(e.old.split("_")[0], e.mode.split("_")[0]) for e in events(made, SetMode) if e.vcpu_id == ident]
        assert set(steps) <= {("OUTSIDE", "IN"), ("IN", "OUTSIDE"), ("IN", "EXITING"), ("EXITING", "OUTSIDE")}
        assert all(one[1] == two[0] for one, two in pairwise(steps))


@pytest.mark.parametrize("kernel", RELEASES)
def test_the_irq_window_while_if_is_clear(kernel):
    """recorded 6.12.95, 7.3.4 (S12): V_IRQ is requested, the VINTR exit comes with STI, then the injection."""
    made = booted(kernel=kernel)
    guest = made.vcpus[0].guest
    guest.cli()
    guest.wrmsr(0x83F, 0x41)
    assert [e.open for e in events(made, IrqWindow)] == [True]
    assert (events(made, HandlerEnter), irr(made)) == ([], [{0x41}])
    guest.sti()
    made.run()
    assert [e.open for e in events(made, IrqWindow)] == [True, False]
    assert [e.reason for e in events(made, VmExit)].count("vintr") == 1
    assert [e.vector for e in events(made, HandlerEnter)] == [0x41]


def test_two_vectors_at_once_need_a_second_window():
    """recorded 6.12.95, 7.3.4 (S13): 0x51 goes in, 0x41 waits until its handler is done; nothing stays open."""
    made = booted()
    guest = made.vcpus[0].guest
    guest.cli()
    guest.wrmsr(0x83F, 0x41)
    guest.wrmsr(0x83F, 0x51)
    guest.sti()
    made.run()
    assert [e.vector for e in events(made, Ack)] == [0x51, 0x41]
    assert [e.open for e in events(made, IrqWindow)].count(True) >= 2
    assert (irr(made), made.vcpus[0].kvm_vcpu.vmcb.v_irq) == ([set()], False)


@pytest.mark.parametrize("kernel", RELEASES)
def test_hlt_with_if_clear_is_woken_by_nmi_only(kernel):
    """source 5.10 to 7.3: kvm_arch_vcpu_runnable asks whether the interrupt would be allowed."""
    made = booted(2, kernel)
    sender, target = made.vcpus[0].guest, made.vcpus[1].guest
    target.cli()
    target.hlt()
    made.run()
    sender.wrmsr(0x830, 1 << 32 | 0x43)
    made.run()
    assert made.vcpus[1].kvm_vcpu.mp_state == "halted"
    with pytest.raises(GuestStuck, match="halted"):
        target.nop()
    sender.wrmsr(0x830, 1 << 32 | 0x4400)
    made.run()
    assert made.vcpus[1].kvm_vcpu.mp_state == "runnable"
    assert [e.vector for e in events(made, HandlerEnter)] == [2]
    target.sti()
    made.run()
    assert target.handled == {2: 1, 0x43: 1}


def without_vnmi(kernel):
    """Every release, and the emulator that the recordings come from, can do without."""
    return Host("zen3", kernel, avic=False).create_vm(1, boot=True)


@pytest.mark.parametrize("kernel", RELEASES)
def test_an_nmi_and_an_interrupt_at_once(kernel):
    """recorded 6.1.187, 6.12.95, 7.3.4 (scripts): the NMI first, an immediate exit, then the interrupt."""
    made = without_vnmi(kernel)
    made.signal_msi(MSI, 0x41)
    made.signal_msi(MSI, 0x400)
    made.run()
    assert sorted(e.vector for e in events(made, HandlerEnter)) == [2, 0x41]
    assert events(made, HandlerEnter)[0].vector == 2
    assert made.vcpus[0].lapic.isr == 0


@pytest.mark.parametrize("kernel", SERIES)
def test_a_second_nmi_waits_for_the_iret_of_the_first(kernel):
    """source: IRET is intercepted, then single-stepped over; NMIs do not nest and none of two is lost."""
    made = without_vnmi(kernel)
    for _ in range(2):
        made.signal_msi(MSI, 0x400)
    made.run()
    assert made.vcpus[0].guest.handled == {2: 2}
    reasons = [e.reason for e in events(made, VmExit)]
    assert (reasons.count("iret"), reasons.count("DB excp")) == (2, 1)


def test_more_than_two_nmis_collapse():
    """source 6.18.35: process_nmi keeps two."""
    made = booted()
    for _ in range(5):
        made.signal_msi(MSI, 0x400)
    made.run()
    assert made.vcpus[0].guest.handled == {2: 2}


@pytest.mark.parametrize("kernel", RELEASES)
def test_init_and_sipi_start_a_vcpu(kernel):
    """recorded 6.12.95, 7.3.4 (S01): a vCPU that waits for SIPI runs nothing before it."""
    made = vm(2, kernel)
    with pytest.raises(GuestStuck, match="uninitialized"):
        made.vcpus[1].guest.nop()
    boot = made.vcpus[0].guest
    for index, value in ((0x1B, 0xFEE00D00), (0x80F, 0x1FF), (0x830, 1 << 32 | 0x4500)):
        boot.wrmsr(index, value)
    made.run()
    assert made.vcpus[1].kvm_vcpu.mp_state == "init_received"
    boot.wrmsr(0x830, 1 << 32 | 0x4608)
    made.run()
    assert (made.vcpus[1].kvm_vcpu.mp_state, made.vcpus[1].lapic.sipi_vector) == ("runnable", 8)
    made.vcpus[1].guest.nop()


def test_a_sipi_without_init_does_nothing():
    """source 6.18.35: only INIT_RECEIVED becomes RUNNABLE."""
    made = booted(2)
    made.vcpus[0].guest.wrmsr(0x830, 1 << 32 | 0x4608)
    made.run()
    made.vcpus[1].guest.nop()
    assert made.vcpus[1].get_msr(0x80F) == 0x1FF


def test_remrd_unhalts():
    """source 6.18.35: pv_unhalted makes a halted vCPU runnable, with nothing to inject."""
    made = booted(1)
    made.vcpus[0].guest.cli()
    made.vcpus[0].guest.hlt()
    made.run()
    assert made.signal_msi(MSI, 0x300) == 1
    made.run()
    assert (made.vcpus[0].kvm_vcpu.mp_state, events(made, HandlerEnter)) == ("runnable", [])


@pytest.mark.parametrize("kernel", RELEASES)
def test_a_broadcast_reaches_everybody_else(kernel):
    """recorded 6.12.95, 7.3.4 (S15)."""
    made = scenario("broadcast", kernel)
    assert [vcpu.guest.handled for vcpu in made.vcpus] == [{}, {0x45: 1}, {0x45: 1}, {0x45: 1}]


@pytest.mark.parametrize("broken", [("no-request",), ("no-kick",), ("no-request", "no-kick")])
def test_what_the_request_and_the_kick_are_for(broken):
    """Without one of them a halted vCPU's interrupt never arrives, or only if something else comes along."""
    made = run(built_in("ipi-halted"), Host("zen4", "6.12", avic=False), broken=broken)
    arrived = bool(events(made, HandlerEnter))
    assert (arrived, made.vcpus[1].lapic.irr >> 0x43 & 1) == (False, 1)


def test_a_vcpu_sleeps_and_its_cpu_is_free():
    made = scenario("ipi-halted")
    block = next(i for i, r in enumerate(made.trace.records) if isinstance(r.event, Block))
    woken = next(i for i, r in enumerate(made.trace.records) if isinstance(r.event, WakeUp))
    states = {s.thread for r in made.trace.records[block + 2 : woken] for s in r.states if s.vcpu == 1}
    assert states == {"blocked"}


@pytest.mark.parametrize("kernel", RELEASES)
def test_who_sends_between_the_event_pass_and_in_guest_mode_is_not_missed(kernel):
    """source 5.10 to 7.3: requests are looked at once more after the mode is visible; the entry is called off.

    The kick found nobody to wake and no IPI to send. What was to be injected is injected again at the next entry.
    """
    made = booted(kernel=kernel)
    made.world.idt[0] = dict.fromkeys((0x81, 0x91), "pv_eoi")
    made.world.pv_eoi[0] = 0x5000
    guest = made.vcpus[0].guest
    guest.wrmsr(0x4B564D04, 0x5001)

    def send(event):
        if isinstance(event, PvEoiArm):  # the last thing before the mode is set
            made.trace.listeners.remove(send)
            assert made.vcpus[0].mode == "OUTSIDE_GUEST_MODE"
            made.signal_msi(MSI, 0x91)

    made.trace.listeners.append(send)
    made.signal_msi(MSI, 0x81)
    made.run()
    assert guest.handled == {0x81: 1, 0x91: 1}
    injected = [(e.vector, e.reinjected) for e in events(made, KvmInjVirq)]
    assert injected[:2] == [(0x81, False), (0x81, True)]
    assert next(e.event_inj & 0xFF for e in events(made, VmRun) if e.event_inj) == 0x81
    assert irr(made) == [set()]


@pytest.mark.parametrize(("broken", "arrived"), [((), [0x41]), (("no-window",), [])])
def test_without_the_irq_window_a_vector_is_lost(broken, arrived):
    """An exit does not help: nobody asks for an event pass."""
    made = Host(kernel="6.12", avic=False).create_vm(vcpus=1, boot=True, broken=broken)
    guest = made.vcpus[0].guest
    guest.cli()
    guest.wrmsr(0x83F, 0x41)
    guest.sti()
    guest.rdmsr(0x802)
    made.run()
    assert [e.vector for e in events(made, HandlerEnter)] == arrived


@pytest.mark.parametrize("kernel", SERIES)
@pytest.mark.parametrize("kind", [CheckBlock, Block], ids=lambda k: k.__name__)
def test_a_wake_up_between_the_last_look_and_schedule_is_not_lost(kind, kernel):
    """source: set_current_state is before the look, so wake_up_process makes schedule() return at once.

    Caught a vCPU that went to sleep although it had been woken.
    """
    made, done = booted(1, kernel), []

    def send(event):
        if isinstance(event, kind) and not done:
            done.append(True)
            made.signal_msi(MSI, 0x41)

    made.trace.listeners.append(send)
    made.execute(0, ("hlt",))
    made.run()
    assert done
    assert made.vcpus[0].guest.handled == {0x41: 1}
