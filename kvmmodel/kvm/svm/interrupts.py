"""Delivery to a vCPU, and the CR8 intercept: the vendor's half of the local APIC."""

from __future__ import annotations

from kvmmodel.events import Cr8Intercept, KvmApicvAcceptIrq, ReadMode
from kvmmodel.kvm.host_types import trace
from kvmmodel.kvm.kvm_main import kvm_vcpu_kick, kvm_vcpu_wake_up
from kvmmodel.kvm.lapic.priority import kvm_lapic_set_irr
from kvmmodel.kvm.names import kernel
from kvmmodel.kvm.requests import KVM_REQ_EVENT, barrier, kvm_make_request
from kvmmodel.kvm.svm.avic.ipi import avic_ring_doorbell
from kvmmodel.kvm.svm.avic.tables import entry_of
from kvmmodel.kvm.svm.intercepts import svm_clr_intercept, svm_is_intercept, svm_set_intercept
from kvmmodel.kvm.svm.predicates import nested_svm_virtualize_tpr
from kvmmodel.kvm.types import IN_GUEST_MODE, KvmLapic, KvmVcpu
from kvmmodel.silicon.avic_tables import PHYSICAL_IS_RUNNING
from kvmmodel.silicon.vmcb import SVM_EXIT_WRITE_CR8

FILE = "arch/x86/kvm/svm/svm.c"


@kernel(FILE, since="6.1")  # 5.10 and 5.15: svm_deliver_avic_intr, see below
def svm_deliver_interrupt(apic: KvmLapic, delivery_mode: int, trig_mode: int, vector: int) -> None:
    """IRR first, a full barrier, then look where the target is: either it sees the IRR or we see its mode."""
    kvm_lapic_set_irr(vector, apic)
    barrier(apic.vcpu, "smp_mb__after_atomic")
    svm_complete_interrupt_delivery(apic.vcpu, delivery_mode, trig_mode, vector)


@kernel(FILE, since="6.1")  # 5.10 and 5.15: svm_deliver_avic_intr, see below
def svm_complete_interrupt_delivery(vcpu: KvmVcpu, delivery_mode: int, trig_mode: int, vector: int) -> None:
    """Without AVIC: have KVM look at the IRR in the next event pass, and get the vCPU there.

    With it, a doorbell to a vCPU that runs, or a wake-up; no request, no kick. The mode is read before apicv_active.
    """
    host, in_guest_mode = vcpu.kvm.host, vcpu.mode == IN_GUEST_MODE
    trace(host, ReadMode, vcpu.vcpu_id, vcpu.mode, vcpu.apic.apicv_active)
    if vcpu.apic.apicv_active:
        if host.has("apicv_accept_irq_traced"):
            trace(host, KvmApicvAcceptIrq, vcpu.vcpu_id, delivery_mode, trig_mode, vector)
        if in_guest_mode:
            avic_ring_doorbell(vcpu)
        else:
            kvm_vcpu_wake_up(vcpu)
        return
    if "no-request" not in vcpu.kvm.broken:
        kvm_make_request(KVM_REQ_EVENT, vcpu)
    if "no-kick" not in vcpu.kvm.broken:
        kvm_vcpu_kick(vcpu)


@kernel("arch/x86/kvm/svm/avic.c", until="6.1")
def svm_deliver_avic_intr(vcpu: KvmVcpu, vector: int) -> int:
    """5.10 and 5.15: -1 without AVIC. IsRunning, not the mode, decides between a doorbell and a wake-up."""
    if not vcpu.apic.apicv_active:
        return -1
    kvm_lapic_set_irr(vector, vcpu.apic)
    barrier(vcpu, "smp_mb__after_atomic")
    if entry_of(vcpu) & PHYSICAL_IS_RUNNING:
        avic_ring_doorbell(vcpu)
    else:
        kvm_vcpu_wake_up(vcpu)
    return 0


@kernel(FILE)
def svm_update_cr8_intercept(vcpu: KvmVcpu, tpr: int, irr: int) -> None:
    """Both are 4-bit classes; irr -1: nothing is requested."""
    if nested_svm_virtualize_tpr(vcpu):
        return
    was = svm_is_intercept(vcpu, SVM_EXIT_WRITE_CR8)
    on = irr != -1 and tpr >= irr and "no-cr8-intercept" not in vcpu.kvm.broken
    (svm_set_intercept if on else svm_clr_intercept)(vcpu, SVM_EXIT_WRITE_CR8)
    if on != was:
        trace(vcpu.kvm.host, Cr8Intercept, vcpu.vcpu_id, on)
