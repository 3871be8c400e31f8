"""NMIs. Without vNMI, KVM injects each and intercepts the handler's IRET to know when the next may come.

With vNMI the VMCB has a pending and a blocking bit: KVM sets the one, the processor delivers and keeps the other.
"""

from __future__ import annotations

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
    """NMIs stay masked until the handler's IRET, which is intercepted for that; the processor does so with vNMI."""
    vcpu.vmcb.event_inj = hw.SVM_EVTINJ_VALID | hw.SVM_EVTINJ_TYPE_NMI
    if not is_vnmi_enabled(vcpu):
        vcpu.nmi_masked = True
        svm_set_intercept(vcpu, hw.SVM_EXIT_IRET)


def svm_is_vnmi_pending(vcpu: KvmVcpu) -> bool:
    return is_vnmi_enabled(vcpu) and vcpu.vmcb.v_nmi_pending


@kernel(FILE, since="6.6")
def svm_set_vnmi_pending(vcpu: KvmVcpu) -> bool:
    """Leave one NMI to the processor. False: no vNMI, or it has one already."""
    if not is_vnmi_enabled(vcpu) or vcpu.vmcb.v_nmi_pending:
        return False
    vcpu.vmcb.v_nmi_pending = True
    return True


@kernel(FILE)
def svm_set_nmi_mask(vcpu: KvmVcpu, masked: bool) -> None:
    """As SMM does it: entered with NMIs masked."""
    if is_vnmi_enabled(vcpu):
        vcpu.vmcb.v_nmi_blocking = masked
        return
    vcpu.nmi_masked = masked
    (svm_set_intercept if masked else svm_clr_intercept)(vcpu, hw.SVM_EXIT_IRET)


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
        if vcpu.kvm.host.params["vgif"]:
            svm_set_intercept(vcpu, hw.SVM_EXIT_STGI)
        return
    vcpu.vmcb.single_step = True


@kernel(FILE)
def iret_interception(vcpu: KvmVcpu) -> int:
    """The NMI handler returns: NMIs may come again once the IRET is done, svm_complete_interrupts sees to that."""
    svm_clr_intercept(vcpu, hw.SVM_EXIT_IRET)
    vcpu.nmi_iret_rip = vcpu.regs.rip
    kvm_make_request(KVM_REQ_EVENT, vcpu)
    return 1


def db_interception(vcpu: KvmVcpu) -> int:
    """The single step that svm_enable_nmi_window asked for is done."""
    vcpu.vmcb.single_step = False
    kvm_make_request(KVM_REQ_EVENT, vcpu)
    return 1
