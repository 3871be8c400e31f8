"""R1 to R14: the rules that AVIC in KVM comes down to, each by name, over the releases and processors it speaks of.

How they are known: KVM's half is read in its source, the processor's in the manual. R13 is in
test_vectors_nested.py. Each docstring says what it catches.
"""

import pytest

from kvmmodel import Host
from kvmmodel.events import (
    AvicDoorbell,
    AvicIsRunning,
    AvicMode,
    AvicRing,
    AvicSetIrr,
    AvicTake,
    Barrier,
    Block,
    CheckBlock,
    HandlerEnter,
    HostIpi,
    IommuGaLog,
    IommuPost,
    Kick,
    KvmAckIrq,
    KvmApicvAcceptIrq,
    KvmApicvInhibitChanged,
    KvmAvicDoorbell,
    KvmAvicGaLog,
    KvmAvicIncompleteIpi,
    KvmEntry,
    KvmEoi,
    KvmInjVirq,
    MakeRequest,
    ReadMode,
    SetIrr,
    SetMode,
    VmExit,
    VmRun,
    WakeUp,
)
from kvmmodel.facts.releases import kernel as release
from kvmmodel.kvm.apicv import kvm_clear_apicv_inhibit, kvm_set_apicv_inhibit
from kvmmodel.kvm.irqchip import MsiRoute
from kvmmodel.kvm.svm.avic.mode import avic_mode
from kvmmodel.machine.loop import run_nested
from tests.kvm.svm.avic.avic_vms import (
    ALL,
    ALLBUT,
    BEFORE_X2AVIC,
    EOI,
    INCOMPLETE,
    IPIV,
    MSI,
    MSR,
    NO_X2AVIC,
    NOACCEL,
    NPF,
    SELF,
    SERIES,
    TPR,
    X2AVIC,
    at,
    block,
    clear,
    events,
    exits,
    handled,
    icr,
    order,
    running,
    table,
    vm,
    write,
)

V = 0x40
APIC_BASE = 0x1B
REASON = "HYPERV"  # one that every release has, and that nothing else of these tests sets
COUNTED = tuple(k for k in SERIES if release(k).has("irqwin_counted"))


def inhibit(made, on=True, reason=REASON):
    """A reason of the whole VM, from userspace's thread; the vCPUs in the guest follow, a sleeping one does not."""
    made._ioctl(lambda: (kvm_set_apicv_inhibit if on else kvm_clear_apicv_inhibit)(made.machine.kvm, reason))
    made.run()


def asked(made, vcpu):
    return [e.request for e in events(made, MakeRequest) if e.vcpu_id == vcpu]


# ---- R1 ----


@pytest.mark.parametrize("kernel", SERIES)
def test_r1_without_enable_apicv_it_is_never_active(kernel):
    """R1, source kvm_apicv_init: DISABLED, and no other reason is recorded."""
    made = Host("zen4", kernel, avic=False).create_vm(1, kernel in X2AVIC, boot=True)
    inhibit(made, reason=REASON)
    assert not made.vcpus[0].apicv_active
    assert "DISABLED" in made.inhibits
    assert REASON not in made.inhibits


@pytest.mark.parametrize("kernel", X2AVIC)
def test_r1_absent_is_set_first_and_cleared_by_the_irqchip(kernel):
    """R1, source kvm_apicv_init, recorded 7.3.4. Catches a VM that begins with no reason."""
    made = Host("zen4", kernel, avic=True).create_vm(1)
    first = [(e.name, e.set) for e in events(made, KvmApicvInhibitChanged)][:2]
    assert first == [("ABSENT", True), ("ABSENT", False)]
    assert made.inhibits == frozenset()


@pytest.mark.parametrize("kernel", SERIES)
def test_r1_a_reason_of_the_vm_takes_it_off_every_vcpu_and_back(kernel):
    made = vm(2, kernel)
    inhibit(made, reason=REASON)
    assert [vcpu.apicv_active for vcpu in made.vcpus] == [False, False]
    inhibit(made, False, REASON)
    assert [vcpu.apicv_active for vcpu in made.vcpus] == [True, True]


@pytest.mark.parametrize("kernel", SERIES)
def test_r1_an_apic_that_is_off_has_none_from_6_0_on(kernel):
    """R1, source __kvm_vcpu_update_apicv: 5.10 and 5.15 have no such term. The other vCPU keeps it."""
    made = vm(2, kernel)
    guest = made.vcpus[1].guest
    guest.wrmsr(APIC_BASE, 0xFEE00000)
    made.run()
    assert [vcpu.apicv_active for vcpu in made.vcpus] == [True, kernel in BEFORE_X2AVIC]
    assert made.inhibits == frozenset()


@pytest.mark.parametrize("kernel", X2AVIC)
def test_r1_a_new_vcpu_takes_itself_for_active_until_its_first_entry(kernel):
    """R1, source kvm_arch_vcpu_create and 15.1. Catches the copy fixed at creation."""
    made = Host("zen4", kernel, avic=True).create_vm(1, pit="reinject")
    assert made.inhibits == {"PIT_REINJ"}
    assert made.vcpus[0].apicv_active
    made.run()
    assert not made.vcpus[0].apicv_active


@pytest.mark.parametrize("kernel", SERIES)
def test_r1_between_entry_and_exit_the_copy_is_true_to_the_reasons(kernel):
    """R1: outside it may lag, inside never. Catches a request that does not call vCPUs out of the guest."""
    made, wrong = vm(3, kernel), []
    block(made, 2)

    def look():
        at_work = [v for v in made.vcpus if v.mode == "IN_GUEST_MODE" and made.machine.threads[f"vcpu{v.id}"].in_guest]
        wrong.extend(v.id for v in at_work if v.apicv_active and made.inhibits)

    at(made, VmRun, look, always=True)
    inhibit(made, reason=REASON)
    icr(made, V, 2)
    inhibit(made, False, REASON)
    assert wrong == []
    assert handled(made)[2] == {V: 1}


# ---- R2 ----


@pytest.mark.parametrize("kernel", X2AVIC)
@pytest.mark.parametrize(
    ("cpu", "x2apic", "mode"),
    [
        ("zen4", True, "x2avic"),
        ("zen4", False, "xavic"),
        (NO_X2AVIC, True, "hybrid"),
        (NO_X2AVIC, False, "xavic"),
        ("zen2", True, "hybrid"),
        ("zen5", True, "x2avic"),
    ],
)
def test_r2_the_mode_follows_from_the_guests_apic_and_the_host(kernel, cpu, x2apic, mode):
    """R2, source avic_activate_vmcb. Catches X2APIC_MODE on a processor without x2AVIC, where VMRUN would fail."""
    made = vm(2, kernel, cpu=cpu, x2apic=x2apic)
    vcpus = [vcpu.kvm_vcpu for vcpu in made.vcpus]
    assert [avic_mode(vcpu) for vcpu in vcpus] == [mode, mode]
    assert {vcpu.vmcb.x2apic_mode for vcpu in vcpus} == {mode == "x2avic"}
    assert not any(vcpu.vmcb.msr_writes for vcpu in vcpus) or mode == "x2avic"
    inhibit(made)
    assert [avic_mode(vcpu) for vcpu in vcpus] == ["off", "off"]
    assert not any(vcpu.vmcb.msr_writes or vcpu.vmcb.avic_enable for vcpu in vcpus)


@pytest.mark.parametrize("kernel", BEFORE_X2AVIC)
def test_r2_before_x2avic_there_is_xavic_alone(kernel):
    made = vm(1, kernel)
    assert avic_mode(made.vcpus[0].kvm_vcpu) == "xavic"


# ---- R3 ----


@pytest.mark.parametrize("kernel", SERIES)
@pytest.mark.parametrize("cpu", ["zen4", "zen2"])
def test_r3_isrunning_is_active_and_loaded_and_not_blocking(kernel, cpu):
    """R3. In the table besides that enable_ipiv, from 6.17 on clear on family 17h.

    Catches IsRunning not cleared on blocking, and left set while AVIC is off (but in 5.10, which leaves it).
    """
    made = vm(2, kernel, cpu=cpu, x2apic=False)
    seen = cpu == "zen4" or kernel not in IPIV
    assert running(made, 1) == (True, seen)
    block(made, 1)
    assert running(made, 1) == (False, False)
    icr(made, V, 1)
    assert running(made, 1) == (True, seen)
    inhibit(made, reason=REASON)
    stale = kernel == "5.10"
    assert running(made, 1) == (stale, stale)
    inhibit(made, False, REASON)
    assert running(made, 1) == (True, seen)


@pytest.mark.parametrize("kernel", SERIES)
def test_r3_a_preempted_vcpu_does_not_count_as_running(kernel):
    """R3: "loaded". Catches vcpu_put that leaves the bit, so that an IPI rings a core where it is not."""
    made = vm(2, kernel)
    made.burn(1, 200_000_000)
    assert made.run(lambda: made.vcpus[1].kvm_vcpu.task.state == "runnable", 50_000_000)
    assert running(made, 1) == (False, False)
    assert table(made)[1] & 0xFFF == 1  # the core stays in the entry


@pytest.mark.parametrize("kernel", SERIES)
def test_r3_the_entry_names_the_core(kernel):
    made = vm(2, kernel, pcpus=[2, 5])
    assert [table(made)[i] & 0xFFF for i in (0, 1)] == [2, 5]


@pytest.mark.parametrize("kernel", SERIES)
def test_r3_blocking_begins_before_halt_polling_up_to_5_15_and_after_it_from_6_1_on(kernel):
    """R3, source kvm_vcpu_halt. Catches the hook on the wrong side: an IPI to a polling vCPU exits, or does not."""
    made = vm(2, kernel)
    made.vcpus[1].kvm_vcpu.halt_poll_ns = 200_000
    made.execute(1, ("hlt",))
    assert made.run(lambda: made.vcpus[1].mode == "OUTSIDE_GUEST_MODE")
    early = made.machine.now
    made.run(lambda: made.machine.now >= early + 10_000, 20_000)
    polls = kernel not in BEFORE_X2AVIC
    assert made.vcpus[1].kvm_vcpu.task.state == "running"
    assert running(made, 1) == (polls, polls)
    clear(made)
    icr(made, V, 1)
    assert exits(made, 0) == ([] if polls else [INCOMPLETE])
    assert handled(made)[1] == {V: 1}


# ---- R4 ----


@pytest.mark.parametrize("kernel", SERIES)
def test_r4_off_an_icr_write_exits_as_without_avic(kernel):
    """R4: NPF and decoding in xAPIC mode, the MSR in x2APIC mode; the processor sends nothing."""
    for x2apic, reasons in ((False, [NPF, NPF]), (True, [MSR])):
        made = vm(2, kernel, x2apic=x2apic)
        if not made.inhibits:
            inhibit(made, reason=REASON)
        clear(made)
        icr(made, V, 1)
        assert exits(made, 0) == reasons
        assert events(made, AvicSetIrr) == []
        assert handled(made)[1] == {V: 1}


@pytest.mark.parametrize("kernel", SERIES)
@pytest.mark.parametrize("low", [ALL, ALLBUT, SELF])
def test_r4_shorthands_without_an_exit(low, kernel):
    """R4: to all who are valid and run. Catches the sender in all-but-self, or left out of all."""
    made = vm(3, kernel)
    icr(made, V | low)
    assert exits(made) == []
    meant = {ALL: (0, 1, 2), ALLBUT: (1, 2), SELF: (0,)}[low]
    assert [vcpu.id for vcpu in made.vcpus if vcpu.guest.handled == {V: 1}] == list(meant)


@pytest.mark.parametrize("kernel", SERIES)
def test_r4_a_broadcast_skips_who_is_not_there(kernel):
    """R4: IDs 0 and 5. A directed one to 3 is ID 2, and to nobody."""
    made = vm(2, kernel, ids=[0, 5])
    icr(made, V | ALLBUT)
    assert exits(made) == []
    assert handled(made) == [{}, {V: 1}]
    icr(made, V, 3)
    assert [e.id for e in events(made, KvmAvicIncompleteIpi)] == [2]
    assert handled(made) == [{}, {V: 1}]


@pytest.mark.parametrize("kernel", X2AVIC)
@pytest.mark.parametrize(("order_", "ident"), [("type", 0), ("target", 2), ("vector", 4)])
def test_r4_the_order_of_the_checks_is_an_open_point(kernel, order_, ident):
    """R4: an NMI with vector 2 to nobody."""
    made = vm(2, kernel, host={"open_points": {"avic_icr_check_order": order_}})
    icr(made, 0x402, 9)
    assert [e.id for e in events(made, KvmAvicIncompleteIpi)] == [ident]


# ---- R5 ----


@pytest.mark.parametrize("kernel", SERIES)
def test_r5_every_target_is_told_running_or_not(kernel):
    """R5, source avic_kick_target_vcpus: up to 5.15 those with IsRunning clear, and nobody is rung.

    vCPU 1 in the guest, vCPU 2 blocked, vCPU 3 preempted. Catches IRR set again on ID 1, a kick, KVM_REQ_EVENT.
    """
    made = vm(4, kernel)
    block(made, 2)
    made.burn(3, 200_000_000)
    assert made.run(lambda: made.vcpus[3].kvm_vcpu.task.state == "runnable", 50_000_000)
    clear(made)
    made.vcpus[0].guest.wrmsr(0x830, ALLBUT | V) if kernel in X2AVIC else made.vcpus[0].guest.mmio_write(
        0xFEE00300, ALLBUT | V
    )
    assert exits(made, 0) == [INCOMPLETE]
    assert events(made, SetIrr, Kick) == []
    assert all("EVENT" not in asked(made, vcpu) for vcpu in (1, 2, 3))
    read = [(e.vcpu_id, e.mode, e.apicv_active) for e in events(made, ReadMode)]
    if kernel in BEFORE_X2AVIC:
        assert read == []
        assert events(made, KvmAvicDoorbell) == []
    else:
        modes = [(1, "IN_GUEST_MODE"), (2, "OUTSIDE_GUEST_MODE"), (3, "OUTSIDE_GUEST_MODE")]
        assert read == [(*mode, True) for mode in modes]
        assert events(made, KvmAvicDoorbell) == [KvmAvicDoorbell(1, 1)]
    assert [e.vcpu_id for e in events(made, WakeUp)] == [2]
    made.run(limit_ns=1_000_000_000)
    assert handled(made) == [{}, {V: 1}, {V: 1}, {V: 1}]


@pytest.mark.parametrize("kernel", X2AVIC)
def test_r5_no_doorbell_to_ones_own_core(kernel):
    """R5: an IPI to all, itself included; its own part was seen to at VMRUN."""
    made = vm(2, kernel, cpu="zen2", x2apic=False)
    if kernel not in IPIV:
        block(made, 1)
    icr(made, V | ALL)
    assert exits(made, 0) == [INCOMPLETE]
    assert 0 not in [e.vcpuid for e in events(made, KvmAvicDoorbell)]
    assert handled(made) == [{V: 1}, {V: 1}]


@pytest.mark.parametrize("kernel", X2AVIC)
def test_r5_irr_pending_is_set_for_a_target_whose_avic_goes_off(kernel):
    """R5: KVM's hint, without which it would not look at a bit that the processor has set."""
    made = vm(2, kernel)
    block(made, 1)
    at(made, KvmAvicIncompleteIpi, lambda: kvm_set_apicv_inhibit(made.machine.kvm, REASON))
    icr(made, V, 1)
    assert not made.vcpus[1].apicv_active
    assert [e.vector for e in events(made, KvmInjVirq)] == [V]
    assert handled(made)[1] == {V: 1}


@pytest.mark.parametrize("table", ["logical", "physical"])
@pytest.mark.parametrize("kernel", ["6.1", "6.6", "7.3"])
def test_r5_the_fast_path_compares_the_index_up_to_6_2(kernel, table):
    """R5, source avic_kick_target_vcpus_fast, 6.1.176: EXITINFO2's index has to be the logical table's slot.

    Here APIC ID 1 is at slot 0. If the processor reports the ID, all vCPUs are looked at. Catches the wrong one woken.
    """
    made = vm(2, kernel, x2apic=False, host={"open_points": {"avic_index_reported": table}})
    write(made, 0, 0xD0, 2 << 24)
    write(made, 1, 0xD0, 1 << 24)
    block(made, 1)
    icr(made, V | 0x800, 1)
    assert [e.index for e in events(made, KvmAvicIncompleteIpi)] == [0 if table == "logical" else 1]
    assert ("KvmAvicKickVcpuSlowpath" in order(made)) == (kernel == "6.1" and table == "physical")
    assert handled(made)[1] == {V: 1}


# ---- R6: the rest of the exit's reasons are in test_incomplete.py ----


@pytest.mark.parametrize("kernel", X2AVIC)
def test_r6_software_then_delivers_as_always(kernel):
    """R6: then R7 for each destination. Catches delivery that goes on from bits the processor did not set."""
    made = vm(3, kernel)
    block(made, 2)
    icr(made, V | 0x800, 0b1111)  # APIC ID 3 is nobody
    assert [e.id for e in events(made, KvmAvicIncompleteIpi)] == [2]
    assert [e.apicid for e in events(made, KvmApicvAcceptIrq)] == [0, 1, 2]
    assert [e.vcpu_id for e in events(made, SetIrr)] == [0, 1, 2]
    assert handled(made) == [{V: 1}, {V: 1}, {V: 1}]


# ---- R7 ----


@pytest.mark.parametrize("kernel", SERIES)
@pytest.mark.parametrize("level", [False, True], ids=["edge", "level"])
def test_r7_bit_barrier_mode_doorbell_and_no_request(level, kernel):
    """R7, source svm_deliver_interrupt. TMR is as the trigger mode. Catches KVM_REQ_EVENT, a kick, mode before IRR."""
    made = vm(1, kernel)
    made.vcpus[0].lapic.tmr = 0 if level else 1 << V
    made.vcpus[0].guest.cli()
    clear(made)
    made.signal_msi(MSI, V | (0xC000 if level else 0))
    made.run()
    kinds = order(made, SetIrr, Barrier, ReadMode, KvmApicvAcceptIrq, KvmAvicDoorbell, AvicDoorbell, Kick, MakeRequest)
    common = ["SetIrr", "Barrier"]
    newer = ["ReadMode", "KvmApicvAcceptIrq", "KvmAvicDoorbell", "AvicDoorbell"]
    assert kinds == [*common, *(["AvicDoorbell"] if kernel in BEFORE_X2AVIC else newer)]
    assert made.vcpus[0].lapic.tmr == (1 << V if level else 0)
    assert events(made, HandlerEnter) == []  # IF is clear


@pytest.mark.parametrize("kernel", SERIES)
def test_r7_a_blocked_vcpu_is_woken(kernel):
    made = vm(1, kernel)
    block(made, 0)
    made.signal_msi(MSI, V)
    made.run()
    assert [e.vcpu_id for e in events(made, WakeUp)] == [0]
    assert events(made, KvmAvicDoorbell, KvmInjVirq) == []
    assert handled(made) == [{V: 1}]


@pytest.mark.parametrize("kernel", SERIES)
def test_r7_a_vcpu_in_the_host_gets_neither_and_takes_it_at_vmrun(kernel):
    """R7: wake_up does nothing to who does not sleep. Catches an IPI to call it out of where it is not."""
    made = vm(2, kernel)
    at(made, VmExit, lambda: made.signal_msi(MSI | 1 << 12, V))
    made.vcpus[1].guest.outb(0x80, 0)  # userspace's port: it leaves
    made.run()
    assert events(made, Kick, WakeUp, KvmInjVirq) == []
    assert [e.name for e in events(made, HostIpi)] == []
    assert handled(made)[1] == {V: 1}


@pytest.mark.parametrize("kernel", X2AVIC)
@pytest.mark.parametrize("kind", [Barrier, ReadMode])
def test_r7_the_mode_is_read_before_apicv_active(kernel, kind):
    """R7: the target's AVIC goes off, and it enters the guest again, just before or just after its mode is read.

    Then a doorbell would not be heard. Catches apicv_active read before the mode: a doorbell where a kick is due.
    """
    made = vm(2, kernel)
    target = made.vcpus[1]

    def off():
        kvm_set_apicv_inhibit(made.machine.kvm, REASON)
        assert run_nested(made.machine, lambda: not target.apicv_active and target.mode == "IN_GUEST_MODE")

    at(made, kind, off)
    made.signal_msi(MSI | 1 << 12, V)
    made.run()
    assert events(made, KvmApicvAcceptIrq, KvmAvicDoorbell) == []
    assert "EVENT" in asked(made, 1)
    assert [e.vcpu_id for e in events(made, Kick)] == [1]
    assert handled(made)[1] == {V: 1}


@pytest.mark.parametrize("kernel", SERIES)
def test_r7_a_doorbell_to_a_core_that_it_left_is_harmless(kernel):
    """R7: to where it was last; getting elsewhere leads through a VMRUN. Catches an interrupt lost on a stale core."""
    made = vm(2, kernel, pcpus=[0, 1])
    target = made.vcpus[1]
    at(made, KvmAvicDoorbell, lambda: run_nested(made.machine, lambda: target.guest.handled == {V: 1}))
    made.signal_msi(MSI | 1 << 12, V)
    made.run()
    assert handled(made)[1] == {V: 1}


# ---- R8 ----


@pytest.mark.parametrize("kernel", SERIES)
def test_r8_if_clear_holds_it_back_until_sti_without_an_exit(kernel):
    """R8: recognition on IF 0 to 1 needs no second doorbell. Behind the shadow of STI, not in it."""
    made = vm(2, kernel)
    guest = made.vcpus[1].guest
    guest.cli()
    icr(made, V, 1)
    assert handled(made)[1] == {}
    guest.sti()
    assert handled(made)[1] == {}
    guest.nop()
    made.run()
    assert handled(made)[1] == {V: 1}
    assert exits(made) == []


@pytest.mark.parametrize("kernel", SERIES)
def test_r8_gif_clear_holds_it_back(kernel):
    """R8: V_GIF counts under AVIC, too. CLGI and STGI exit or not as the release has it; nothing else does."""
    made = vm(2, kernel, **({"svm": True} if kernel in X2AVIC else {}))
    guest = made.vcpus[1].guest
    guest.wrmsr(0xC0000080, 0x1000)
    guest.clgi()
    icr(made, V, 1)
    assert handled(made)[1] == {}
    assert made.vcpus[1].lapic.irr == 1 << V
    guest.stgi()
    guest.nop()
    made.run()
    assert handled(made)[1] == {V: 1}
    assert events(made, KvmInjVirq) == []


@pytest.mark.parametrize("kernel", SERIES)
def test_r8_tpr_and_cr8_hold_it_back_and_let_it_through_without_an_exit(kernel):
    """R8: after a change of TPR. Catches a CR8 intercept left on, and no look at the IRR when TPR falls."""
    for by_cr8 in (False, True):
        made = vm(2, kernel)
        guest = made.vcpus[1].guest
        guest.write_cr8(4)
        icr(made, V, 1)
        assert handled(made)[1] == {}
        guest.write_cr8(3) if by_cr8 else write(made, 1, TPR, 0x30)
        made.run()
        assert handled(made)[1] == {V: 1}
        assert exits(made) == []
        assert guest.read_cr8() == 3


@pytest.mark.parametrize("kernel", SERIES)
def test_r8_after_eoi_the_next_one_follows(kernel):
    """R8: both in one handler's time; the higher class nests once IF allows, the same class waits for the EOI."""
    made = vm(2, kernel)
    made.vcpus[1].guest.cli()
    for vector in (0x41, 0x42, 0x51):
        icr(made, vector, 1)
    made.vcpus[1].guest.sti()
    made.vcpus[1].guest.nop()
    made.run()
    assert [e.vector for e in events(made, AvicTake)] == [0x51, 0x42, 0x41]
    assert exits(made) == []


@pytest.mark.parametrize("kernel", SERIES)
def test_r8_at_vmrun(kernel):
    """R8: what came while it was in the host. Catches an entry without a look at the IRR."""
    made = vm(1, kernel)
    at(made, VmExit, lambda: made.signal_msi(MSI, V))
    made.vcpus[0].guest.outb(0x80, 0)
    made.run()
    kinds = order(made, VmRun, AvicTake, AvicDoorbell)
    assert kinds[-2:] == ["VmRun", "AvicTake"]
    assert handled(made) == [{V: 1}]


@pytest.mark.parametrize("kernel", SERIES)
def test_r8_no_eventinj_and_irr_goes_to_isr(kernel):
    made = vm(1, kernel)
    found = []
    at(made, HandlerEnter, lambda: found.append((made.vcpus[0].lapic.irr, made.vcpus[0].lapic.isr)))
    made.signal_msi(MSI, V)
    made.run()
    assert found == [(0, 1 << V)]
    assert all(e.event_inj == 0 for e in events(made, VmRun))
    assert all(e.intr_info == 0 for e in events(made, KvmEntry))


# ---- R9 ----


@pytest.mark.parametrize("kernel", SERIES)
def test_r9_an_edges_eoi_is_invisible_to_kvm(kernel):
    """R9: no EOI at the IOAPIC, no ack notifier. Catches an EOI broadcast for every vector."""
    made = vm(1, kernel)
    pin(made, level=False)
    made.irq_line(20, True)
    made.irq_line(20, False)
    made.run()
    assert handled(made) == [{V: 1}]
    assert events(made, KvmEoi, KvmAckIrq) == []
    assert exits(made) == []


@pytest.mark.parametrize("kernel", SERIES)
def test_r9_a_levels_eoi_is_trapped_and_ends_it_at_the_ioapic(kernel):
    """R9: one exit, ISR still set at it, cleared once, by KVM. Catches a line that fires for ever or never again."""
    made = vm(1, kernel)
    pin(made, level=True)
    serviced = []
    at(made, VmExit, lambda: serviced.append(made.vcpus[0].lapic.isr), always=True)
    at(made, HandlerEnter, lambda: made.irq_line(20, False))
    made.irq_line(20, True)
    made.run()
    assert handled(made) == [{V: 1}]
    assert exits(made).count(NOACCEL) == 1
    assert 1 << V in serviced
    assert [e.vector for e in events(made, KvmEoi)] == [V]
    assert [e.pin for e in events(made, KvmAckIrq) if e.irqchip == "IOAPIC"] == [20]
    assert made.vcpus[0].lapic.isr == 0


def pin(made, level):
    """The guest has the IOAPIC's pin 20 send V to APIC ID 0."""
    guest = made.vcpus[0].guest
    for index, value in ((0x10 + 2 * 20 + 1, 0), (0x10 + 2 * 20, V | (0x8000 if level else 0))):
        guest.mmio_write(0xFEC00000, index)
        guest.mmio_write(0xFEC00010, value)
    clear(made)


@pytest.mark.parametrize("kernel", X2AVIC)
def test_r9_were_isr_cleared_at_the_exit_kvm_would_end_the_next_one_too(kernel):
    """R9, "never clear in both places": the other choice at the open point shows why KVM relies on the bit."""
    for choice, left in (("set", 1 << 0x41), ("cleared", 0)):
        made = vm(1, kernel, host={"open_points": {"avic_isr_at_level_eoi": choice}})
        made.vcpus[0].guest.cli()
        made.vcpus[0].lapic.isr, made.vcpus[0].lapic.tmr = 1 << 0x61 | 1 << 0x41, 1 << 0x61
        write(made, 0, EOI, 0)
        assert made.vcpus[0].lapic.isr == left


# ---- R10 ----


@pytest.mark.parametrize("kernel", SERIES)
def test_r10_isrunning_is_cleared_before_the_last_look_and_set_behind_the_sleep(kernel):
    """R10: whoever looks at the bit later finds it clear, and wakes. Catches the two the other way round."""
    made = vm(1, kernel)
    made.execute(0, ("hlt",))
    made.run(lambda: made.vcpus[0].kvm_vcpu.task.state == "blocked")
    kinds = order(made, AvicIsRunning, CheckBlock, Block)
    assert [e.running for e in events(made, AvicIsRunning)] == [False]
    assert kinds[-3:] == ["AvicIsRunning", "CheckBlock", "Block"]
    clear(made)
    made.signal_msi(MSI, V)
    made.run()
    seen = [e for e in events(made, WakeUp, AvicIsRunning, AvicTake) if getattr(e, "running", True)]
    assert [type(e) for e in seen] == [WakeUp, AvicIsRunning, AvicTake]
    assert running(made, 0) == (True, True)


@pytest.mark.parametrize("kernel", SERIES)
@pytest.mark.parametrize("kind", [AvicIsRunning, CheckBlock, Block], ids=lambda k: k.__name__)
def test_r10_an_ipi_at_any_point_of_going_to_sleep_is_not_lost(kind, kernel):
    """R10: before the look it is seen, behind it ID 1 wakes. Catches IsRunning cleared behind the look."""
    made = vm(2, kernel)
    sent = made.vcpus[0].kvm_vcpu.apic

    def send():
        made.execute(0, ("wrmsr ICR 0x100000040",) if kernel in X2AVIC else ICR_BY_MMIO)
        assert run_nested(made.machine, lambda: sent.regs.get(0x300, 0) & 0xFF == V and not made.vcpus[0].inside.levels)

    at(made, kind, send)
    made.execute(1, ("hlt",))
    made.run()
    assert handled(made)[1] == {V: 1}
    assert made.vcpus[1].kvm_vcpu.mp_state == "runnable"


ICR_BY_MMIO = ("mmio_write 0xfee00310 0x1000000", "mmio_write 0xfee00300 0x40")


# ---- R11 ----

POSTED = {"iommu": "vapic"}


def device(kernel, vcpus=2):
    """A device whose MSI is posted to vCPU 1."""
    made = vm(vcpus, kernel, host=POSTED)
    made.set_gsi_routing(made.machine.kvm.routing | {24: [MsiRoute(MSI | 1 << 12, V)]})
    return made, made.assign_device(24)


@pytest.mark.parametrize("kernel", X2AVIC)
def test_r11_in_the_guest_no_code_of_kvms_runs(kernel):
    made, card = device(kernel)
    clear(made)
    card.interrupt()
    made.run()
    assert exits(made) == []
    assert events(made, SetIrr, ReadMode, KvmApicvAcceptIrq, WakeUp, HostIpi) == []
    assert order(made, IommuPost, AvicDoorbell, AvicTake) == ["IommuPost", "AvicDoorbell", "AvicTake"]
    assert handled(made) == [{}, {V: 1}]


@pytest.mark.parametrize("kernel", X2AVIC)
def test_r11_blocked_the_log_wakes_it(kernel):
    made, card = device(kernel)
    block(made, 1)
    card.interrupt()
    made.run()
    assert order(made, IommuPost, IommuGaLog, KvmAvicGaLog, WakeUp, AvicTake) == [
        "IommuPost", "IommuGaLog", "KvmAvicGaLog", "WakeUp", "AvicTake",
    ]  # fmt: skip
    assert handled(made) == [{}, {V: 1}]


@pytest.mark.parametrize("kernel", X2AVIC)
def test_r11_preempted_nothing_happens_until_its_vmrun(kernel):
    """R11: up to 6.16 the log gets an entry all the same, GALogIntr being always set."""
    made, card = device(kernel)
    made.burn(1, 20_000_000)
    assert made.run(lambda: made.vcpus[1].kvm_vcpu.task.state == "runnable", 50_000_000)
    clear(made)
    card.interrupt()
    made.run(limit_ns=1_000_000_000)
    assert len(events(made, IommuGaLog)) == (0 if kernel in IPIV else 1)
    assert events(made, WakeUp) == []
    assert handled(made) == [{}, {V: 1}]


# ---- R12 ----


def pic_asks(made):
    """Line 3 of the 8259 goes up for a moment."""
    guest = made.vcpus[0].guest
    for port, value in ((0x20, 0x11), (0x21, 0x30), (0x21, 4), (0x21, 1)):
        guest.outb(port, value)
    clear(made)
    made.irq_line(3, True)
    made.irq_line(3, False)
    made.run()


@pytest.mark.parametrize("kernel", SERIES)
def test_r12_an_extint_that_can_go_in_at_once_leaves_avic_on(kernel):
    """R12: plain EVENTINJ. Catches IRQWIN for every ExtINT."""
    made = vm(2, kernel)
    pic_asks(made)
    injected = [(e.vector, e.reinjected) for e in events(made, KvmInjVirq)]
    assert (injected[0], set(injected[1:]) - {(0x33, True)}) == ((0x33, False), set())
    assert [e.vector for e in events(made, HandlerEnter)] == [0x33]
    assert events(made, AvicMode) == []
    assert made.inhibits == frozenset()


@pytest.mark.parametrize("kernel", SERIES)
def test_r12_when_irqwin_goes(kernel):
    """R12, source interrupt_window_interception, svm_inject_irq. Up to 7.0 at the VINTR exit; later at the injection.

    Then that entry is off, AVIC comes on, that entry is off for its TLB flush, and the ExtINT is injected for a third
    time, with AVIC active (inferred).
    """
    made = vm(2, kernel)
    made.vcpus[0].guest.cli()
    pic_asks(made)
    assert made.inhibits == {"IRQWIN"}
    clear(made)
    made.vcpus[0].guest.sti()
    made.vcpus[0].guest.nop()
    made.run()
    injected = [(e.vector, e.reinjected) for e in events(made, KvmInjVirq) if e.vector == 0x33]
    assert injected[0] == (0x33, False)
    assert set(injected[1:]) <= {(0x33, True)}
    at_entry = [type(e) for e in events(made, AvicMode, KvmInjVirq) if getattr(e, "vcpu_id", 0) == 0]
    if kernel in COUNTED:  # released by the injection itself, so AVIC is on at the last of them
        assert at_entry == [KvmInjVirq, AvicMode, KvmInjVirq, KvmInjVirq]
    else:
        assert at_entry == [AvicMode, *[KvmInjVirq] * len(injected)]
    active = [vcpu.apicv_active for vcpu in made.vcpus]
    assert active == [True, True]
    assert made.inhibits == frozenset()
    assert [e.vector for e in events(made, HandlerEnter)] == [0x33]


@pytest.mark.parametrize("kernel", SERIES)
def test_r12_an_ipi_between_others_during_the_window_is_not_lost(kernel):
    """R12: it falls back to KVM for so long. Catches a VM with IRQWIN that hardware still sends IPIs in."""
    made = vm(3, kernel)
    made.vcpus[0].guest.cli()
    pic_asks(made)
    icr(made, V, 2, sender=1)
    assert handled(made)[2] == {V: 1}
    assert events(made, AvicRing) == []


# ---- R14 ----


@pytest.mark.parametrize("kernel", SERIES)
def test_r14_the_first_reason_calls_all_out_and_the_last_lets_them_back(kernel):
    """R14, source __kvm_set_or_clear_apicv_inhibit. A second reason, or one of two gone, concerns nobody.

    Catches an update for each call, and the page left mapped.
    """
    made = vm(3, kernel, x2apic=False)
    write(made, 0, EOI, 0)  # the page is mapped
    assert made.machine.kvm.apic_page_mapped
    clear(made)
    inhibit(made, reason="HYPERV")
    modes = [e.vcpu_id for e in events(made, AvicMode) if e.mode == "off"]
    assert sorted(modes) == [0, 1, 2]
    assert sorted({e.vcpu_id for e in events(made, SetMode)}) == [0, 1, 2]
    assert not made.machine.kvm.apic_page_mapped
    clear(made)
    inhibit(made, reason="IRQWIN" if kernel not in COUNTED else "PIT_REINJ")
    inhibit(made, False, reason="HYPERV")
    assert events(made, AvicMode, VmExit) == []
    inhibit(made, False, reason="IRQWIN" if kernel not in COUNTED else "PIT_REINJ")
    assert sorted(e.vcpu_id for e in events(made, AvicMode) if e.mode == "xavic") == [0, 1, 2]


@pytest.mark.parametrize("kernel", X2AVIC)
def test_r7_an_ipi_to_itself_from_the_fast_path_rings_nobody(kernel):
    """R7: the WRMSR fast path delivers while the mode is still IN_GUEST_MODE; the core is its own. VMRUN takes it.

    Catches a doorbell to the core that the sender runs on.
    """
    made = vm(2, kernel, cpu=NO_X2AVIC)
    icr(made, V, 0)
    assert [(e.vcpu_id, e.mode) for e in events(made, ReadMode)] == [(0, "IN_GUEST_MODE")]
    assert events(made, KvmAvicDoorbell, AvicDoorbell, WakeUp) == []
    assert handled(made) == [{V: 1}, {}]
