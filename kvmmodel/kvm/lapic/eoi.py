"""End of interrupt: by register, and by the paravirtual bit that saves the exit."""

from __future__ import annotations

from kvmmodel.events import KvmEoi, KvmPvEoi, PvEoiArm, PvEoiDisarm
from kvmmodel.kvm.host_types import trace
from kvmmodel.kvm.hyperv import kvm_hv_synic_send_eoi
from kvmmodel.kvm.ioapic import kvm_ioapic_update_eoi
from kvmmodel.kvm.lapic.priority import apic_clear_isr, apic_find_highest_isr, apic_update_ppr
from kvmmodel.kvm.lapic.registers import kvm_lapic_suppress_eoi_broadcast
from kvmmodel.kvm.names import kernel
from kvmmodel.kvm.requests import KVM_REQ_EVENT, KVM_REQ_IOAPIC_EOI_EXIT, KVM_REQ_SCAN_IOAPIC, kvm_make_request
from kvmmodel.kvm.types import KvmLapic, KvmVcpu

FILE = "arch/x86/kvm/lapic.c"
KVM_MSR_ENABLED = 1
KVM_PV_EOI_ENABLED = 1


@kernel(FILE)
def apic_set_eoi(apic: KvmLapic) -> int:
    """The highest vector in service is done. Returns it, -1 if there was none. Always asks for an event pass."""
    vcpu = apic.vcpu
    vector = apic_find_highest_isr(apic)
    trace(vcpu.kvm.host, KvmEoi, vcpu.vcpu_id, vector)
    if vector == -1:
        return -1
    apic_clear_isr(vector, apic)
    apic_update_ppr(apic)
    if vector in vcpu.synic.vectors:
        kvm_hv_synic_send_eoi(vcpu, vector)
    kvm_ioapic_send_eoi(apic, vector)
    kvm_make_request(KVM_REQ_EVENT, vcpu)
    return vector


@kernel(FILE)
def kvm_ioapic_send_eoi(apic: KvmLapic, vector: int) -> None:
    """Pass the EOI on, if the vector is one of the IOAPIC's. Level or edge is what the TMR says.

    Userspace's IOAPIC hears of it by an exit, before the guest runs on.
    """
    vcpu = apic.vcpu
    if vector not in vcpu.ioapic_handled_vectors or "no-ioapic-eoi" in vcpu.kvm.broken:
        return
    if vector == vcpu.highest_stale_pending_ioapic_eoi and vcpu.kvm.host.has("stale_eoi_rescans"):
        kvm_make_request(KVM_REQ_SCAN_IOAPIC, vcpu)
    if vcpu.kvm.irqchip == "split":
        if not kvm_lapic_suppress_eoi_broadcast(apic):
            vcpu.pending_ioapic_eoi = vector
            kvm_make_request(KVM_REQ_IOAPIC_EOI_EXIT, vcpu)
        return
    kvm_ioapic_update_eoi(vcpu, vcpu.kvm.ioapic, vector, apic.tmr >> vector & 1 == 1)


def pv_eoi_enabled(vcpu: KvmVcpu) -> bool:
    return vcpu.pv_eoi_msr & KVM_MSR_ENABLED != 0


def pv_eoi_address(vcpu: KvmVcpu) -> int:
    """Guest-physical address of the byte whose bit 0 is the PV EOI bit."""
    return vcpu.pv_eoi_msr & ~KVM_MSR_ENABLED


@kernel(FILE)
def kvm_lapic_set_pv_eoi(vcpu: KvmVcpu, data: int) -> int:
    """MSR_KVM_PV_EOI_EN. 1 (#GP) unless the cell is 4-byte aligned."""
    if data & ~KVM_MSR_ENABLED & 3:
        return 1
    vcpu.pv_eoi_msr = data
    return 0


@kernel(FILE)
def kvm_lapic_sync_to_vapic(vcpu: KvmVcpu) -> None:
    apic_sync_pv_eoi_to_guest(vcpu, vcpu.apic)


@kernel(FILE)
def apic_sync_pv_eoi_to_guest(vcpu: KvmVcpu, apic: KvmLapic) -> None:
    """Arm PV EOI if the vector just injected is all there is: nothing else requested, nothing EOIed since."""
    waits = apic.irr_pending and "pv-eoi-always-armed" not in vcpu.kvm.broken
    if not pv_eoi_enabled(vcpu) or waits or apic.highest_isr_cache == -1:
        return
    if apic.highest_isr_cache in vcpu.ioapic_handled_vectors:
        return  # the IOAPIC, or who waits for the acknowledge, needs the EOI when it happens
    vcpu.kvm.memory[pv_eoi_address(vcpu)] = KVM_PV_EOI_ENABLED  # the whole byte
    vcpu.pv_eoi_attention = True
    trace(vcpu.kvm.host, PvEoiArm, vcpu.vcpu_id, apic.highest_isr_cache)


@kernel(FILE)
def kvm_lapic_sync_from_vapic(vcpu: KvmVcpu) -> None:
    """At every exit that leaves the entry loop, while PV EOI is armed."""
    if vcpu.pv_eoi_attention:
        apic_sync_pv_eoi_from_guest(vcpu, vcpu.apic)


@kernel(FILE)
def apic_sync_pv_eoi_from_guest(vcpu: KvmVcpu, apic: KvmLapic) -> None:
    """The bit is still set: no EOI yet, so it will have to exit. Cleared: the guest signalled its EOI, carry it out."""
    address = pv_eoi_address(vcpu)
    pending = vcpu.kvm.memory.get(address, 0) & KVM_PV_EOI_ENABLED
    vcpu.pv_eoi_attention = False
    if pending:
        vcpu.kvm.memory[address] = 0
        trace(vcpu.kvm.host, PvEoiDisarm, vcpu.vcpu_id)
        return
    vector = apic_set_eoi(apic)
    trace(vcpu.kvm.host, KvmPvEoi, vcpu.vcpu_id, vector)
