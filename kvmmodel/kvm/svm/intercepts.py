"""Intercepts: KVM's own are kept in vmcb01; while L2 runs, its VMCB has these and L1's together."""

from __future__ import annotations

from kvmmodel.kvm.names import kernel
from kvmmodel.kvm.types import KvmVcpu
from kvmmodel.silicon import vmcb as hw


def svm_set_intercept(vcpu: KvmVcpu, exit_code: int) -> None:
    vcpu.vmcb01.intercepts.add(exit_code)
    recalc_intercepts(vcpu)


def svm_clr_intercept(vcpu: KvmVcpu, exit_code: int) -> None:
    vcpu.vmcb01.intercepts.discard(exit_code)
    recalc_intercepts(vcpu)


def svm_is_intercept(vcpu: KvmVcpu, exit_code: int) -> bool:
    """In the VMCB that runs."""
    return exit_code in vcpu.vmcb.intercepts


@kernel("arch/x86/kvm/svm/nested.c", was={"5.10": "recalc_intercepts", "7.2": "nested_vmcb02_recalc_intercepts"})
def recalc_intercepts(vcpu: KvmVcpu) -> None:
    """KVM's own and L1's. If L1 virtualizes L2's IF and TPR, KVM needs no CR8 exits; nor a window, if L1's IF is 0."""
    if not vcpu.guest_mode:
        return
    own = set(vcpu.vmcb01.intercepts)
    if vcpu.nested.ctl.v_intr_masking:
        own.discard(hw.SVM_EXIT_WRITE_CR8)
        if not vcpu.vmcb01.rflags_if:
            own.discard(hw.SVM_EXIT_VINTR)
    vcpu.vmcb.intercepts = own | vcpu.nested.ctl.intercepts
