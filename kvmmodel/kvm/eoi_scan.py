"""Of which vectors the IOAPIC, KVM's own or userspace's, has to hear an EOI: recomputed per vCPU on the way in.

kvm_scan_ioapic_irq and kvm_scan_ioapic_routes are parts of irq_comm.c, or not there, up to 6.12.
"""

from __future__ import annotations

from kvmmodel.kvm.ack import KVM_IRQCHIP_IOAPIC, kvm_irq_has_notifier
from kvmmodel.kvm.ioapic import RTC_GSI, KvmIoapic, decode, is_level
from kvmmodel.kvm.irq import kvm_msi_to_lapic_irq
from kvmmodel.kvm.irqchip import MsiRoute
from kvmmodel.kvm.lapic.map import LapicIrq, kvm_apic_match_dest
from kvmmodel.kvm.names import kernel
from kvmmodel.kvm.types import KvmVcpu
from kvmmodel.silicon import apic as hw

IRQ = "arch/x86/kvm/irq.c"


@kernel("arch/x86/kvm/x86.c")
def vcpu_scan_ioapic(vcpu: KvmVcpu) -> None:
    if not vcpu.apic.apic_base & hw.MSR_IA32_APICBASE_ENABLE:
        return
    vcpu.highest_stale_pending_ioapic_eoi = -1
    handled = set[int]()
    if vcpu.kvm.irqchip == "split":
        kvm_scan_ioapic_routes(vcpu, handled)
    elif vcpu.kvm.ioapic is not None:
        kvm_ioapic_scan_entry(vcpu, vcpu.kvm.ioapic, handled)
    vcpu.ioapic_handled_vectors = frozenset(handled)


@kernel("arch/x86/kvm/ioapic.c")
def kvm_ioapic_scan_entry(vcpu: KvmVcpu, ioapic: KvmIoapic, handled: set[int]) -> None:
    """Level pins, those whose acknowledge somebody waits for, the RTC. An EOI that the RTC is owed stays."""
    if vcpu.vcpu_id in ioapic.rtc_status.vectors:
        handled.add(ioapic.rtc_status.vectors[vcpu.vcpu_id])
    for pin, entry in enumerate(ioapic.redirtbl):
        if is_level(entry) or pin == RTC_GSI or kvm_irq_has_notifier(vcpu.kvm, KVM_IRQCHIP_IOAPIC, pin):
            kvm_scan_ioapic_irq(vcpu, decode(entry), handled)


@kernel(IRQ)
def kvm_scan_ioapic_routes(vcpu: KvmVcpu, handled: set[int]) -> None:
    """Userspace's IOAPIC is known by its routes: messages of the first GSIs, of which the level ones count."""
    for gsi in range(vcpu.kvm.nr_reserved_ioapic_pins):
        for route in reversed(vcpu.kvm.routing.get(gsi, [])):
            if isinstance(route, MsiRoute):
                irq = kvm_msi_to_lapic_irq(vcpu.kvm, route.address, route.data)
                if irq.trig_mode:
                    kvm_scan_ioapic_irq(vcpu, irq, handled)


@kernel(IRQ, since="6.18")
def kvm_scan_ioapic_irq(vcpu: KvmVcpu, irq: LapicIrq, handled: set[int]) -> None:
    """Meant for this vCPU; or pending on it, though it is meant for others by now."""
    pending = (vcpu.apic.irr | vcpu.apic.isr) >> irq.vector & 1
    meant = kvm_apic_match_dest(vcpu, None, irq.shorthand, irq.dest_id, irq.dest_mode)
    if meant or pending:
        handled.add(irq.vector)
    if pending and not meant:
        vcpu.highest_stale_pending_ioapic_eoi = max(vcpu.highest_stale_pending_ioapic_eoi, irq.vector)
