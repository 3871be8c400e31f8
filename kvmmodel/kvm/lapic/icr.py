"""Sending an interprocessor interrupt: the ICR in its two forms, and SELF_IPI."""

from __future__ import annotations

from kvmmodel.events import KvmApic, KvmApicIpi
from kvmmodel.kvm.host_types import HostKernel, trace
from kvmmodel.kvm.lapic.accept import kvm_irq_delivery_to_apic, kvm_irq_delivery_to_apic_fast
from kvmmodel.kvm.lapic.map import LapicIrq
from kvmmodel.kvm.lapic.registers import apic_x2apic_mode, kvm_lapic_get_reg, kvm_lapic_set_reg
from kvmmodel.kvm.names import kernel
from kvmmodel.kvm.types import KvmLapic
from kvmmodel.silicon import apic as hw

FILE = "arch/x86/kvm/lapic.c"


def kvm_icr_to_lapic_irq(apic: KvmLapic, icr_low: int, icr_high: int) -> LapicIrq:
    """Decode an ICR. The destination is 32 bits in x2APIC mode, the top 8 of ICR2 in xAPIC mode."""
    return LapicIrq(
        vector=icr_low & hw.APIC_VECTOR_MASK,
        delivery_mode=icr_low & hw.APIC_MODE_MASK,
        dest_mode=icr_low & hw.APIC_DEST_LOGICAL,
        level=icr_low & hw.APIC_INT_ASSERT != 0,
        trig_mode=icr_low & hw.APIC_INT_LEVELTRIG != 0,
        shorthand=icr_low & hw.APIC_SHORT_MASK,
        dest_id=icr_high if apic_x2apic_mode(apic) else icr_high >> 24,
    )


@kernel(FILE)
def kvm_apic_send_ipi(apic: KvmLapic, icr_low: int, icr_high: int) -> int:
    """Send what an ICR says. Returns what the delivery returned."""
    irq = kvm_icr_to_lapic_irq(apic, icr_low, icr_high)
    trace(apic.vcpu.kvm.host, KvmApicIpi, icr_low, irq.dest_id)
    return kvm_irq_delivery_to_apic(apic.vcpu.kvm, apic, irq)


@kernel(FILE, since="6.18")
def kvm_x2apic_icr_write(apic: KvmLapic, data: int) -> bool:
    return __kvm_x2apic_icr_write(apic, data, False)


@kernel(FILE, since="6.18")
def kvm_x2apic_icr_write_fast(apic: KvmLapic, data: int) -> bool:
    return __kvm_x2apic_icr_write(apic, data, True)


@kernel(FILE, since="6.1", was={"6.1": "kvm_x2apic_icr_write", "6.18": "__kvm_x2apic_icr_write"})
def __kvm_x2apic_icr_write(apic: KvmLapic, data: int, fast: bool) -> bool:
    """The 64-bit ICR of x2APIC mode. False: #GP, or in the fast path: the destination needs the slow one.

    Before icr_one_register only the fast path does this, and has it inline.
    """
    host = apic.vcpu.kvm.host
    if host.has("x2apic_icr_reserved_gp") and data & hw.X2APIC_ICR_RESERVED:
        return False
    data &= ~hw.APIC_ICR_BUSY
    low, high = data & 0xFFFFFFFF, data >> 32
    if fast and host.has("icr_fastpath_any_destination"):
        irq = kvm_icr_to_lapic_irq(apic, low, high)
        if kvm_irq_delivery_to_apic_fast(apic.vcpu.kvm, apic, irq) is None:
            return False
        trace(host, KvmApicIpi, low, irq.dest_id)  # after the delivery, unlike the slow path
    else:
        kvm_apic_send_ipi(apic, low, high)
    kvm_x2apic_store_icr(apic, data)
    trace(host, KvmApic, True, hw.APIC_ICR, data)
    return True


def icr_is_one_register(host: HostKernel) -> bool:
    """In x2APIC mode: one 64-bit value at 0x300, or ICR and ICR2. That depends on the release."""
    return host.has("icr_one_register") and not host.has("icr_split")


def kvm_x2apic_store_icr(apic: KvmLapic, data: int) -> None:
    kvm_lapic_set_reg(apic, hw.APIC_ICR, data)
    high = hw.APIC_ICR + 4 if icr_is_one_register(apic.vcpu.kvm.host) else hw.APIC_ICR2
    kvm_lapic_set_reg(apic, high, data >> 32)


def kvm_x2apic_read_icr(apic: KvmLapic) -> int:
    high = hw.APIC_ICR + 4 if icr_is_one_register(apic.vcpu.kvm.host) else hw.APIC_ICR2
    return kvm_lapic_get_reg(apic, high) << 32 | kvm_lapic_get_reg(apic, hw.APIC_ICR)
