"""The questions of arch/x86/kvm/svm/svm.h: whose GIF, whose NMI mask, what L1 intercepts. The compiler inlines them."""

from __future__ import annotations

from kvmmodel.kvm.types import KvmVcpu
from kvmmodel.silicon import vmcb as hw
from kvmmodel.silicon.vmcb import Vmcb


def get_vgif_vmcb(vcpu: KvmVcpu) -> Vmcb | None:
    """The VMCB that holds L1's GIF; None without vGIF, where KVM keeps it."""
    if not vcpu.kvm.host.params["vgif"]:
        return None
    return vcpu.nested.vmcb02 if vcpu.guest_mode and not nested_vgif_enabled(vcpu) else vcpu.vmcb01


def gif_set(vcpu: KvmVcpu) -> bool:
    vmcb = get_vgif_vmcb(vcpu)
    return vcpu.guest_gif if vmcb is None else vmcb.v_gif


def enable_gif(vcpu: KvmVcpu, on: bool = True) -> None:
    vmcb = get_vgif_vmcb(vcpu)
    if vmcb is None:
        vcpu.guest_gif = on
    else:
        vmcb.v_gif = on


def is_vnmi_enabled(vcpu: KvmVcpu) -> bool:
    """Whether the processor keeps track of NMIs for KVM. Not while L2 runs: its V_NMI fields are L1's to use."""
    return bool(vcpu.kvm.host.params.get("vnmi")) and not vcpu.guest_mode and vcpu.vmcb01.v_nmi_enable


def svm_get_nmi_mask(vcpu: KvmVcpu) -> bool:
    return vcpu.vmcb.v_nmi_blocking if is_vnmi_enabled(vcpu) else vcpu.nmi_masked


def nested_vgif_enabled(vcpu: KvmVcpu) -> bool:
    """L2's GIF is its own: L1 may use vGIF, and does."""
    offered = vcpu.kvm.host.params["vgif"] and vcpu.kvm.host.has("nested_vgif")
    return bool(offered and vcpu.nested.ctl.v_gif_enable)


def nested_vnmi_enabled(vcpu: KvmVcpu) -> bool:
    return bool(vcpu.kvm.host.params.get("vnmi")) and vcpu.nested.ctl.v_nmi_enable


def vmcb12_is_intercept(vcpu: KvmVcpu, exit_code: int) -> bool:
    return exit_code in vcpu.nested.ctl.intercepts


def nested_exit_on_intr(vcpu: KvmVcpu) -> bool:
    return vmcb12_is_intercept(vcpu, hw.SVM_EXIT_INTR)


def nested_exit_on_nmi(vcpu: KvmVcpu) -> bool:
    return vmcb12_is_intercept(vcpu, hw.SVM_EXIT_NMI)


def nested_exit_on_smi(vcpu: KvmVcpu) -> bool:
    return vmcb12_is_intercept(vcpu, hw.SVM_EXIT_SMI)


def nested_svm_virtualize_tpr(vcpu: KvmVcpu) -> bool:
    """L2's CR8 is its own, and says nothing of L1's TPR."""
    return vcpu.guest_mode and vcpu.nested.ctl.v_intr_masking


def svm_is_intercept_of_kvm(vcpu: KvmVcpu, exit_code: int) -> bool:
    """While L2 runs: intercepted, and not because L1 wants it."""
    return exit_code in vcpu.vmcb.intercepts and not vmcb12_is_intercept(vcpu, exit_code)
