"""SMIs as far as the vendor decides: when one may enter, and how KVM hears that it may."""

from __future__ import annotations

from kvmmodel.kvm.names import kernel
from kvmmodel.kvm.smm import is_smm
from kvmmodel.kvm.svm.nmi import EBUSY, watch_stgi
from kvmmodel.kvm.svm.predicates import gif_set, nested_exit_on_smi
from kvmmodel.kvm.types import KvmVcpu
from kvmmodel.kvm.x86.emulate import x86_emulate_instruction

FILE = "arch/x86/kvm/svm/svm.c"


@kernel(FILE)
def svm_smi_blocked(vcpu: KvmVcpu) -> bool:
    return not gif_set(vcpu) or is_smm(vcpu)


@kernel(FILE)
def svm_smi_allowed(vcpu: KvmVcpu, for_injection: bool) -> int:
    """1: yes, 0: no, negative: not now, ask again at once."""
    if vcpu.nested.nested_run_pending:
        return -EBUSY
    if svm_smi_blocked(vcpu):
        return 0
    return -EBUSY if for_injection and vcpu.guest_mode and nested_exit_on_smi(vcpu) else 1


@kernel(FILE)
def svm_enable_smi_window(vcpu: KvmVcpu) -> None:
    """GIF clear: STGI will tell. Else the vCPU is in SMM, and RSM exits in any case."""
    if not gif_set(vcpu):
        watch_stgi(vcpu)


@kernel(FILE)
def rsm_interception(vcpu: KvmVcpu) -> int:
    return x86_emulate_instruction(vcpu, "rsm")
