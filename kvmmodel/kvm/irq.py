"""Interrupts from outside the vCPUs: messages (MSI)."""

from __future__ import annotations

from kvmmodel.events import KvmMsiSetIrq
from kvmmodel.kvm.host_types import trace
from kvmmodel.kvm.lapic.accept import kvm_irq_delivery_to_apic
from kvmmodel.kvm.lapic.map import LapicIrq
from kvmmodel.kvm.names import kernel
from kvmmodel.kvm.types import Kvm
from kvmmodel.silicon import apic as hw

# irq_comm.c up to 6.12; from 6.18 in irq.c
FILE = "arch/x86/kvm/irq.c"


@kernel(FILE, was={"5.10": "kvm_set_msi_irq", "6.18": "kvm_msi_to_lapic_irq"})
def kvm_msi_to_lapic_irq(kvm: Kvm, address: int, data: int) -> LapicIrq:
    """Decode an MSI. ``address`` is 64 bits: with 32-bit IDs, 63:40 extend the destination. Level is always assert."""
    trace(kvm.host, KvmMsiSetIrq, address if kvm.x2apic_format else address & 0xFFFFFFFF, data)
    high = address >> 32 & 0xFFFFFF00 if kvm.x2apic_format else 0
    return LapicIrq(
        vector=data & hw.APIC_VECTOR_MASK,
        delivery_mode=data & hw.APIC_MODE_MASK,
        dest_mode=hw.APIC_DEST_LOGICAL if address >> 2 & 1 else 0,
        level=True,
        trig_mode=data >> 15 & 1 == 1,
        shorthand=hw.APIC_DEST_NOSHORT,
        dest_id=address >> 12 & 0xFF | high,
        msi_redir_hint=address >> 3 & 1 == 1,
    )


def kvm_msi_route_invalid(kvm: Kvm, address: int) -> bool:
    """With 32-bit IDs, bits 39:32 of the address are reserved."""
    return kvm.x2apic_format and address >> 32 & 0xFF != 0


@kernel(FILE)
def kvm_set_msi(kvm: Kvm, address: int, data: int) -> int:
    """-22 (EINVAL) for a malformed address, else what the delivery returned."""
    if kvm_msi_route_invalid(kvm, address):
        return -22
    return kvm_irq_delivery_to_apic(kvm, None, kvm_msi_to_lapic_irq(kvm, address, data))


@kernel("virt/kvm/irqchip.c")
def kvm_send_userspace_msi(kvm: Kvm, address: int, data: int) -> int:
    return kvm_set_msi(kvm, address, data)
