"""IRR, ISR, TPR and PPR: which vector is next, and what holds it back."""

from __future__ import annotations

from kvmmodel.events import Ack, ApicUpdatePpr, ClearIsr, SetIrr, UpdatePpr
from kvmmodel.kvm.host_types import trace
from kvmmodel.kvm.lapic.registers import APIC_PROCPRI, APIC_TASKPRI, kvm_apic_hw_enabled
from kvmmodel.kvm.names import kernel
from kvmmodel.kvm.ops import kvm_x86_ops
from kvmmodel.kvm.requests import KVM_REQ_EVENT, kvm_make_request
from kvmmodel.kvm.types import KvmLapic, KvmVcpu
from kvmmodel.silicon.apic import highest

FILE = "arch/x86/kvm/lapic.c"


@kernel(FILE)
def apic_find_highest_irr(apic: KvmLapic) -> int:
    """The highest requested vector or -1. irr_pending false means that IRR is empty."""
    return highest(apic.irr) if apic.irr_pending else -1


@kernel(FILE)
def apic_find_highest_isr(apic: KvmLapic) -> int:
    """The highest vector in service or -1. With APICv, isr_count is pinned to 1 and the bank is scanned each time."""
    if not apic.isr_count:
        return -1
    if apic.highest_isr_cache != -1:
        return apic.highest_isr_cache
    return highest(apic.isr)


@kernel(FILE)
def kvm_lapic_set_irr(vec: int, apic: KvmLapic) -> None:
    """Atomic: another CPU may look at any time. irr_pending is set after the bit."""
    apic.irr |= 1 << vec
    apic.irr_pending = True
    trace(apic.vcpu.kvm.host, SetIrr, apic.vcpu.vcpu_id, vec)


@kernel(FILE)
def apic_clear_irr(vec: int, apic: KvmLapic) -> None:
    """Clear a bit and recompute irr_pending: false first, so that a concurrent setter wins."""
    apic.irr &= ~(1 << vec)
    if not apic.apicv_active:
        apic.irr_pending = apic.irr != 0


@kernel(FILE)
def apic_set_isr(vec: int, apic: KvmLapic) -> None:
    if apic.isr >> vec & 1:
        return
    apic.isr |= 1 << vec
    if not apic.apicv_active:
        apic.isr_count += 1
        apic.highest_isr_cache = vec


@kernel(FILE)
def apic_clear_isr(vec: int, apic: KvmLapic) -> None:
    """The cache is only purged, not refilled: that is what keeps PV EOI from being armed for a nested handler."""
    if not apic.isr >> vec & 1:
        return
    apic.isr &= ~(1 << vec)
    trace(apic.vcpu.kvm.host, ClearIsr, apic.vcpu.vcpu_id, vec)
    if not apic.apicv_active:
        apic.isr_count -= 1
        apic.highest_isr_cache = -1


@kernel(FILE)
def __apic_update_ppr(apic: KvmLapic) -> bool:
    """Recompute PPR: the higher class of TPR and of the highest vector in service. True if it dropped."""
    tpr, isr = apic.tpr, max(apic_find_highest_isr(apic), 0)
    ppr = tpr & 0xFF if tpr & 0xF0 >= isr & 0xF0 else isr & 0xF0
    old = apic.regs.get(APIC_PROCPRI, 0)
    if ppr != old:
        apic.regs[APIC_PROCPRI] = ppr
        trace(apic.vcpu.kvm.host, UpdatePpr, apic.vcpu.vcpu_id, old, ppr)
    return ppr < old


@kernel(FILE)
def apic_has_interrupt_for_ppr(apic: KvmLapic, ppr: int) -> int:
    """The highest requested vector if its class is above the PPR, else -1. The PPR's low nibble counts too."""
    irr = apic_find_highest_irr(apic)
    return -1 if irr == -1 or irr & 0xF0 <= ppr else irr


@kernel(FILE)
def apic_update_ppr(apic: KvmLapic) -> None:
    """After something may have lowered the PPR: ask for an event pass if a vector can now be taken."""
    vcpu = apic.vcpu
    old, scan = apic.ppr, apic.isr_count != 0 and apic.highest_isr_cache == -1
    lower = __apic_update_ppr(apic)
    trace(vcpu.kvm.host, ApicUpdatePpr, vcpu.vcpu_id, old, apic.ppr, scan)
    if lower and apic_has_interrupt_for_ppr(apic, apic.ppr) != -1:
        kvm_make_request(KVM_REQ_EVENT, vcpu)
    elif vcpu.kvm.host.has("cr8_recomputed_on_ppr"):
        kvm_lapic_update_cr8_intercept(vcpu)


@kernel(FILE, was={"5.10": "update_cr8_intercept", "7.2": "kvm_lapic_update_cr8_intercept"})
def kvm_lapic_update_cr8_intercept(vcpu: KvmVcpu) -> None:
    """Intercept CR8 writes only while the TPR alone holds the highest requested vector back."""
    if vcpu.apic.apicv_active:
        return
    max_irr = apic_find_highest_irr(vcpu.apic)
    kvm_x86_ops.update_cr8_intercept(vcpu, vcpu.apic.tpr >> 4, max_irr >> 4 if max_irr != -1 else -1)


@kernel(FILE)
def apic_set_tpr(apic: KvmLapic, tpr: int) -> None:
    apic.regs[APIC_TASKPRI] = tpr
    apic_update_ppr(apic)


@kernel(FILE)
def kvm_lapic_set_tpr(vcpu: KvmVcpu, cr8: int) -> None:
    """CR8 is the class; the rest of the TPR becomes 0, but for bit 2 in early 5.10."""
    kept = 0 if vcpu.kvm.host.has("cr8_clears_the_rest") else vcpu.apic.tpr & 4
    apic_set_tpr(vcpu.apic, (cr8 & 0x0F) << 4 | kept)


@kernel(FILE)
def kvm_apic_has_interrupt(vcpu: KvmVcpu) -> int:
    """The vector that the APIC would deliver now, or -1. Software disable does not matter here: what waits, stays."""
    apic = vcpu.apic
    if not kvm_apic_hw_enabled(apic):
        return -1
    __apic_update_ppr(apic)
    return apic_has_interrupt_for_ppr(apic, apic.ppr)


@kernel(FILE, was={"5.10": "kvm_get_apic_interrupt", "6.12": "kvm_apic_ack_interrupt"})
def kvm_apic_ack_interrupt(vcpu: KvmVcpu, vector: int) -> None:
    """Move the vector from IRR to ISR. Done when the injection is decided, before VMRUN.

    With Hyper-V's AutoEOI it is never in service, and the next one may follow at once.
    """
    apic = vcpu.apic
    apic_clear_irr(vector, apic)
    if vector in vcpu.synic.auto_eoi:
        apic_update_ppr(apic)
        return
    apic_set_isr(vector, apic)
    trace(vcpu.kvm.host, Ack, vcpu.vcpu_id, vector)
    __apic_update_ppr(apic)  # no request: it can only have risen
