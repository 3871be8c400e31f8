"""Injecting interrupts and exceptions by EVENTINJ, whether it is allowed, and the window that tells when it will be."""

from __future__ import annotations

from kvmmodel.events import IrqWindow, KvmInjException, KvmInjVirq
from kvmmodel.kvm.apicv import kvm_clear_apicv_inhibit, kvm_inc_or_dec_irq_window_inhibit, kvm_set_apicv_inhibit
from kvmmodel.kvm.host_types import trace
from kvmmodel.kvm.names import kernel
from kvmmodel.kvm.requests import KVM_REQ_EVENT, kvm_make_request
from kvmmodel.kvm.runnable import kvm_cpu_has_injectable_intr
from kvmmodel.kvm.svm.intercepts import svm_clr_intercept, svm_is_intercept, svm_set_intercept
from kvmmodel.kvm.svm.nmi import EBUSY
from kvmmodel.kvm.svm.predicates import gif_set, nested_exit_on_intr
from kvmmodel.kvm.types import KvmVcpu, QueuedException, QueuedInterrupt
from kvmmodel.silicon import vmcb as hw

FILE = "arch/x86/kvm/svm/svm.c"


@kernel(FILE)
def svm_inject_irq(vcpu: KvmVcpu, reinjected: bool) -> None:
    wanted = not vcpu.guest_mode and kvm_cpu_has_injectable_intr(vcpu)
    if vcpu.avic_irq_window and not wanted:
        vcpu.avic_irq_window = False
        kvm_inc_or_dec_irq_window_inhibit(vcpu.kvm, False)
    trace(vcpu.kvm.host, KvmInjVirq, vcpu.interrupt.nr, vcpu.interrupt.soft, reinjected)
    vcpu.vmcb.event_inj = hw.SVM_EVTINJ_VALID | hw.SVM_EVTINJ_TYPE_INTR | vcpu.interrupt.nr


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
    """GIF clear, IF clear, or an interrupt shadow. While L2 runs with V_INTR_MASKING, it is L1's IF that counts."""
    if not gif_set(vcpu):
        return True
    if not vcpu.guest_mode:
        return not vcpu.vmcb.rflags_if or vcpu.vmcb.int_state
    masking = vcpu.nested.ctl.v_intr_masking
    if not (vcpu.vmcb01.rflags_if if masking else vcpu.vmcb.rflags_if):
        return True
    return not nested_exit_on_intr(vcpu) and vcpu.vmcb.int_state  # an exit is possible in a shadow


@kernel(FILE)
def svm_interrupt_allowed(vcpu: KvmVcpu, for_injection: bool) -> int:
    """1: yes, 0: no, negative: not now, ask again at once."""
    if vcpu.nested.nested_run_pending and not vcpu.kvm.host.has("blocked_before_nested_run"):
        return -EBUSY
    if svm_interrupt_blocked(vcpu):
        return 0
    if vcpu.nested.nested_run_pending:
        return -EBUSY
    return -EBUSY if for_injection and vcpu.guest_mode and nested_exit_on_intr(vcpu) else 1


@kernel(FILE)
def svm_enable_irq_window(vcpu: KvmVcpu) -> None:
    """Have the processor exit as soon as the guest could take an interrupt: a virtual one that it never sees.

    With GIF clear only vGIF makes the processor wait for it; without, STGI exits, and this is asked again.
    """
    if "no-window" not in vcpu.kvm.broken and (vcpu.kvm.host.params["vgif"] or gif_set(vcpu)):
        if "no-window-inhibit" not in vcpu.kvm.broken:
            _inhibit_for_window(vcpu)
        svm_set_vintr(vcpu)


def _inhibit_for_window(vcpu: KvmVcpu) -> None:
    """V_IRQ means nothing while AVIC is on, so it has to go, for the whole VM. From 7.1 on the vCPUs are counted."""
    host, kvm = vcpu.kvm.host, vcpu.kvm
    if vcpu.guest_mode and host.has("irqwin_not_in_l2"):
        return
    if not host.has("irqwin_counted"):
        kvm_set_apicv_inhibit(kvm, "IRQWIN")
    elif not vcpu.avic_irq_window:
        vcpu.avic_irq_window = True
        kvm_inc_or_dec_irq_window_inhibit(kvm, True)


@kernel(FILE)
def svm_set_vintr(vcpu: KvmVcpu) -> None:
    svm_set_intercept(vcpu, hw.SVM_EXIT_VINTR)
    if not svm_is_intercept(vcpu, hw.SVM_EXIT_VINTR):
        return  # L2 runs, and L1's IF is clear: no window can open before L2 ends
    vcpu.vmcb.v_irq, vcpu.vmcb.v_intr_prio, vcpu.vmcb.int_vector = True, 0xF, 0
    trace(vcpu.kvm.host, IrqWindow, vcpu.vcpu_id, True)


@kernel(FILE)
def svm_clear_vintr(vcpu: KvmVcpu) -> None:
    """While L2 runs, its virtual interrupt comes back to where KVM's was."""
    svm_clr_intercept(vcpu, hw.SVM_EXIT_VINTR)
    was = vcpu.vmcb.v_irq
    vcpu.vmcb01.v_irq, vcpu.vmcb01.v_intr_prio, vcpu.vmcb01.v_ign_tpr = False, 0, False
    if vcpu.guest_mode:
        ctl, vmcb = vcpu.nested.ctl, vcpu.vmcb
        vmcb.v_irq, vmcb.v_intr_prio, vmcb.v_ign_tpr = ctl.v_irq, ctl.v_intr_prio, ctl.v_ign_tpr
        vmcb.int_vector = ctl.int_vector
    if was:
        trace(vcpu.kvm.host, IrqWindow, vcpu.vcpu_id, False)


@kernel(FILE)
def interrupt_window_interception(vcpu: KvmVcpu) -> int:
    kvm_make_request(KVM_REQ_EVENT, vcpu)
    svm_clear_vintr(vcpu)
    if not vcpu.kvm.host.has("irqwin_counted"):
        kvm_clear_apicv_inhibit(vcpu.kvm, "IRQWIN")
    return 1


@kernel(FILE)
def svm_complete_interrupts(vcpu: KvmVcpu) -> None:
    """After an exit: what EXITINTINFO names was not delivered to the end and is queued again; the rest has been."""
    info = vcpu.vmcb.exit_int_info
    nmi_l1_to_l2, vcpu.nested.nmi_l1_to_l2 = vcpu.nested.nmi_l1_to_l2, False
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
        vcpu.nmi_injected, vcpu.nested.nmi_l1_to_l2 = True, nmi_l1_to_l2
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
