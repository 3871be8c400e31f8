"""KVM_SET_GUEST_DEBUG, of which the model has one flag: KVM_GUESTDBG_BLOCKIRQ, no interrupts while a debugger steps.

Read in 6.1.176, 6.12.117, 7.2.13 and 7.3.4. Breakpoints and single steps are not modelled; 5.10 and 5.15 were not read.
"""

from __future__ import annotations

from kvmmodel.kvm.apicv import __kvm_set_or_clear_apicv_inhibit, enable_apicv
from kvmmodel.kvm.names import kernel
from kvmmodel.kvm.requests import KVM_REQ_EVENT, kvm_make_request
from kvmmodel.kvm.types import Kvm, KvmVcpu

X86 = "arch/x86/kvm/x86.c"


@kernel(X86)
def kvm_arch_vcpu_ioctl_set_guest_debug(vcpu: KvmVcpu, blockirq: bool) -> None:
    """It writes RFLAGS back, which asks for an event pass: what was held back comes once the flag is gone."""
    vcpu.guestdbg_blockirq = blockirq
    kvm_make_request(KVM_REQ_EVENT, vcpu)
    kvm_arch_vcpu_guestdbg_update_apicv_inhibit(vcpu.kvm)


@kernel(X86, since="6.1")
def kvm_arch_vcpu_guestdbg_update_apicv_inhibit(kvm: Kvm) -> None:
    """One vCPU with the flag is enough. With AVIC, KVM would not be asked before an interrupt goes in."""
    if enable_apicv(kvm.host):
        __kvm_set_or_clear_apicv_inhibit(kvm, "BLOCKIRQ", any(vcpu.guestdbg_blockirq for vcpu in kvm.vcpus))
