"""The guest's global interrupt flag. While it is clear, KVM injects nothing, and INIT waits as well.

With vGIF the VMCB holds it and STGI and CLGI do not exit; without, KVM intercepts both and keeps the flag itself.
"""

from __future__ import annotations

from kvmmodel.events import NmiWindow, SetGif
from kvmmodel.kvm.host_types import trace
from kvmmodel.kvm.names import kernel
from kvmmodel.kvm.ops import kvm_x86_ops
from kvmmodel.kvm.requests import KVM_REQ_EVENT, kvm_make_request
from kvmmodel.kvm.runnable import kvm_apic_has_pending_init_or_sipi, kvm_cpu_has_injectable_intr
from kvmmodel.kvm.svm.inject import svm_clear_vintr
from kvmmodel.kvm.svm.intercepts import svm_clr_intercept, svm_is_intercept, svm_set_intercept
from kvmmodel.kvm.svm.predicates import enable_gif, gif_set
from kvmmodel.kvm.types import KvmVcpu
from kvmmodel.kvm.x86.inject import kvm_queue_exception
from kvmmodel.silicon import vmcb as hw

FILE = "arch/x86/kvm/svm/svm.c"
UD_VECTOR = 6
EFER_SVME = 1 << 12


@kernel(FILE)
def svm_set_gif(vcpu: KvmVcpu, value: bool) -> None:
    """Set: whatever waited gets its event pass. Clear: with vGIF the IRQ window stays, the processor respects V_GIF."""
    if not value:
        _write_gif(vcpu, False)
        if not vcpu.kvm.host.params["vgif"]:
            svm_clear_vintr(vcpu)
        return
    if vcpu.kvm.host.params["vgif"]:
        watched = hw.SVM_EXIT_STGI in vcpu.vmcb01.intercepts
        svm_clr_intercept(vcpu, hw.SVM_EXIT_STGI)  # it was there only to hear of this moment
        if watched:
            trace(vcpu.kvm.host, NmiWindow, vcpu.vcpu_id, "stgi", False)
    if svm_is_intercept(vcpu, hw.SVM_EXIT_VINTR):
        svm_clear_vintr(vcpu)
    _write_gif(vcpu, True)
    if svm_has_pending_gif_event(vcpu):
        kvm_make_request(KVM_REQ_EVENT, vcpu)


def _write_gif(vcpu: KvmVcpu, value: bool) -> None:
    changed = gif_set(vcpu) != value
    enable_gif(vcpu, value)
    if changed:
        trace(vcpu.kvm.host, SetGif, vcpu.vcpu_id, value)


def svm_has_pending_gif_event(vcpu: KvmVcpu) -> bool:
    """Whether anything waits that GIF holds back."""
    return bool(
        vcpu.smi_pending
        or vcpu.nmi_pending
        or kvm_cpu_has_injectable_intr(vcpu)
        or kvm_apic_has_pending_init_or_sipi(vcpu)
    )


@kernel(FILE, since="7.2")
def svm_recalc_instruction_intercepts(vcpu: KvmVcpu) -> None:
    """STGI and CLGI exit while the guest has not enabled SVM, to get their #UD: the processor runs it with SVME set.

    With vGIF they need not exit after that. KVM does it by KVM_REQ_RECALC_INTERCEPTS, the model at once.
    """
    intercepts = (hw.SVM_EXIT_STGI, hw.SVM_EXIT_CLGI)
    if not vcpu.efer & EFER_SVME:
        for exit_code in intercepts:
            svm_set_intercept(vcpu, exit_code)
    elif vcpu.kvm.host.params["vgif"]:
        for exit_code in intercepts:
            svm_clr_intercept(vcpu, exit_code)
        if svm_has_pending_gif_event(vcpu):
            kvm_make_request(KVM_REQ_EVENT, vcpu)


@kernel("arch/x86/kvm/svm/nested.c")
def nested_svm_check_permissions(vcpu: KvmVcpu) -> int:
    """1 and #UD unless the guest has enabled SVM."""
    if vcpu.efer & EFER_SVME:
        return 0
    kvm_queue_exception(vcpu, UD_VECTOR)
    return 1


@kernel(FILE)
def stgi_interception(vcpu: KvmVcpu) -> int:
    if not nested_svm_check_permissions(vcpu):
        kvm_x86_ops.skip_emulated_instruction(vcpu)
        svm_set_gif(vcpu, True)
    return 1


@kernel(FILE)
def clgi_interception(vcpu: KvmVcpu) -> int:
    if not nested_svm_check_permissions(vcpu):
        kvm_x86_ops.skip_emulated_instruction(vcpu)
        svm_set_gif(vcpu, False)
    return 1


@kernel(FILE)
def svm_apic_init_signal_blocked(vcpu: KvmVcpu) -> bool:
    return not gif_set(vcpu)
