"""The 8259 pair, arch/x86/kvm/i8259.c. This version has none of its lines, only what its output does to the vCPUs."""

from __future__ import annotations

from kvmmodel.kvm.kvm_main import kvm_vcpu_kick
from kvmmodel.kvm.lapic.registers import kvm_apic_hw_enabled, kvm_lapic_get_reg
from kvmmodel.kvm.names import kernel
from kvmmodel.kvm.requests import KVM_REQ_EVENT, kvm_make_request
from kvmmodel.kvm.types import Kvm, KvmVcpu
from kvmmodel.silicon import apic as hw


@kernel("arch/x86/kvm/lapic.c")
def kvm_apic_accept_pic_intr(vcpu: KvmVcpu) -> bool:
    """Whether LINT0 takes the 8259's output: unmasked and ExtINT, or the APIC is off in hardware."""
    lvt0 = kvm_lapic_get_reg(vcpu.apic, hw.APIC_LVT0)
    open_ = not lvt0 & hw.APIC_LVT_MASKED and lvt0 & hw.APIC_MODE_MASK == hw.APIC_DM_EXTINT
    return not kvm_apic_hw_enabled(vcpu.apic) or open_


@kernel("arch/x86/kvm/i8259.c")
def kvm_pic_update_irq(kvm: Kvm) -> None:
    """Any update while the output was low asks the first vCPU that takes it for an event pass, risen or not.

    Found because one of the recorded programs shows it: after KVM_SET_IRQCHIP the CR8 intercept is recomputed.
    """
    vcpu = next((v for v in kvm.vcpus if kvm_apic_accept_pic_intr(v)), None)
    if vcpu is not None:
        kvm_make_request(KVM_REQ_EVENT, vcpu)
        kvm_vcpu_kick(vcpu)
