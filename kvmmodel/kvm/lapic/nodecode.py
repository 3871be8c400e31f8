"""The effect of a write that the processor has put into the register page by itself."""

from __future__ import annotations

from kvmmodel.kvm.lapic.access import kvm_lapic_reg_write
from kvmmodel.kvm.lapic.icr import kvm_x2apic_icr_write, kvm_x2apic_read_icr
from kvmmodel.kvm.lapic.registers import apic_x2apic_mode, kvm_lapic_get_reg
from kvmmodel.kvm.names import kernel
from kvmmodel.kvm.types import KvmVcpu
from kvmmodel.silicon import apic as hw


@kernel("arch/x86/kvm/lapic.c")
def kvm_apic_write_nodecode(vcpu: KvmVcpu, offset: int) -> None:
    """No instruction is decoded: the value is in the page."""
    apic = vcpu.apic
    if apic_x2apic_mode(apic) and offset == hw.APIC_ICR:
        kvm_x2apic_icr_write(apic, kvm_x2apic_read_icr(apic))
    else:
        kvm_lapic_reg_write(apic, offset, kvm_lapic_get_reg(apic, offset))
