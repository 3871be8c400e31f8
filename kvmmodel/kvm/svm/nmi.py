"""NMIs. Without vNMI, KVM injects each and intercepts the handler's IRET to know when the next may come.

With vNMI the VMCB has a pending and a blocking bit: KVM sets the one, the processor delivers and keeps the other.
"""

from __future__ import annotations

from kvmmodel.events import InjectNmi, NmiWindow, VnmiPending
from kvmmodel.kvm.host_types import trace
from kvmmodel.kvm.names import kernel
from kvmmodel.kvm.requests import KVM_REQ_EVENT, kvm_make_request
from kvmmodel.kvm.svm.intercepts import svm_clr_intercept, svm_set_intercept
from kvmmodel.kvm.svm.predicates import gif_set, is_vnmi_enabled, nested_exit_on_nmi, svm_get_nmi_mask
from kvmmodel.kvm.types import KvmVcpu
from kvmmodel.silicon import vmcb as hw

FILE = "arch/x86/kvm/svm/svm.c"
EBUSY = 16


@kernel(FILE)
def svm_inject_nmi(vcpu: KvmVcpu) -> None:
    """NMIs stay masked until the handler's IRET, which is intercepted for that; the processor does so with vNMI.

    An NMI that L1 injects into L2 masks nothing of L1's.
    """
    trace(vcpu.kvm.host, InjectNmi, vcpu.vcpu_id)
    vcpu.vmcb.event_inj = hw.SVM_EVTINJ_VALID | hw.SVM_EVTINJ_TYPE_NMI
    if vcpu.nested.nmi_l1_to_l2:
        return
    if not is_vnmi_enabled(vcpu):
        vcpu.nmi_masked = True
        if "no-iret-intercept" not in vcpu.kvm.broken:
            watch_iret(vcpu, True)


@kernel(FILE, since="6.6")
def svm_is_vnmi_pending(vcpu: KvmVcpu) -> bool:
    return is_vnmi_enabled(vcpu) and vcpu.vmcb.v_nmi_pending


@kernel(FILE, since="6.6")
def svm_set_vnmi_pending(vcpu: KvmVcpu) -> bool:
    """Leave one NMI to the processor. False: no vNMI, or it has one already."""
    if not is_vnmi_enabled(vcpu) or vcpu.vmcb.v_nmi_pending:
        return False
    trace(vcpu.kvm.host, VnmiPending, vcpu.vcpu_id)
    vcpu.vmcb.v_nmi_pending = True
    return True


def watch_iret(vcpu: KvmVcpu, on: bool) -> None:
    """Have the IRET of an NMI handler exit, or no longer."""
    changed = (hw.SVM_EXIT_IRET in vcpu.vmcb01.intercepts) != on
    (svm_set_intercept if on else svm_clr_intercept)(vcpu, hw.SVM_EXIT_IRET)
    if changed:
        trace(vcpu.kvm.host, NmiWindow, vcpu.vcpu_id, "iret", on)


def watch_stgi(vcpu: KvmVcpu) -> None:
    """An NMI or SMI waits for GIF: with vGIF, have STGI exit this time; without, it does always."""
    if not vcpu.kvm.host.params["vgif"] or "no-stgi-intercept" in vcpu.kvm.broken:
        return
    if hw.SVM_EXIT_STGI not in vcpu.vmcb01.intercepts:
        svm_set_intercept(vcpu, hw.SVM_EXIT_STGI)
        trace(vcpu.kvm.host, NmiWindow, vcpu.vcpu_id, "stgi", True)


@kernel(FILE)
def svm_set_nmi_mask(vcpu: KvmVcpu, masked: bool) -> None:
    """As SMM does it: entered with NMIs masked."""
    if is_vnmi_enabled(vcpu):
        vcpu.vmcb.v_nmi_blocking = masked
        return
    vcpu.nmi_masked = masked
    watch_iret(vcpu, masked)


@kernel(FILE)
def svm_nmi_blocked(vcpu: KvmVcpu) -> bool:
    if not gif_set(vcpu):
        return True
    if vcpu.guest_mode and nested_exit_on_nmi(vcpu):
        return False
    return svm_get_nmi_mask(vcpu) or vcpu.vmcb.int_state


@kernel(FILE)
def svm_nmi_allowed(vcpu: KvmVcpu, for_injection: bool) -> int:
    """1: yes, 0: no, negative: not now, ask again at once."""
    if vcpu.nested.nested_run_pending:
        return -EBUSY
    if svm_nmi_blocked(vcpu):
        return 0
    return -EBUSY if for_injection and vcpu.guest_mode and nested_exit_on_nmi(vcpu) else 1


@kernel(FILE)
def svm_enable_nmi_window(vcpu: KvmVcpu) -> None:
    """An NMI handler runs: its IRET is intercepted, enough. GIF is clear: STGI. Else single-step over what is left."""
    if svm_get_nmi_mask(vcpu) and vcpu.nmi_iret_rip is None:
        return
    if not gif_set(vcpu):
        watch_stgi(vcpu)
        return
    if not vcpu.vmcb.single_step:
        vcpu.vmcb.single_step = True
        trace(vcpu.kvm.host, NmiWindow, vcpu.vcpu_id, "step", True)


@kernel(FILE)
def iret_interception(vcpu: KvmVcpu) -> int:
    """The NMI handler returns: NMIs may come again once the IRET is done, svm_complete_interrupts sees to that."""
    watch_iret(vcpu, False)
    vcpu.nmi_iret_rip = vcpu.regs.rip
    kvm_make_request(KVM_REQ_EVENT, vcpu)
    return 1


@kernel(FILE)
def db_interception(vcpu: KvmVcpu) -> int:
    """The single step that svm_enable_nmi_window asked for is done."""
    vcpu.vmcb.single_step = False
    trace(vcpu.kvm.host, NmiWindow, vcpu.vcpu_id, "step", False)
    kvm_make_request(KVM_REQ_EVENT, vcpu)
    return 1
