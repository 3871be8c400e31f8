"""Which event enters the guest next: kvm_check_and_inject_events, and INIT, SIPI, SMI and NMI before it."""

from __future__ import annotations

from kvmmodel.events import VcpuReset
from kvmmodel.kvm.host_types import trace
from kvmmodel.kvm.i8259 import kvm_pic_read_irq
from kvmmodel.kvm.lapic.priority import kvm_apic_ack_interrupt, kvm_apic_has_interrupt
from kvmmodel.kvm.lapic.state import kvm_lapic_reset
from kvmmodel.kvm.names import kernel
from kvmmodel.kvm.ops import kvm_x86_ops
from kvmmodel.kvm.pmu import kvm_pmu_deliver_pmi
from kvmmodel.kvm.requests import (
    KVM_REQ_EVENT,
    KVM_REQ_NMI,
    KVM_REQ_PMI,
    KVM_REQ_SMI,
    kvm_check_request,
    kvm_make_request,
)
from kvmmodel.kvm.runnable import (
    kvm_apic_has_pending_init_or_sipi,
    kvm_apic_init_sipi_allowed,
    kvm_cpu_has_extint,
    kvm_cpu_has_injectable_intr,
    kvm_set_mp_state,
)
from kvmmodel.kvm.smm import enter_smm, process_smi
from kvmmodel.kvm.types import (
    KVM_MP_STATE_INIT_RECEIVED,
    KVM_MP_STATE_RUNNABLE,
    KVM_MP_STATE_UNINITIALIZED,
    KvmVcpu,
    QueuedException,
    QueuedInterrupt,
)
from kvmmodel.silicon.apic import MSR_IA32_APICBASE_BSP

X86, IRQ = "arch/x86/kvm/x86.c", "arch/x86/kvm/irq.c"
EBUSY = 16


@kernel(X86, was={"5.10": "inject_pending_event", "6.1": "kvm_check_and_inject_events"})
def kvm_check_and_inject_events(vcpu: KvmVcpu) -> None:
    """First what was interrupted, then a new exception, SMI, NMI, IRQ. At most one of these per entry.

    What may go in but cannot yet makes the entry an immediate exit: KVM asks again before the guest runs on.
    A debugger's KVM_GUESTDBG_BLOCKIRQ keeps SMIs, NMIs and interrupts out.
    """
    busy = vcpu.guest_mode and kvm_x86_ops.check_nested_events(vcpu) < 0
    _reinject(vcpu)
    if busy:
        vcpu.immediate_exit = True
        return
    can_inject = not kvm_event_needs_reinjection(vcpu)
    if vcpu.exception.pending:
        vcpu.exception.pending, vcpu.exception.injected = False, True
        kvm_x86_ops.inject_exception(vcpu)
        can_inject = False
    if vcpu.guestdbg_blockirq:
        return
    for pending, inject in ((vcpu.smi_pending, _smi), (vcpu.nmi_pending, _nmi), (True, _irq)):
        if pending:
            allowed = inject(vcpu, can_inject)
            if allowed < 0:
                vcpu.immediate_exit = True
                return
            can_inject = can_inject and not allowed


def _reinject(vcpu: KvmVcpu) -> None:
    ops = kvm_x86_ops
    if vcpu.exception.injected:
        ops.inject_exception(vcpu)
    elif vcpu.exception.pending:
        pass
    elif vcpu.nmi_injected:
        ops.inject_nmi(vcpu)
    elif vcpu.interrupt.injected:
        ops.inject_irq(vcpu, True)


def _smi(vcpu: KvmVcpu, can_inject: bool) -> int:
    """1: injected, 0: not allowed, so a window was asked for; negative: not now. The next two too."""
    allowed = kvm_x86_ops.smi_allowed(vcpu, True) if can_inject else -EBUSY
    if allowed > 0:
        vcpu.smi_pending = False
        enter_smm(vcpu)
    elif not allowed:
        kvm_x86_ops.enable_smi_window(vcpu)
    return allowed


def _nmi(vcpu: KvmVcpu, can_inject: bool) -> int:
    allowed = kvm_x86_ops.nmi_allowed(vcpu, True) if can_inject else -EBUSY
    if allowed > 0:
        vcpu.nmi_pending -= 1
        vcpu.nmi_injected = True
        kvm_x86_ops.inject_nmi(vcpu)
    if allowed >= 0 and vcpu.nmi_pending:
        kvm_x86_ops.enable_nmi_window(vcpu)
    return allowed


def _irq(vcpu: KvmVcpu, can_inject: bool) -> int:
    if not kvm_cpu_has_injectable_intr(vcpu):
        return 0
    allowed = kvm_x86_ops.interrupt_allowed(vcpu, True) if can_inject else -EBUSY
    if allowed > 0:
        irq = kvm_cpu_get_interrupt(vcpu)
        if irq != -1:
            vcpu.interrupt = QueuedInterrupt(True, False, irq)
            kvm_x86_ops.inject_irq(vcpu, False)
    if allowed >= 0 and kvm_cpu_has_injectable_intr(vcpu):
        kvm_x86_ops.enable_irq_window(vcpu)
    return allowed


@kernel(X86)
def kvm_event_needs_reinjection(vcpu: KvmVcpu) -> bool:
    return vcpu.exception.injected or vcpu.interrupt.injected or vcpu.nmi_injected


@kernel(IRQ)
def kvm_cpu_get_extint(vcpu: KvmVcpu) -> int:
    """The 8259s' acknowledge cycle. The local APIC does not hear of it: no IRR, no ISR, and PPR does not count."""
    if not kvm_cpu_has_extint(vcpu):
        return -1
    if vcpu.kvm.pic is not None:
        return kvm_pic_read_irq(vcpu.kvm)
    vector, vcpu.pending_external_vector = vcpu.pending_external_vector, -1
    return vector


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
    """At most two NMIs may wait, one while they are blocked; the rest is dropped. With vNMI the processor gets one."""
    ops = kvm_x86_ops
    limit = 1 if ops.get_nmi_mask(vcpu) or vcpu.nmi_injected else 2
    limit -= ops.is_vnmi_pending(vcpu)
    vcpu.nmi_pending = min(vcpu.nmi_pending + vcpu.nmi_queued, limit)
    vcpu.nmi_queued = 0
    if vcpu.nmi_pending and ops.set_vnmi_pending(vcpu):
        vcpu.nmi_pending -= 1
    if vcpu.nmi_pending:
        kvm_make_request(KVM_REQ_EVENT, vcpu)


@kernel(X86)
def kvm_vcpu_is_bsp(vcpu: KvmVcpu) -> bool:
    """By APIC_BASE, which guest and userspace can write: any number of vCPUs may say so."""
    return vcpu.apic.apic_base & MSR_IA32_APICBASE_BSP != 0


@kernel("arch/x86/kvm/lapic.c")
def kvm_apic_accept_events(vcpu: KvmVcpu) -> None:
    """Take a waiting INIT or SIPI. An INIT waits for GIF and the end of SMM; a SIPI in such a state is lost."""
    apic = vcpu.apic
    if not kvm_apic_has_pending_init_or_sipi(vcpu):
        return
    if vcpu.guest_mode and kvm_x86_ops.check_nested_events(vcpu) < 0:
        return
    if not kvm_apic_init_sipi_allowed(vcpu):
        apic.pending_sipi = False
        return
    if apic.pending_init:
        apic.pending_init = False
        kvm_vcpu_reset(vcpu, True)
        kvm_set_mp_state(vcpu, KVM_MP_STATE_RUNNABLE if kvm_vcpu_is_bsp(vcpu) else KVM_MP_STATE_INIT_RECEIVED)
    if apic.pending_sipi:
        apic.pending_sipi = False
        if vcpu.mp_state == KVM_MP_STATE_INIT_RECEIVED:
            kvm_set_mp_state(vcpu, KVM_MP_STATE_RUNNABLE)


@kernel(X86)
def kvm_vcpu_reset(vcpu: KvmVcpu, init_event: bool) -> None:
    """RESET, and INIT, which leaves L2: no #VMEXIT, L1 does not see it."""
    if vcpu.guest_mode:
        kvm_x86_ops.leave_nested(vcpu)
    kvm_lapic_reset(vcpu, init_event)
    vcpu.smm = vcpu.smm_inside_nmi = vcpu.smi_pending = False
    vcpu.nmi_queued = vcpu.nmi_pending = 0
    vcpu.nmi_injected = False
    vcpu.interrupt, vcpu.exception = QueuedInterrupt(), QueuedException()
    kvm_make_request(KVM_REQ_EVENT, vcpu)
    kvm_x86_ops.vcpu_reset(vcpu, init_event)
    kvm_x86_ops.set_efer(vcpu, 0)
    trace(vcpu.kvm.host, VcpuReset, vcpu.vcpu_id, init_event)


def take_smi_and_nmi_requests(vcpu: KvmVcpu) -> None:
    """The request phase's part of PMIs, SMIs and NMIs."""
    if kvm_check_request(KVM_REQ_PMI, vcpu):
        kvm_pmu_deliver_pmi(vcpu)
    if kvm_check_request(KVM_REQ_SMI, vcpu):
        process_smi(vcpu)
    if kvm_check_request(KVM_REQ_NMI, vcpu):
        process_nmi(vcpu)


def waits_for_sipi(vcpu: KvmVcpu) -> bool:
    return vcpu.mp_state in (KVM_MP_STATE_UNINITIALIZED, KVM_MP_STATE_INIT_RECEIVED)
