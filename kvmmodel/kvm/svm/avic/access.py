"""#VMEXIT(AVIC_UNACCELERATED_ACCESS): a register whose write, or read, the processor leaves to KVM."""

from __future__ import annotations

from kvmmodel.events import KvmAvicUnacceleratedAccess
from kvmmodel.kvm.host_types import trace
from kvmmodel.kvm.lapic.nodecode import kvm_apic_write_nodecode
from kvmmodel.kvm.lapic.registers import LVT_MASKS
from kvmmodel.kvm.names import kernel
from kvmmodel.kvm.svm.avic.tables import (
    FILE,
    avic_handle_apic_id_update,
    avic_handle_dfr_update,
    avic_handle_ldr_update,
)
from kvmmodel.kvm.types import KvmVcpu
from kvmmodel.kvm.x86.emulate import x86_emulate_instruction
from kvmmodel.silicon import apic as hw

TRAPS = frozenset((
    hw.APIC_ID, hw.APIC_EOI, hw.APIC_RRR, hw.APIC_LDR, hw.APIC_DFR, hw.APIC_SPIV, hw.APIC_ESR, hw.APIC_ICR,
    hw.APIC_TMICT, hw.APIC_TDCR, *LVT_MASKS,
))  # fmt: skip


@kernel(FILE)
def is_avic_unaccelerated_access_trap(offset: int) -> bool:
    """Whether the exit came behind the write, by KVM's list."""
    return offset in TRAPS


@kernel(FILE)
def avic_unaccelerated_access_interception(vcpu: KvmVcpu) -> int:
    vmcb = vcpu.vmcb
    offset, write = vmcb.exit_info_1 & 0xFF0, bool(vmcb.exit_info_1 >> 32 & 1)
    trap = is_avic_unaccelerated_access_trap(offset)
    vector = vmcb.exit_info_2 & 0xFF
    trace(vcpu.kvm.host, KvmAvicUnacceleratedAccess, vcpu.vcpu_id, offset, trap, write, vector)
    if "no-avic-exits" in vcpu.kvm.broken:
        return 1
    if trap:
        return avic_unaccel_trap_write(vcpu)
    return x86_emulate_instruction(vcpu, "msr" if vcpu.regs.msr_access else "mmio")


@kernel(FILE)
def avic_unaccel_trap_write(vcpu: KvmVcpu) -> int:
    """The value is in the page: do what the register does. 0: an LDR, up to 5.15 an ID, has no place."""
    offset, host = vcpu.vmcb.exit_info_1 & 0xFF0, vcpu.kvm.host
    if offset == hw.APIC_ID and not host.has("apic_id_inhibits") and not avic_handle_apic_id_update(vcpu):
        return 0
    if offset == hw.APIC_LDR and not avic_handle_ldr_update(vcpu):
        return 0
    if offset == hw.APIC_DFR:
        avic_handle_dfr_update(vcpu)
    if offset == hw.APIC_RRR and host.has("rrr_write_ignored"):
        return 1
    kvm_apic_write_nodecode(vcpu, offset)
    return 1
