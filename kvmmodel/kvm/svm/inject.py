"""Injection through EVENTINJ, whether it is allowed, and the windows that tell when it will be."""

from __future__ import annotations

from kvmmodel.events import IrqWindow, KvmInjException, KvmInjVirq
from kvmmodel.kvm.names import kernel
from kvmmodel.kvm.requests import KVM_REQ_EVENT, kvm_make_request
from kvmmodel.kvm.types import KvmVcpu, QueuedException, QueuedInterrupt, trace
from kvmmodel.silicon import vmcb as hw

FILE = "arch/x86/kvm/svm/svm.c"


@kernel(FILE)
def svm_inject_irq(vcpu: KvmVcpu, reinjected: bool) -> None:
    trace(vcpu.kvm.host, KvmInjVirq, vcpu.interrupt.nr, vcpu.interrupt.soft, reinjected)
    vcpu.vmcb.event_inj = hw.SVM_EVTINJ_VALID | hw.SVM_EVTINJ_TYPE_INTR | vcpu.interrupt.nr


@kernel(FILE)
def svm_inject_nmi(vcpu: KvmVcpu) -> None:
    """NMIs stay masked until the handler's IRET, which is intercepted for that."""
    vcpu.vmcb.event_inj = hw.SVM_EVTINJ_VALID | hw.SVM_EVTINJ_TYPE_NMI | 2
    vcpu.nmi_masked = True
    vcpu.vmcb.intercepts.add(hw.SVM_EXIT_IRET)


@kernel(FILE)
def svm_inject_exception(vcpu: KvmVcpu) -> None:
    exception = vcpu.exception
    trace(vcpu.kvm.host, KvmInjException, exception.vector, exception.error_code)
    vcpu.vmcb.event_inj = hw.SVM_EVTINJ_VALID | hw.SVM_EVTINJ_TYPE_EXEPT | exception.vector
    if exception.error_code is not None:
        vcpu.vmcb.event_inj |= hw.SVM_EVTINJ_VALID_ERR
        vcpu.vmcb.event_inj_err = exception.error_code


@kernel(FILE)
def svm_interrupt_blocked(vcpu: KvmVcpu) -> bool:
    """IF clear, or an interrupt shadow."""
    return not vcpu.vmcb.rflags_if or vcpu.vmcb.int_state


@kernel(FILE)
def svm_interrupt_allowed(vcpu: KvmVcpu, for_injection: bool) -> int:
    """1: yes, 0: no, negative: not now, ask again at once."""
    return 0 if svm_interrupt_blocked(vcpu) else 1


@kernel(FILE)
def svm_nmi_allowed(vcpu: KvmVcpu, for_injection: bool) -> int:
    return 0 if vcpu.nmi_masked or vcpu.vmcb.int_state else 1


@kernel(FILE)
def svm_enable_irq_window(vcpu: KvmVcpu) -> None:
    """Have the processor exit as soon as the guest could take an interrupt: a virtual one that it never sees."""
    if "no-window" not in vcpu.kvm.broken:
        svm_set_vintr(vcpu)


@kernel(FILE)
def svm_set_vintr(vcpu: KvmVcpu) -> None:
    vmcb = vcpu.vmcb
    vmcb.intercepts.add(hw.SVM_EXIT_VINTR)
    vmcb.v_irq, vmcb.v_intr_prio = True, 0xF
    trace(vcpu.kvm.host, IrqWindow, vcpu.vcpu_id, True)


@kernel(FILE)
def svm_clear_vintr(vcpu: KvmVcpu) -> None:
    vcpu.vmcb.intercepts.discard(hw.SVM_EXIT_VINTR)
    vcpu.vmcb.v_irq = False
    trace(vcpu.kvm.host, IrqWindow, vcpu.vcpu_id, False)


@kernel(FILE)
def interrupt_window_interception(vcpu: KvmVcpu) -> int:
    kvm_make_request(KVM_REQ_EVENT, vcpu)
    svm_clear_vintr(vcpu)
    return 1


@kernel(FILE)
def svm_enable_nmi_window(vcpu: KvmVcpu) -> None:
    """While an NMI handler runs, its IRET is intercepted: enough. After that, or in a shadow, single-step over it."""
    if vcpu.nmi_masked and vcpu.nmi_iret_rip is None:
        return
    vcpu.vmcb.single_step = True


@kernel(FILE)
def iret_interception(vcpu: KvmVcpu) -> int:
    """The NMI handler returns: NMIs may come again once the IRET is done, svm_complete_interrupts sees to that."""
    vcpu.vmcb.intercepts.discard(hw.SVM_EXIT_IRET)
    vcpu.nmi_iret_rip = vcpu.regs.rip
    kvm_make_request(KVM_REQ_EVENT, vcpu)
    return 1


def db_interception(vcpu: KvmVcpu) -> int:
    """The single step that svm_enable_nmi_window asked for is done."""
    vcpu.vmcb.single_step = False
    kvm_make_request(KVM_REQ_EVENT, vcpu)
    return 1


@kernel(FILE)
def svm_complete_interrupts(vcpu: KvmVcpu) -> None:
    """After an exit: what EXITINTINFO names was not delivered to the end and is queued again; the rest has been."""
    info = vcpu.vmcb.exit_int_info
    if vcpu.nmi_iret_rip is not None and vcpu.regs.rip != vcpu.nmi_iret_rip:
        vcpu.nmi_iret_rip, vcpu.nmi_masked = None, False
        kvm_make_request(KVM_REQ_EVENT, vcpu)
    vcpu.nmi_injected = False
    vcpu.exception.injected = False
    vcpu.interrupt = QueuedInterrupt()
    if not info & hw.SVM_EVTINJ_VALID:
        return
    kvm_make_request(KVM_REQ_EVENT, vcpu)
    vector, kind = info & hw.SVM_EVTINJ_VEC_MASK, info & hw.SVM_EVTINJ_TYPE_MASK
    if kind == hw.SVM_EVTINJ_TYPE_NMI:
        vcpu.nmi_injected = True
    elif kind == hw.SVM_EVTINJ_TYPE_EXEPT:
        error = vcpu.vmcb.exit_int_info_err if info & hw.SVM_EVTINJ_VALID_ERR else None
        vcpu.exception = QueuedException(False, True, vector, error)
    else:
        vcpu.interrupt = QueuedInterrupt(True, False, vector)


@kernel(FILE)
def svm_cancel_injection(vcpu: KvmVcpu) -> None:
    """The entry is off: treat the event as if its delivery had been cut short."""
    vmcb = vcpu.vmcb
    vmcb.exit_int_info, vmcb.exit_int_info_err = vmcb.event_inj, vmcb.event_inj_err
    vmcb.event_inj = 0
    svm_complete_interrupts(vcpu)
