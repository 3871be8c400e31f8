"""The APIC timer: one-shot, periodic and TSC-deadline, on a host hrtimer. AMD has no hypervisor timer."""

from __future__ import annotations

from kvmmodel.events import TimerArmed, TimerPending
from kvmmodel.kvm.host_types import trace
from kvmmodel.kvm.kvm_main import kvm_vcpu_kick
from kvmmodel.kvm.lapic.accept import __apic_accept_irq
from kvmmodel.kvm.lapic.registers import (
    apic_lvtt_oneshot,
    apic_lvtt_period,
    apic_lvtt_tscdeadline,
    kvm_apic_hw_enabled,
    kvm_lapic_get_reg,
    kvm_lapic_set_reg,
)
from kvmmodel.kvm.names import kernel
from kvmmodel.kvm.requests import KVM_REQ_UNBLOCK, kvm_make_request
from kvmmodel.kvm.types import KvmLapic, KvmVcpu
from kvmmodel.silicon import apic as hw

FILE = "arch/x86/kvm/lapic.c"


@kernel(FILE)
def kvm_apic_local_deliver(apic: KvmLapic, lvt_type: int) -> int:
    """Deliver from a local vector table entry, if it is not masked."""
    reg = kvm_lapic_get_reg(apic, lvt_type)
    if not kvm_apic_hw_enabled(apic) or reg & hw.APIC_LVT_MASKED:
        return 0
    trig_mode = reg & hw.APIC_INT_LEVELTRIG != 0
    accepted = __apic_accept_irq(apic, reg & hw.APIC_MODE_MASK, reg & hw.APIC_VECTOR_MASK, True, trig_mode)
    if accepted and lvt_type == hw.APIC_LVTPC and not apic.vcpu.kvm.host.has("pmi_leaves_lvtpc"):
        kvm_lapic_set_reg(apic, lvt_type, reg | hw.APIC_LVT_MASKED)
    return accepted


@kernel(FILE)
def apic_update_lvtt(apic: KvmLapic) -> None:
    """Take the mode from LVTT. Going to or from TSC-deadline mode stops the timer and clears what it counted."""
    mode = kvm_lapic_get_reg(apic, hw.APIC_LVTT) & hw.APIC_LVT_TIMER_MASK
    timer = apic.timer
    if timer.timer_mode != mode:
        if hw.APIC_LVT_TIMER_TSCDEADLINE in (mode, timer.timer_mode):
            cancel_apic_timer(apic)
            kvm_lapic_set_reg(apic, hw.APIC_TMICT, 0)
            timer.period = timer.tscdeadline = 0
        timer.timer_mode = mode
        limit_periodic_timer_frequency(apic)


@kernel(FILE)
def cancel_apic_timer(apic: KvmLapic) -> None:
    apic.timer.hrtimer.expires = None
    apic.timer.pending = 0


@kernel(FILE)
def start_apic_timer(apic: KvmLapic) -> None:
    __start_apic_timer(apic, hw.APIC_TMICT)


@kernel(FILE)
def __start_apic_timer(apic: KvmLapic, count_reg: int) -> None:
    """Arm the hrtimer for what the registers say. ``count_reg`` has what is left: TMICT, or a restored TMCCT."""
    apic.timer.pending = 0
    if (apic_lvtt_period(apic) or apic_lvtt_oneshot(apic)) and not set_target_expiration(apic, count_reg):
        return
    restart_apic_timer(apic)


@kernel(FILE)
def restart_apic_timer(apic: KvmLapic) -> None:
    """Not while an expiry waits to be delivered, unless it is periodic."""
    if apic_lvtt_period(apic) or not apic.timer.pending:
        start_sw_timer(apic)


@kernel(FILE)
def start_sw_timer(apic: KvmLapic) -> None:
    """Both mode bits set are no mode: nothing is armed."""
    if apic_lvtt_period(apic) or apic_lvtt_oneshot(apic):
        start_sw_period(apic)
    elif apic_lvtt_tscdeadline(apic):
        start_sw_tscdeadline(apic)


@kernel(FILE)
def start_sw_tscdeadline(apic: KvmLapic) -> None:
    """Armed early by timer_advance_ns; kvm_wait_lapic_expire spins the rest. What is not further off expires at once.

    The guest's TSC is the virtual clock: 1 tick is 1 ns.
    """
    timer = apic.timer
    if not timer.tscdeadline:
        return
    if timer.tscdeadline - apic.vcpu.kvm.host.current.now > timer.timer_advance_ns:
        _arm(apic, timer.tscdeadline - timer.timer_advance_ns)
    else:
        apic_timer_expired(apic, False)


@kernel(FILE)
def start_sw_period(apic: KvmLapic) -> None:
    timer = apic.timer
    if not timer.period:
        return
    if timer.target_expiration <= apic.vcpu.kvm.host.current.now:
        apic_timer_expired(apic, False)
        if apic_lvtt_oneshot(apic):
            return
        advance_periodic_target_expiration(apic)
    _arm(apic, timer.target_expiration)


def _arm(apic: KvmLapic, expires: int) -> None:
    apic.timer.hrtimer.expires = expires
    apic.timer.hrtimer.cpu = apic.vcpu.kvm.host.current.id
    trace(apic.vcpu.kvm.host, TimerArmed, apic.vcpu.vcpu_id, expires)


@kernel(FILE)
def set_target_expiration(apic: KvmLapic, count_reg: int) -> bool:
    """From TMICT. False: it is 0, nothing to arm. Restored: go on from TMCCT, at most TMICT.

    With nothing left of it, a whole period, or (one-shot, newer kernels) at once.
    """
    timer, host = apic.timer, apic.vcpu.kvm.host
    timer.period = tmict_to_ns(apic, kvm_lapic_get_reg(apic, hw.APIC_TMICT))
    timer.tscdeadline = 0
    if not timer.period:
        return False
    limit_periodic_timer_frequency(apic)
    deadline = timer.period
    if count_reg != hw.APIC_TMICT:
        deadline = min(tmict_to_ns(apic, kvm_lapic_get_reg(apic, count_reg)), timer.period)
        if not deadline and not (apic_lvtt_oneshot(apic) and host.has("restored_oneshot_fires")):
            deadline = timer.period
    timer.target_expiration = host.current.now + deadline
    return True


def tmict_to_ns(apic: KvmLapic, tmict: int) -> int:
    return tmict * apic.vcpu.kvm.bus_cycle_ns * apic.timer.divide_count


@kernel(FILE)
def limit_periodic_timer_frequency(apic: KvmLapic) -> None:
    """No guest may keep the host busy with a period that is too short."""
    if apic_lvtt_period(apic) and apic.timer.period:
        apic.timer.period = max(apic.timer.period, apic.vcpu.kvm.host.params["min_timer_period_us"] * 1000)


@kernel(FILE)
def update_divide_count(apic: KvmLapic) -> None:
    apic.timer.divide_count = hw.timer_divide_count(kvm_lapic_get_reg(apic, hw.APIC_TDCR))


@kernel(FILE)
def update_target_expiration(apic: KvmLapic, old_divisor: int) -> None:
    """A new divisor rescales what is left of a running count."""
    timer, now = apic.timer, apic.vcpu.kvm.host.current.now
    timer.period = tmict_to_ns(apic, kvm_lapic_get_reg(apic, hw.APIC_TMICT))
    limit_periodic_timer_frequency(apic)
    remaining = max(timer.target_expiration - now, 0)
    timer.target_expiration = now + remaining * timer.divide_count // old_divisor


@kernel(FILE)
def apic_get_tmcct(apic: KvmLapic) -> int:
    """The current count, computed from the time that is left: 32 bits of it, as a page may bring a smaller divisor."""
    timer = apic.timer
    if not kvm_lapic_get_reg(apic, hw.APIC_TMICT) or not timer.period or apic_lvtt_tscdeadline(apic):
        return 0
    remaining = max(timer.target_expiration - apic.vcpu.kvm.host.current.now, 0) % timer.period
    return remaining // (apic.vcpu.kvm.bus_cycle_ns * timer.divide_count) & 0xFFFFFFFF


@kernel(FILE)
def kvm_get_lapic_tscdeadline_msr(vcpu: KvmVcpu) -> int:
    """0 outside TSC-deadline mode, and while the APIC is disabled."""
    apic = vcpu.apic
    return apic.timer.tscdeadline if kvm_apic_hw_enabled(apic) and apic_lvtt_tscdeadline(apic) else 0


@kernel(FILE)
def kvm_set_lapic_tscdeadline_msr(vcpu: KvmVcpu, data: int) -> None:
    """Ignored outside TSC-deadline mode, and while the APIC is disabled."""
    apic = vcpu.apic
    if not kvm_apic_hw_enabled(apic) or not apic_lvtt_tscdeadline(apic):
        return
    apic.timer.hrtimer.expires = None
    apic.timer.tscdeadline = data
    start_apic_timer(apic)


@kernel(FILE)
def apic_timer_fn(apic: KvmLapic) -> None:
    """The hrtimer callback, in the host's timer interrupt."""
    timer = apic.timer
    timer.hrtimer.expires = None
    apic_timer_expired(apic, True)
    if apic_lvtt_period(apic):
        advance_periodic_target_expiration(apic)
        _arm(apic, timer.target_expiration)


@kernel(FILE)
def advance_periodic_target_expiration(apic: KvmLapic) -> None:
    """One period on. What was missed, newer releases do not make up for: one interrupt stands for all."""
    timer, host = apic.timer, apic.vcpu.kvm.host
    timer.target_expiration += timer.period
    if host.has("missed_periods_are_dropped"):
        timer.target_expiration = max(timer.target_expiration, host.current.now)


@kernel(FILE)
def apic_timer_expired(apic: KvmLapic, from_timer_fn: bool) -> None:
    """Only notes that the timer is pending and gets the vCPU's thread going; that thread delivers the interrupt."""
    timer, vcpu = apic.timer, apic.vcpu
    if timer.pending:
        return
    if apic_lvtt_tscdeadline(apic):
        timer.expired_tscdeadline = timer.tscdeadline
    if not from_timer_fn and apic.apicv_active:
        kvm_apic_inject_pending_timer_irqs(apic)  # its thread has just programmed it: no detour by a request
        return
    timer.pending += 1
    trace(vcpu.kvm.host, TimerPending, vcpu.vcpu_id)
    if "no-timer-request" not in vcpu.kvm.broken:
        kvm_make_request(KVM_REQ_UNBLOCK, vcpu)
    if from_timer_fn and "no-timer-kick" not in vcpu.kvm.broken:
        kvm_vcpu_kick(vcpu)


@kernel(FILE)
def kvm_inject_apic_timer_irqs(vcpu: KvmVcpu) -> None:
    """In the vCPU's own thread: the pending expiry becomes an interrupt in the IRR."""
    apic = vcpu.apic
    if not apic.timer.pending:
        return
    kvm_apic_inject_pending_timer_irqs(apic)
    apic.timer.pending = 0


@kernel(FILE)
def kvm_apic_inject_pending_timer_irqs(apic: KvmLapic) -> None:
    kvm_apic_local_deliver(apic, hw.APIC_LVTT)
    if apic_lvtt_tscdeadline(apic):
        apic.timer.tscdeadline = 0
    elif apic_lvtt_oneshot(apic):
        apic.timer.tscdeadline = apic.timer.target_expiration = 0
