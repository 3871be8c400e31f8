"""System management mode: an SMI is emulated by KVM, which puts the vCPU into SMM and, at its RSM, back.

Of what SMM saves the model keeps RIP and IF. An SMI while L2 runs is not modelled beyond L1's intercept of it.
Read in 6.18; that older releases do the same, in x86.c and under other names up to 6.1, is recalled.
"""

from __future__ import annotations

from kvmmodel.events import KvmSmmTransition
from kvmmodel.kvm.host_types import trace
from kvmmodel.kvm.names import kernel
from kvmmodel.kvm.ops import kvm_x86_ops
from kvmmodel.kvm.requests import KVM_REQ_EVENT, KVM_REQ_SMI, kvm_make_request
from kvmmodel.kvm.types import KvmVcpu

FILE = "arch/x86/kvm/smm.c"
SMBASE, SMI_HANDLER = 0x30000, 0x8000
ENOTTY = 25


def is_smm(vcpu: KvmVcpu) -> bool:
    return vcpu.smm


def kvm_inject_smi(vcpu: KvmVcpu) -> int:
    """-25 (ENOTTY) where KVM was built without SMM."""
    if not vcpu.kvm.smm:
        return -ENOTTY
    kvm_make_request(KVM_REQ_SMI, vcpu)
    return 0


@kernel(FILE)
def process_smi(vcpu: KvmVcpu) -> None:
    vcpu.smi_pending = True
    kvm_make_request(KVM_REQ_EVENT, vcpu)


@kernel(FILE)
def enter_smm(vcpu: KvmVcpu) -> None:
    """Save the state; go on at the SMI handler with IF clear and NMIs masked."""
    vcpu.smram = vcpu.regs.rip, vcpu.vmcb.rflags_if
    kvm_smm_changed(vcpu, True)
    if kvm_x86_ops.get_nmi_mask(vcpu):
        vcpu.smm_inside_nmi = True
    else:
        kvm_x86_ops.set_nmi_mask(vcpu, True)
    vcpu.vmcb.rflags_if = vcpu.vmcb.int_state = False
    vcpu.regs.rip = SMBASE + SMI_HANDLER
    vcpu.regs.jump = "smm"


@kernel(FILE)
def emulator_leave_smm(vcpu: KvmVcpu) -> None:
    """RSM: everything as it was; NMIs are masked only if the SMI came inside an NMI handler."""
    if not vcpu.smm_inside_nmi:
        kvm_x86_ops.set_nmi_mask(vcpu, False)
    kvm_smm_changed(vcpu, False)
    vcpu.regs.rip, vcpu.vmcb.rflags_if = vcpu.smram
    vcpu.regs.jump = "rsm"


@kernel(FILE)
def kvm_smm_changed(vcpu: KvmVcpu, entering: bool) -> None:
    vcpu.smm = entering
    trace(vcpu.kvm.host, KvmSmmTransition, vcpu.vcpu_id, SMBASE, entering)
    if not entering:
        vcpu.smm_inside_nmi = False
        kvm_make_request(KVM_REQ_EVENT, vcpu)  # an INIT or SMI may have waited for this
