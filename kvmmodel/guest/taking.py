"""How the processor takes interrupts for a guest: what VMRUN injects, V_IRQ, virtual NMIs, AVIC's backing page."""

from __future__ import annotations

from kvmmodel.events import AvicDoorbell, TakeVnmi
from kvmmodel.guest.cpu import NMI_VECTOR, GuestCpu, avic_unit, enter_handler, jump, leave, raise_fault, retire
from kvmmodel.silicon import avic
from kvmmodel.silicon import vmcb as hw

STACK = 0x7000  # where the guest's stack is
NPF_STACK_WRITE = 1 << 32 | 6  # EXITINFO1: not present; a user's write, as all are there; the final address


def vmrun(guest: GuestCpu) -> None:
    """VMRUN. An event in EVENTINJ goes through the IDT before the first instruction."""
    vmcb = guest.vmcb
    info, vmcb.exit_code = vmcb.event_inj, 0
    unit = avic_unit(guest)
    if unit is not None:
        if avic.vmrun_refuses(vmcb, guest.x2avic_ext):
            leave(guest, hw.SVM_EXIT_ERR)
            return
        if unit.open["avic_vmrun_tpr"] == "v_tpr":
            avic.write_tpr(unit, vmcb.v_tpr << 4)
        avic.evaluate(unit)
    retire(guest)
    jump(guest)
    if not info & hw.SVM_EVTINJ_VALID:
        return
    vmcb.event_inj = 0
    vector, kind = info & hw.SVM_EVTINJ_VEC_MASK, info & hw.SVM_EVTINJ_TYPE_MASK
    if kind == hw.SVM_EVTINJ_TYPE_EXEPT:
        raise_fault(guest, vector, vmcb.event_inj_err if info & hw.SVM_EVTINJ_VALID_ERR else None)
        return
    if kind == hw.SVM_EVTINJ_TYPE_NMI:
        vector = NMI_VECTOR  # whatever EVENTINJ has there; KVM leaves it 0
        vmcb.v_nmi_blocking = vmcb.v_nmi_blocking or vmcb.v_nmi_enable
    if not cut_short(guest, info):
        enter_handler(guest, vector)


def cut_short(guest: GuestCpu, info: int) -> bool:
    """The stack's page is not mapped: an exit in the middle of the delivery, which EXITINTINFO reports as ``info``."""
    if guest.stack_mapped:
        return False
    guest.stack_mapped, guest.regs.gpa = True, STACK
    leave(guest, hw.SVM_EXIT_NPF, NPF_STACK_WRITE, STACK)
    guest.vmcb.exit_int_info = info
    return True


def window(guest: GuestCpu) -> bool:
    """Whether the processor takes a virtual interrupt (V_IRQ) here. With AVIC it ignores it."""
    vmcb = guest.vmcb
    enough = vmcb.v_intr_prio + guest.equal_priority_wins > vmcb.v_tpr
    return vmcb.v_irq and not _masked(vmcb) and (vmcb.v_ign_tpr or enough) and avic_unit(guest) is None


def _masked(vmcb: hw.Vmcb) -> bool:
    return not vmcb.rflags_if or vmcb.int_state or (vmcb.v_gif_enable and not vmcb.v_gif)


def avic_due(guest: GuestCpu) -> bool:
    """Whether the processor takes an interrupt from the backing page here."""
    unit = avic_unit(guest)
    return unit is not None and unit.request and not _masked(guest.vmcb)


def take_avic(guest: GuestCpu) -> None:
    unit = avic_unit(guest)
    assert unit is not None
    vector = avic.take(unit)
    if vector is not None and not cut_short(guest, hw.SVM_EVTINJ_VALID | hw.SVM_EVTINJ_TYPE_INTR | vector):
        enter_handler(guest, vector)


def doorbell(guest: GuestCpu, cpu: int) -> None:
    """One arrived while this guest runs."""
    unit = avic_unit(guest)
    guest.emit(AvicDoorbell(cpu, unit is not None))
    if unit is not None:
        avic.evaluate(unit)


def take_virq(guest: GuestCpu) -> None:
    """Unless it is intercepted, as KVM's own always is, the virtual interrupt goes through the IDT."""
    if hw.SVM_EXIT_VINTR in guest.vmcb.intercepts:
        leave(guest, hw.SVM_EXIT_VINTR)
        return
    guest.vmcb.v_irq = False
    enter_handler(guest, guest.vmcb.int_vector)


def vnmi(guest: GuestCpu) -> bool:
    """Whether the processor delivers a virtual NMI here, all by itself."""
    vmcb = guest.vmcb
    due = vmcb.v_nmi_enable and vmcb.v_nmi_pending and not vmcb.v_nmi_blocking
    return due and not vmcb.int_state and (vmcb.v_gif or not vmcb.v_gif_enable)


def take_vnmi(guest: GuestCpu) -> None:
    guest.vmcb.v_nmi_pending, guest.vmcb.v_nmi_blocking = False, True
    guest.emit(TakeVnmi(guest.ident))
    enter_handler(guest, NMI_VECTOR)
