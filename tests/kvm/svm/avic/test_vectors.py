"""T1 to T20: what a guest does under AVIC, and exactly what follows, on each release.

The processor's half is the manual's; KVM's is read in its source. Each docstring says what it catches.
"""

import pytest

from kvmmodel import Host
from kvmmodel.events import (
    AvicClearIsr,
    AvicDoorbell,
    AvicIsRunning,
    AvicLookup,
    AvicMode,
    AvicRing,
    AvicSetIrr,
    AvicTake,
    HandlerEnter,
    IrqWindow,
    KvmApicAcceptIrq,
    KvmApicIpi,
    KvmApicvAcceptIrq,
    KvmAvicDoorbell,
    KvmAvicIncompleteIpi,
    KvmAvicUnacceleratedAccess,
    KvmEoi,
    KvmInjVirq,
    MakeRequest,
    ReadMode,
    VmExit,
    VmRun,
    WakeUp,
)
from tests.kvm.svm.avic.avic_vms import (
    ALLBUT,
    BEFORE_X2AVIC,
    EOI,
    ESR,
    INCOMPLETE,
    IPIV,
    LDR,
    LOGICAL,
    MSI,
    MSR,
    NO_X2AVIC,
    NOACCEL,
    NPF,
    SELF,
    SELF_IPI,
    SERIES,
    SVR,
    TMICT,
    X2AVIC,
    at,
    block,
    clear,
    events,
    exits,
    handled,
    icr,
    order,
    read,
    running,
    vm,
    write,
)

V = 0x40
DESTINATION = {True: 1, False: 1 << 24}  # ICR high for APIC ID 1, by x2APIC mode


def flat(made):
    """Logical IDs as a guest without x2APIC gives them: a bit each."""
    for number in range(len(made.vcpus)):
        write(made, number, LDR, 1 << (24 + number))
    clear(made)


def requests(made, vcpu):
    return [e.request for e in events(made, MakeRequest) if e.vcpu_id == vcpu]


@pytest.mark.parametrize("kernel", SERIES)
def test_t1_a_fixed_ipi_between_two_vcpus_in_the_guest_needs_no_exit(kernel):
    """x2AVIC, before it xAVIC. The sender's processor sets the bit and rings; the target's takes it.

    Catches an exit, a doorbell of KVM's, EVENTINJ, and a take without a doorbell.
    """
    made = vm(2, kernel)
    icr(made, V, 1)
    assert exits(made) == []
    assert events(made, MakeRequest, KvmInjVirq, KvmAvicDoorbell, ReadMode) == []
    seen = events(made, AvicSetIrr, AvicLookup, AvicRing, AvicDoorbell, AvicTake, HandlerEnter, AvicClearIsr)
    assert seen == [
        AvicSetIrr(1, V),
        AvicLookup(1, True),
        AvicRing(1, 1),
        AvicDoorbell(1, True),
        AvicTake(1, V),
        HandlerEnter(1, V),
        AvicClearIsr(1, V),
    ]


@pytest.mark.parametrize("kernel", SERIES)
@pytest.mark.parametrize("x2apic", [True, False])
def test_t2_a_blocked_target_costs_the_sender_an_exit_and_is_woken(kernel, x2apic):
    """ID 1, and index 1. KVM does not set the bit again; VMRUN takes it, without EVENTINJ.

    Catches IRR set again on ID 1, IsRunning left set on blocking (no exit, nobody wakes), KVM_REQ_EVENT for it.
    """
    if x2apic and kernel in BEFORE_X2AVIC:
        return
    made = vm(2, kernel, x2apic=x2apic)
    block(made, 1)
    assert running(made, 1) == (False, False)
    icr(made, V, 1)
    assert exits(made, 0) == [INCOMPLETE]
    assert events(made, KvmAvicIncompleteIpi) == [KvmAvicIncompleteIpi(0, DESTINATION[x2apic], V, 1, 1)]
    assert order(made, AvicSetIrr, VmExit, WakeUp, AvicTake)[:4] == ["AvicSetIrr", "VmExit", "WakeUp", "AvicTake"]
    assert [e.vcpu_id for e in events(made, WakeUp)] == [1]
    assert events(made, KvmInjVirq, KvmApicAcceptIrq) == []
    assert "EVENT" not in requests(made, 1)
    assert handled(made)[1] == {V: 1}
    assert running(made, 1) == (True, True)


def test_t2_left_out_combinations_are_those_that_inhibit():
    """x2APIC in CPUID before x2AVIC: no AVIC at all, so T2 has nothing to show there."""
    for kernel in BEFORE_X2AVIC:
        made = vm(2, kernel, x2apic=True)
        assert made.inhibits == {"X2APIC"}
        icr(made, V, 1)
        assert exits(made, 0) == [MSR]


@pytest.mark.parametrize("kernel", SERIES)
@pytest.mark.parametrize("cpu", ["zen1", "zen2"])
def test_t3_on_family_17h_every_ipi_exits_from_6_17_on(cpu, kernel):
    """Erratum 1235: IsRunning is in KVM's own copy only. Up to 6.12 as T1, and exposed to the erratum.

    Catches enable_ipiv that also keeps KVM's own copy clear, and a doorbell left out although the target runs.
    """
    made = vm(2, kernel, cpu=cpu, x2apic=False)
    icr(made, V, 1)
    if kernel not in IPIV:
        assert exits(made) == []
        assert running(made, 1) == (True, True)
    else:
        assert exits(made) == [INCOMPLETE]
        assert [(e.id, e.index) for e in events(made, KvmAvicIncompleteIpi)] == [(1, 1)]
        assert events(made, KvmAvicDoorbell) == [KvmAvicDoorbell(1, 1)]
        assert events(made, AvicRing) == []
        assert running(made, 1) == (True, False)
    assert handled(made) == [{}, {V: 1}]


@pytest.mark.parametrize("kernel", SERIES)
@pytest.mark.parametrize("cpu", ["zen4", "zen2"])
def test_t4_a_self_ipi_needs_no_exit_on_any_of_them(cpu, kernel):
    """It looks at no table. Catches one that exits where enable_ipiv is off."""
    made = vm(2, kernel, cpu=cpu, x2apic=cpu == "zen4" and kernel in X2AVIC)
    icr(made, V | SELF)
    assert exits(made) == []
    assert handled(made) == [{V: 1}, {}]
    assert events(made, AvicLookup, AvicRing) == []


@pytest.mark.parametrize("kernel", SERIES)
@pytest.mark.parametrize("mode", [0x100, 0x400], ids=["lowest priority", "NMI"])
def test_t5_what_is_not_fixed_is_emulated(mode, kernel):
    """ID 0, nothing set by the processor. Catches a second delivery on top of the first."""
    made = vm(2, kernel)
    icr(made, V | mode, 1)
    assert exits(made, 0) == [INCOMPLETE]
    assert [e.id for e in events(made, KvmAvicIncompleteIpi)] == [0]
    assert events(made, AvicSetIrr) == []
    assert events(made, KvmApicIpi) == [KvmApicIpi(V | mode, 1)]
    assert events(made, KvmApicAcceptIrq) == [KvmApicAcceptIrq(1, mode, 0, V)]
    assert handled(made) == [{}, {2 if mode == 0x400 else V: 1}]
    assert events(made, KvmInjVirq) == []  # a Fixed vector that KVM delivers goes into the page, too


@pytest.mark.parametrize("kernel", SERIES)
def test_t5_an_init_ipi_resets_the_target(kernel):
    made = vm(2, kernel)
    icr(made, 0x4500, 1)
    assert exits(made, 0) == [INCOMPLETE]
    assert [e.id for e in events(made, KvmAvicIncompleteIpi)] == [0]
    assert made.vcpus[1].kvm_vcpu.mp_state == "init_received"


@pytest.mark.parametrize("kernel", SERIES)
def test_t6_a_vector_below_16_is_ignored(kernel):
    """ID 4: no ESR, no bit. Catches ESR's 0x20 or 0x40, which KVM's handler does not set."""
    made = vm(2, kernel)
    icr(made, 5, 1)
    assert exits(made) == [INCOMPLETE]
    assert [e.id for e in events(made, KvmAvicIncompleteIpi)] == [4]
    assert events(made, KvmApicIpi, AvicSetIrr, WakeUp, MakeRequest) == []
    assert [vcpu.lapic.irr for vcpu in made.vcpus] == [0, 0]
    assert read(made, 0, ESR) == 0


@pytest.mark.parametrize("kernel", [*SERIES, "6.1.0", "6.1.16"])
def test_t7_an_unassigned_bit_of_a_logical_destination(kernel):
    """xAVIC: ID 2, and no bit set by the processor. KVM sends to those that exist; before 6.1.16 all of it is lost.

    Catches 5.10's ignored reason 2 in newer releases, and an emulation in older ones.
    """
    made = vm(2, kernel, x2apic=False)
    flat(made)
    icr(made, V | LOGICAL, 0b111)
    assert exits(made, 0)[0] == INCOMPLETE
    assert [e.id for e in events(made, KvmAvicIncompleteIpi)] == [2]
    assert events(made, AvicSetIrr) == []
    lost = kernel in (*BEFORE_X2AVIC, "6.1.0")
    assert handled(made) == ([{}, {}] if lost else [{V: 1}, {V: 1}])


@pytest.mark.parametrize("kernel", SERIES)
@pytest.mark.parametrize("cpu", ["zen4", "zen2"])
@pytest.mark.parametrize("level", [False, True], ids=["edge", "level"])
def test_t8_the_eoi_of_an_edge_and_of_a_level_vector(level, cpu, kernel):
    """No exit; or 402h behind the write, with offset B0h. Then KVM tells the IOAPIC, and looks at events again.

    Catches the ISR bit cleared in both places, an EOI that exits for every vector, and no KVM_REQ_EVENT.
    """
    made = vm(2, kernel, cpu=cpu, x2apic=cpu == "zen4" and kernel in X2AVIC)
    made.signal_msi(MSI | 1 << 12, V | (0xC000 if level else 0))
    made.run()
    assert handled(made) == [{}, {V: 1}]
    assert exits(made) == ([NOACCEL] if level else [])
    assert [e.vector for e in events(made, KvmEoi)] == ([V] if level else [])
    found = [(e.offset, e.trap, e.write, e.vec) for e in events(made, KvmAvicUnacceleratedAccess)]
    assert found == ([(0xB0, True, True, V)] if level else [])
    assert ("EVENT" in requests(made, 1)) == level
    assert made.vcpus[1].lapic.isr == 0


@pytest.mark.parametrize("kernel", X2AVIC)
def test_t9_wrmsr_tmict(kernel):
    """From 7.2 on KVM intercepts it; before, the processor writes the page and exits behind it."""
    made = vm(1, kernel)
    write(made, 0, TMICT, 1_000_000)
    assert exits(made) == [MSR if kernel in ("7.2", "7.3") else NOACCEL]
    assert made.vcpus[0].lapic.regs[TMICT] == 1_000_000


@pytest.mark.parametrize("kernel", X2AVIC)
def test_t10_wrmsr_self_ipi(kernel):
    """Up to 6.18 intercepted, from 7.2 on accelerated."""
    made = vm(1, kernel)
    write(made, 0, SELF_IPI, V)
    assert exits(made) == ([] if kernel in ("7.2", "7.3") else [MSR])
    assert handled(made) == [{V: 1}]


@pytest.mark.parametrize("kernel", SERIES)
def test_t11_a_pit_that_reinjects_keeps_avic_off(kernel):
    """QEMU's default: the inhibit is there from the start, so no vCPU ever enters the guest with AVIC.

    Catches a new vCPU's apicv_active, which is true at first, taken into the guest.
    """
    made, entered = Host("zen4", kernel, avic=True).create_vm(2, kernel in X2AVIC, pit="reinject"), []
    at(made, VmRun, lambda: entered.extend(vcpu.kvm_vcpu.vmcb.avic_enable for vcpu in made.vcpus), always=True)
    made.vcpus[1].set_mp_state("runnable")
    for number in (0, 1):
        write(made, number, SVR, 0x1FF)
    clear(made)
    icr(made, V, 1)
    assert "PIT_REINJ" in made.inhibits
    assert entered
    assert not any(entered[2:])  # vCPU 1 enters behind vCPU 0
    assert exits(made, 0) == [NPF] * 2
    assert made.vcpus[1].lapic.irr == 1 << V


def pic_asks(made, vcpu=0):
    """The guest sets up the first 8259, and closes its eyes; then line 3 goes up."""
    guest = made.vcpus[vcpu].guest
    guest.cli()
    for port, value in ((0x20, 0x11), (0x21, 0x30), (0x21, 4), (0x21, 1)):
        guest.outb(port, value)
    clear(made)
    made.irq_line(3, True)
    made.irq_line(3, False)
    made.run()


@pytest.mark.parametrize("kernel", SERIES)
def test_t12_an_extint_that_has_to_wait_inhibits_avic_until_it_is_in(kernel):
    """IRQWIN for the whole VM, a VINTR exit once IF is set, EVENTINJ, and AVIC again.

    Catches IRQWIN left set, and one vCPU that keeps AVIC meanwhile.
    """
    made = vm(2, kernel)
    pic_asks(made)
    assert made.inhibits == {"IRQWIN"}
    assert not any(vcpu.apicv_active for vcpu in made.vcpus)
    assert {e.open for e in events(made, IrqWindow)} == {True}
    made.vcpus[0].guest.sti()
    made.vcpus[0].guest.nop()
    made.run()
    assert exits(made, 0).count("vintr") == 1
    assert [e.vector for e in events(made, HandlerEnter)] == [0x33]
    assert 0x33 in {e.vector for e in events(made, KvmInjVirq)}
    assert made.inhibits == frozenset()
    assert all(vcpu.apicv_active for vcpu in made.vcpus)
    assert not events(made, IrqWindow)[-1].open


@pytest.mark.parametrize("kernel", X2AVIC)
@pytest.mark.parametrize("cpu", [NO_X2AVIC, "zen2"])
def test_t14_hybrid_an_icr_write_exits_and_the_target_gets_a_doorbell(cpu, kernel):
    """x2APIC mode without x2AVIC: the MSR exits, KVM sends, and what arrives the processor takes.

    Catches KVM_REQ_EVENT and a kick instead of the doorbell, and an ICR that is accelerated.
    """
    made = vm(2, kernel, cpu=cpu)
    assert [vcpu.apicv_active for vcpu in made.vcpus] == [True, True]
    icr(made, V, 1)
    assert exits(made, 0) == [MSR]
    assert exits(made, 1) == [MSR]  # its EOI
    assert events(made, KvmApicIpi) == [KvmApicIpi(V, 1)]
    assert events(made, KvmApicvAcceptIrq) == [KvmApicvAcceptIrq(1, 0, 0, V)]
    assert events(made, KvmAvicDoorbell) == [KvmAvicDoorbell(1, 1)]
    assert events(made, AvicDoorbell) == [AvicDoorbell(1, True)]
    assert order(made, KvmApicvAcceptIrq, MakeRequest, AvicTake) == [
        "KvmApicvAcceptIrq",
        "AvicTake",
        "MakeRequest",
    ]  # EOI
    assert handled(made) == [{}, {V: 1}]


@pytest.mark.parametrize("kernel", SERIES)
def test_t15_a_vcpu_id_that_avic_has_no_place_for(kernel):
    """Up to 6.12 KVM_CREATE_VCPU fails with EINVAL; later the VM lives, without AVIC."""
    host = Host(NO_X2AVIC, kernel, avic=True)
    if kernel not in IPIV:
        with pytest.raises(ValueError, match="EINVAL"):
            host.create_vm(2, kernel in X2AVIC, ids=[0, 300])
        return
    made = host.create_vm(2, ids=[0, 300])
    assert "PHYSICAL_ID_TOO_BIG" in made.inhibits
    made.run()
    assert not any(vcpu.apicv_active for vcpu in made.vcpus)


@pytest.mark.parametrize("kernel", SERIES)
def test_t16_two_eois_with_a_level_vector_on_top(kernel):
    """ISR {61h, 41h}, TMR {61h}: the first EOI exits and ends 61h alone, the second needs no exit."""
    made = vm(1, kernel)
    made.vcpus[0].guest.cli()
    apic = made.vcpus[0].lapic
    apic.isr, apic.tmr = 1 << 0x61 | 1 << 0x41, 1 << 0x61
    write(made, 0, EOI, 0)
    assert (exits(made), apic.isr) == ([NOACCEL], 1 << 0x41)
    assert [e.vector for e in events(made, KvmEoi)] == [0x61]
    write(made, 0, EOI, 0)
    assert (exits(made), apic.isr) == ([NOACCEL], 0)
    assert [e.vector for e in events(made, KvmEoi)] == [0x61]


@pytest.mark.parametrize("kernel", X2AVIC)
def test_t17_a_logical_ipi_to_a_blocked_vcpu_of_cluster_0(kernel):
    """From 6.6 on it is woken. 6.1 takes the wrong half of the destination for the members, and wakes nobody.

    Catches bits 31:16 for 15:0.
    """
    made = vm(2, kernel)
    block(made, 1)
    icr(made, V | LOGICAL, 0b10)
    assert exits(made, 0) == [INCOMPLETE]
    lost = kernel == "6.1"
    assert [e.vcpu_id for e in events(made, WakeUp)] == ([] if lost else [1])
    assert made.vcpus[1].lapic.irr == (1 << V if lost else 0)
    assert handled(made)[1] == ({} if lost else {V: 1})


@pytest.mark.parametrize("kernel", SERIES)
@pytest.mark.parametrize("low", [LOGICAL, ALLBUT], ids=["logical", "shorthand"])
def test_t18_one_target_in_the_guest_and_one_blocked(low, kernel):
    """ID 1: the processor rings vCPU 1, and then KVM does, as it does not ask who runs; vCPU 2 is woken.

    5.10 and 5.15 look at IsRunning, and wake only. 6.1 gets logical IDs of cluster 0 wrong, as in T17.
    Catches one doorbell, and the blocked target forgotten behind the running one.
    """
    lost = kernel == "6.1" and low == LOGICAL
    made = vm(3, kernel)
    if not made.vcpus[0].inside.x2apic:
        flat(made)
    block(made, 2)
    icr(made, V | low, 0b110 if low == LOGICAL else 0)
    assert exits(made, 0) == [INCOMPLETE]
    assert [e.apic_id for e in events(made, AvicRing)] == [1]
    assert len(events(made, AvicDoorbell)) == (1 if lost or kernel in BEFORE_X2AVIC else 2)
    assert [e.vcpu_id for e in events(made, WakeUp)] == ([] if lost else [2])
    assert handled(made) == [{}, {V: 1}, {} if lost else {V: 1}]
    assert events(made, KvmInjVirq) == []


@pytest.mark.parametrize("kernel", X2AVIC)
def test_t19_an_inhibit_that_a_blocked_vcpu_has_not_seen(kernel):
    """Its apicv_active lags: it is woken as if AVIC were on, and only its entry makes KVM_REQ_EVENT and EVENTINJ.

    Catches a wake-up by the update itself, and an interrupt lost between the two.
    """
    made = vm(2, kernel)
    block(made, 1)
    made.create_pit2()
    made.run()
    assert made.inhibits == {"PIT_REINJ"}
    assert [vcpu.apicv_active for vcpu in made.vcpus] == [False, True]
    assert events(made, WakeUp) == []
    clear(made)
    icr(made, V, 1)
    assert exits(made, 0) == [MSR]
    assert events(made, KvmApicvAcceptIrq) == [KvmApicvAcceptIrq(1, 0, 0, V)]
    kinds = order(made, KvmApicvAcceptIrq, WakeUp, AvicMode, KvmInjVirq, AvicTake)
    assert kinds == ["KvmApicvAcceptIrq", "WakeUp", "AvicMode", "KvmInjVirq"]
    woken = next(i for i, e in enumerate(made.trace.events) if isinstance(e, WakeUp))
    after = [e.request for e in made.trace.events[woken:] if isinstance(e, MakeRequest) and e.vcpu_id == 1]
    before = [e.request for e in made.trace.events[:woken] if isinstance(e, MakeRequest) and e.vcpu_id == 1]
    assert ("EVENT" in before, "EVENT" in after) == (False, True)
    assert not made.vcpus[1].apicv_active
    assert handled(made)[1] == {V: 1}


@pytest.mark.parametrize(("kernel", "on_the_way_out"), [("5.10", True), ("5.15", True), ("6.1", False), ("7.3", False)])
def test_t19_up_to_5_15_a_vcpu_that_wakes_up_follows_before_it_counts_as_running(kernel, on_the_way_out):
    """15.1, and a mail of October 2021 that shows svm_vcpu_unblocking. Catches the request left for the entry there."""
    made = vm(2, kernel)
    block(made, 1)
    made.create_pit2()
    made.run()
    clear(made)
    icr(made, V, 1)
    own = [e for e in events(made, AvicIsRunning, AvicMode) if e.vcpu_id == 1]
    first = next(e for e in own if isinstance(e, AvicMode) or e.running)
    assert isinstance(first, AvicMode) == on_the_way_out
    assert handled(made)[1] == ({} if kernel == "5.10" else {V: 1})  # 5.10 makes no KVM_REQ_EVENT for it


@pytest.mark.parametrize(("kernel", "marked"), [("5.15", False), ("6.1", True), ("7.3", True)])
def test_up_to_5_15_one_made_while_avic_was_inhibited_counts_as_running_once_it_has_slept(kernel, marked):
    """source svm_create_vcpu, as a mail of October 2021 shows it: avic_is_running is set if AVIC is not inhibited."""
    made = vm(1, kernel, pit="reinject")
    made.reinject_control(False)
    made.vcpus[0].nmi()
    made.run()
    assert made.vcpus[0].apicv_active
    assert running(made, 0)[1] == marked
    block(made, 0)
    made.vcpus[0].nmi()
    made.run()
    assert running(made, 0)[1]


@pytest.mark.parametrize("kernel", X2AVIC)
@pytest.mark.parametrize("cpu", [NO_X2AVIC, "zen2"])
def test_t20_hybrid_a_self_ipi_by_msr_is_accepted_as_under_avic_and_rings_nobody(cpu, kernel):
    """Recorded 7.3.4: its trace is held against this one in tests/evidence. On a processor with AVIC it then arrives.

    Catches a doorbell to the core that the sender itself is on, and KVM_REQ_EVENT.
    """
    made = vm(1, kernel, cpu=cpu)
    at(made, AvicTake, lambda: seen.extend(made.trace.events))
    seen = []
    write(made, 0, SELF_IPI, V)
    assert exits(made)[0] == MSR
    kinds = [type(e) for e in seen if isinstance(e, KvmApicIpi | KvmApicAcceptIrq | KvmApicvAcceptIrq | MakeRequest)]
    assert kinds == [KvmApicIpi, KvmApicAcceptIrq, KvmApicvAcceptIrq]
    assert events(made, KvmAvicDoorbell, AvicDoorbell, KvmInjVirq) == []
    assert handled(made) == [{V: 1}]


@pytest.mark.parametrize(("kernel", "exit_"), [("6.12", False), ("6.18.0", False), ("6.18.35", True), ("7.3", True)])
def test_t3_hygon_follows_later(kernel, exit_):
    """Family 18h since 6.18.35 and 7.1. Catches both families in one change."""
    made = vm(2, kernel, cpu="hygon", x2apic=False)
    icr(made, V, 1)
    assert exits(made) == ([INCOMPLETE] if exit_ else [])


@pytest.mark.parametrize("kernel", X2AVIC)
@pytest.mark.parametrize("choice", ["lost", "held"])
def test_open_point_a_doorbell_to_a_core_in_the_host(choice, kernel):
    """It makes no difference to what is delivered, and how often."""
    made = vm(2, kernel, host={"open_points": {"avic_doorbell_in_host": choice}})
    at(made, AvicLookup, made.vcpus[1].nmi)
    icr(made, V, 1)
    assert handled(made)[1] == {V: 1, 2: 1}
