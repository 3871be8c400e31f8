"""Which event enters the guest next: kvm_check_and_inject_events, and INIT, SIPI and NMI before it."""

from __future__ import annotations

from kvmmodel.events import VcpuReset
from kvmmodel.kvm.i8259 import kvm_pic_read_irq
from kvmmodel.kvm.lapic.priority import kvm_apic_ack_interrupt, kvm_apic_has_interrupt
from kvmmodel.kvm.lapic.state import kvm_lapic_reset
from kvmmodel.kvm.names import kernel
from kvmmodel.kvm.ops import kvm_x86_ops
from kvmmodel.kvm.requests import KVM_REQ_EVENT, KVM_REQ_NMI, kvm_check_request, kvm_make_request
from kvmmodel.kvm.runnable import kvm_cpu_has_extint, kvm_cpu_has_injectable_intr
from kvmmodel.kvm.types import (
    KVM_MP_STATE_INIT_RECEIVED,
    KVM_MP_STATE_RUNNABLE,
    KVM_MP_STATE_UNINITIALIZED,
    KvmVcpu,
    QueuedException,
    QueuedInterrupt,
    trace,
)

X86, IRQ = "arch/x86/kvm/x86.c", "arch/x86/kvm/irq.c"


@kernel(X86, was={"5.10": "inject_pending_event", "6.1": "kvm_check_and_inject_events"})
def kvm_check_and_inject_events(vcpu: KvmVcpu) -> None:
    """First what was interrupted, then a new exception, then NMI, then IRQ. At most one of these per entry."""
    ops = kvm_x86_ops
    can_inject = not kvm_event_needs_reinjection(vcpu)
    if vcpu.exception.injected:
        ops.inject_exception(vcpu)
    elif vcpu.exception.pending:
        pass
    elif vcpu.nmi_injected:
        ops.inject_nmi(vcpu)
    elif vcpu.interrupt.injected:
        ops.inject_irq(vcpu, True)
    if vcpu.exception.pending:
        vcpu.exception.pending, vcpu.exception.injected = False, True
        ops.inject_exception(vcpu)
        can_inject = False
    if vcpu.nmi_pending:
        can_inject = _inject_nmi(vcpu, can_inject)
    if not vcpu.immediate_exit and kvm_cpu_has_injectable_intr(vcpu):
        allowed = ops.interrupt_allowed(vcpu, True) if can_inject else -16
        if allowed < 0:
            vcpu.immediate_exit = True  # vcpu_enter_guest will ask again, and not let the guest run before that
            return
        if allowed:
            irq = kvm_cpu_get_interrupt(vcpu)
            if irq != -1:
                vcpu.interrupt = QueuedInterrupt(True, False, irq)
                ops.inject_irq(vcpu, False)
        if kvm_cpu_has_injectable_intr(vcpu):
            ops.enable_irq_window(vcpu)


def _inject_nmi(vcpu: KvmVcpu, can_inject: bool) -> bool:
    allowed = kvm_x86_ops.nmi_allowed(vcpu, True) if can_inject else -16
    if allowed < 0:
        vcpu.immediate_exit = True
        return can_inject
    if allowed:
        vcpu.nmi_pending -= 1
        vcpu.nmi_injected = True
        kvm_x86_ops.inject_nmi(vcpu)
        can_inject = False
    if vcpu.nmi_pending:
        kvm_x86_ops.enable_nmi_window(vcpu)
    return can_inject


@kernel(X86)
def kvm_event_needs_reinjection(vcpu: KvmVcpu) -> bool:
    return vcpu.exception.injected or vcpu.interrupt.injected or vcpu.nmi_injected


@kernel(IRQ)
def kvm_cpu_get_extint(vcpu: KvmVcpu) -> int:
    """The 8259s' acknowledge cycle. The local APIC does not hear of it: no IRR, no ISR, and PPR does not count."""
    return kvm_pic_read_irq(vcpu.kvm) if kvm_cpu_has_extint(vcpu) else -1


@kernel(IRQ)
def kvm_cpu_get_interrupt(vcpu: KvmVcpu) -> int:
    """Take the vector: from now on it is in service, though the guest has not seen it yet. -1: none."""
    vector = kvm_cpu_get_extint(vcpu)
    if vector != -1:
        return vector & 0xFF  # kvm_queue_interrupt takes a byte; with a base that userspace set it may not fit
    vector = kvm_apic_has_interrupt(vcpu)
    if vector != -1:
        kvm_apic_ack_interrupt(vcpu, vector)
    return vector


def kvm_queue_exception(vcpu: KvmVcpu, vector: int, error_code: int | None = None) -> None:
    """A fault of the instruction that exited."""
    vcpu.exception = QueuedException(True, False, vector, error_code)
    kvm_make_request(KVM_REQ_EVENT, vcpu)


@kernel(X86)
def process_nmi(vcpu: KvmVcpu) -> None:
    """At most two NMIs may wait, one while they are blocked; what is more is dropped."""
    limit = 1 if vcpu.nmi_masked or vcpu.nmi_injected else 2
    vcpu.nmi_pending = min(vcpu.nmi_pending + vcpu.nmi_queued, limit)
    vcpu.nmi_queued = 0
    if vcpu.nmi_pending:
        kvm_make_request(KVM_REQ_EVENT, vcpu)


@kernel("arch/x86/kvm/lapic.c")
def kvm_apic_accept_events(vcpu: KvmVcpu) -> None:
    """Take a waiting INIT or SIPI."""
    apic = vcpu.apic
    if apic.pending_init:
        apic.pending_init = False
        kvm_vcpu_reset(vcpu, True)
        vcpu.mp_state = KVM_MP_STATE_RUNNABLE if vcpu.vcpu_id == 0 else KVM_MP_STATE_INIT_RECEIVED
    if apic.pending_sipi:
        apic.pending_sipi = False
        if vcpu.mp_state == KVM_MP_STATE_INIT_RECEIVED:
            vcpu.mp_state = KVM_MP_STATE_RUNNABLE


@kernel(X86)
def kvm_vcpu_reset(vcpu: KvmVcpu, init_event: bool) -> None:
    kvm_lapic_reset(vcpu, init_event)
    vcpu.nmi_queued = vcpu.nmi_pending = 0
    vcpu.nmi_injected = vcpu.nmi_masked = False
    vcpu.nmi_iret_rip = None
    vcpu.interrupt, vcpu.exception = QueuedInterrupt(), QueuedException()
    kvm_x86_ops.vcpu_reset(vcpu, init_event)
    kvm_make_request(KVM_REQ_EVENT, vcpu)
    trace(vcpu.kvm.host, VcpuReset, vcpu.vcpu_id, init_event)


def take_nmi_request(vcpu: KvmVcpu) -> None:
    """The request phase's part of NMIs."""
    if kvm_check_request(KVM_REQ_NMI, vcpu):
        process_nmi(vcpu)


def waits_for_sipi(vcpu: KvmVcpu) -> bool:
    return vcpu.mp_state in (KVM_MP_STATE_UNINITIALIZED, KVM_MP_STATE_INIT_RECEIVED)
