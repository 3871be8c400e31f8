"""The vCPU's loop: vcpu_run, vcpu_block and vcpu_enter_guest. Read vcpu_enter_guest first, it is the heart.

These are generators because they span VMRUN and schedule(); everything that they call is a plain function.
"""

from __future__ import annotations

from kvmmodel.kvm.apicv import kvm_vcpu_update_apicv
from kvmmodel.kvm.eoi_scan import vcpu_scan_ioapic
from kvmmodel.kvm.host_irqs import take_irqs
from kvmmodel.kvm.host_types import Run
from kvmmodel.kvm.hv_stimer import kvm_hv_process_stimers
from kvmmodel.kvm.hyperv import exit_for_hyperv
from kvmmodel.kvm.kvm_main import kvm_vcpu_halt, set_mode, wait_for_events
from kvmmodel.kvm.lapic.eoi import kvm_lapic_sync_from_vapic, kvm_lapic_sync_to_vapic
from kvmmodel.kvm.lapic.priority import kvm_lapic_update_cr8_intercept
from kvmmodel.kvm.lapic.registers import apic_enabled, apic_has_pending_timer
from kvmmodel.kvm.lapic.timer import kvm_inject_apic_timer_irqs
from kvmmodel.kvm.names import kernel
from kvmmodel.kvm.ops import kvm_x86_ops
from kvmmodel.kvm.requests import (
    KVM_REQ_APICV_UPDATE,
    KVM_REQ_EVENT,
    KVM_REQ_HV_EXIT,
    KVM_REQ_HV_STIMER,
    KVM_REQ_IOAPIC_EOI_EXIT,
    KVM_REQ_MIGRATE_TIMER,
    KVM_REQ_SCAN_IOAPIC,
    KVM_REQ_TLB_FLUSH_CURRENT,
    KVM_REQ_UNBLOCK,
    KVM_REQ_UNHALT,
    barrier,
    kvm_check_request,
    kvm_make_request,
)
from kvmmodel.kvm.runnable import kvm_arch_vcpu_runnable, kvm_set_mp_state, take_unhalt
from kvmmodel.kvm.sched import schedule
from kvmmodel.kvm.types import (
    EXITING_GUEST_MODE,
    IN_GUEST_MODE,
    KVM_MP_STATE_HALTED,
    KVM_MP_STATE_RUNNABLE,
    OUTSIDE_GUEST_MODE,
    KvmVcpu,
)
from kvmmodel.kvm.x86.clock import take_clock_requests
from kvmmodel.kvm.x86.extint import (
    dm_request_for_irq_injection,
    exit_for_ioapic_eoi,
    exit_for_irq_window,
    kvm_cpu_accept_dm_intr,
)
from kvmmodel.kvm.x86.fastpath import EXIT_FASTPATH_REENTER_GUEST
from kvmmodel.kvm.x86.inject import kvm_apic_accept_events, kvm_check_and_inject_events, take_smi_and_nmi_requests

FILE = "arch/x86/kvm/x86.c"


@kernel(FILE)
def vcpu_run(vcpu: KvmVcpu) -> Run:
    """KVM_RUN until userspace is needed."""
    while True:
        if vcpu.mp_state == KVM_MP_STATE_RUNNABLE:
            r = yield from vcpu_enter_guest(vcpu)
        else:
            r = yield from vcpu_block(vcpu)
        if r <= 0:
            return r
        kvm_check_request(KVM_REQ_UNBLOCK, vcpu)
        if apic_has_pending_timer(vcpu):
            kvm_inject_pending_timer_irqs(vcpu)
        if exit_for_irq_window(vcpu):
            return 0
        if vcpu.kvm.host.current.need_resched:
            yield from xfer_to_guest_mode_handle_work(vcpu)


@kernel("arch/x86/kvm/irq.c")
def kvm_inject_pending_timer_irqs(vcpu: KvmVcpu) -> None:
    kvm_inject_apic_timer_irqs(vcpu)


@kernel("kernel/entry/kvm.c")
def xfer_to_guest_mode_handle_work(vcpu: KvmVcpu) -> Run:
    """Another thread wants this CPU."""
    yield from schedule(vcpu)


@kernel(FILE)
def vcpu_block(vcpu: KvmVcpu) -> Run:
    """Not runnable: halt or wait. Then see whether it is now."""
    if not kvm_arch_vcpu_runnable(vcpu):
        if vcpu.mp_state == KVM_MP_STATE_HALTED:
            yield from kvm_vcpu_halt(vcpu)
        else:
            yield from wait_for_events(vcpu)
        unhalted = vcpu.kvm.host.has("no_req_unhalt") or kvm_check_request(KVM_REQ_UNHALT, vcpu)
        if not unhalted or not kvm_arch_vcpu_runnable(vcpu):
            return 1
    if vcpu.guest_mode:
        kvm_x86_ops.check_nested_events(vcpu)  # L1 sees an exit of a halted L2, not of one that runs on
    kvm_apic_accept_events(vcpu)
    if vcpu.mp_state == KVM_MP_STATE_HALTED:
        take_unhalt(vcpu)
        kvm_set_mp_state(vcpu, KVM_MP_STATE_RUNNABLE)
    return 1


@kernel(FILE)
def vcpu_enter_guest(vcpu: KvmVcpu) -> Run:
    """One entry: requests, events, the mode and its barriers, VMRUN, and the exit. 1: go on; 0: to userspace."""
    host, ops = vcpu.kvm.host, kvm_x86_ops
    vcpu.immediate_exit = False
    if vcpu.requests:
        kvm_check_request(KVM_REQ_MIGRATE_TIMER, vcpu)
        take_clock_requests(vcpu)
        kvm_check_request(KVM_REQ_TLB_FLUSH_CURRENT, vcpu)  # the model has no TLB
        take_smi_and_nmi_requests(vcpu)
        if kvm_check_request(KVM_REQ_IOAPIC_EOI_EXIT, vcpu) and exit_for_ioapic_eoi(vcpu):
            return 0
        if kvm_check_request(KVM_REQ_SCAN_IOAPIC, vcpu):
            vcpu_scan_ioapic(vcpu)
        if kvm_check_request(KVM_REQ_HV_EXIT, vcpu):
            exit_for_hyperv(vcpu)
            return 0
        if kvm_check_request(KVM_REQ_HV_STIMER, vcpu):
            kvm_hv_process_stimers(vcpu)
        if kvm_check_request(KVM_REQ_APICV_UPDATE, vcpu):
            yield from kvm_vcpu_update_apicv(vcpu)
    window = dm_request_for_irq_injection(vcpu) and kvm_cpu_accept_dm_intr(vcpu)
    if kvm_check_request(KVM_REQ_EVENT, vcpu) or window:
        kvm_apic_accept_events(vcpu)
        if vcpu.mp_state != KVM_MP_STATE_RUNNABLE:
            return 1
        kvm_check_and_inject_events(vcpu)
        if window:
            ops.enable_irq_window(vcpu)
        if apic_enabled(vcpu.apic):
            kvm_lapic_update_cr8_intercept(vcpu)
            kvm_lapic_sync_to_vapic(vcpu)
    # preemption and interrupts are off from here on; a sender that sees IN_GUEST_MODE sends an IPI
    set_mode(vcpu, IN_GUEST_MODE)
    barrier(vcpu, "smp_mb__after_srcu_read_unlock")
    if kvm_vcpu_exit_request(vcpu):
        set_mode(vcpu, OUTSIDE_GUEST_MODE)
        take_irqs(host)
        if vcpu.immediate_exit:
            kvm_make_request(KVM_REQ_EVENT, vcpu)
        ops.cancel_injection(vcpu)
        kvm_lapic_sync_from_vapic(vcpu)
        return 1
    if vcpu.immediate_exit:
        kvm_make_request(KVM_REQ_EVENT, vcpu)
    while True:
        fastpath = yield from ops.vcpu_run(vcpu)
        if fastpath != EXIT_FASTPATH_REENTER_GUEST:
            break
        if kvm_vcpu_exit_request(vcpu) or not host.has("reenter_guest_loop"):
            break
    set_mode(vcpu, OUTSIDE_GUEST_MODE)
    ops.handle_exit_irqoff(vcpu)
    take_irqs(host)  # interrupts are on for a moment: the host's own interrupt, if that was the reason, is handled here
    if vcpu.pv_eoi_attention:
        kvm_lapic_sync_from_vapic(vcpu)
    return ops.handle_exit(vcpu, fastpath)


@kernel(FILE)
def kvm_vcpu_exit_request(vcpu: KvmVcpu) -> bool:
    """Asked after the mode is visible: whoever made a request before is seen here, whoever comes after sends an IPI."""
    return vcpu.mode == EXITING_GUEST_MODE or vcpu.requests != 0 or vcpu.kvm.host.current.need_resched
