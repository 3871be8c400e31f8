"""The steps of the APIC timer alone: its hrtimer, the callback, and what the vCPU's thread makes of it."""

from __future__ import annotations

from typing import Any

from kvmmodel import events as ev
from kvmmodel.machine.record import Record
from kvmmodel.trace.cast import Cast
from kvmmodel.trace.telling import Teller, Told, in_kvm


def _host_irq(cast: Cast, record: Record, e: Any) -> Told | None:
    if e.name != "timer" or cast.source != "timer" or record.cpu != cast.target_cpu:
        return None
    why = f"The host timer that stands for the guest's fires on CPU {record.cpu}: KVM's callback runs."
    at, to = ("t.kvm", "dev") if record.vcpu == cast.target else ("dev", None)
    return Told("timer", at, to, "hrtimer fires", "`apic_timer_fn`", f"Host timer, CPU {record.cpu}", why)


def _check_block(cast: Cast, record: Record, e: Any) -> Told | None:
    if not (e.wakes and cast.pending):
        return None
    why = f"A pending timer is a reason not to sleep, though vCPU {e.vcpu_id} has no interrupt in its IRR yet."
    return in_kvm(cast, record, "read", "`check_block`: timer pending", "IRR is still empty", why)


def timer_armed(cast: Cast, record: Record, e: Any) -> Told | None:
    names = {f.name for f in record.stack}
    if "apic_timer_fn" in names:
        why = "The timer is periodic, so its callback arms it again before it returns."
        return in_kvm(cast, record, "timer", "hrtimer armed again", "for the next period", why)
    what = "deadline" if "start_sw_tscdeadline" in names else "count"
    why = f"KVM arms an hrtimer of the host, on this CPU, for the guest's {what}."
    return in_kvm(cast, record, "timer", "hrtimer armed", f"for the guest's {what}", why)


def _timer_pending(cast: Cast, record: Record, e: Any) -> Told | None:
    why = f"The expired timer is only noted as pending: vCPU {e.vcpu_id}'s own thread has to deliver it."
    return in_kvm(cast, record, "timer", "timer pending", "not delivered yet", why)


def _wait_lapic_expire(cast: Cast, record: Record, e: Any) -> Told | None:
    if e.delta < 0:
        why = "The hrtimer was armed a little early on purpose: KVM spins here until the deadline, then enters."
        return in_kvm(cast, record, "timer", "spin until the deadline", "`kvm_wait_lapic_expire`", why)
    why = "The deadline has passed by now, so there is nothing to wait for: KVM only notes how late it was."
    return in_kvm(cast, record, "no", "deadline has passed: no wait", "`kvm_wait_lapic_expire`", why)


TIMER_TELLERS: dict[type[ev.Event], Teller] = {
    ev.HostIrq: _host_irq,
    ev.CheckBlock: _check_block,
    ev.TimerArmed: timer_armed,
    ev.TimerPending: _timer_pending,
    ev.KvmWaitLapicExpire: _wait_lapic_expire,
}
