"""What one access of a guest to its local APIC becomes in a story: instruction, exit, what KVM does, entry."""

from __future__ import annotations

from typing import Any

from kvmmodel import events as ev
from kvmmodel.machine.record import Record
from kvmmodel.silicon.apic import REGISTER_NAMES
from kvmmodel.trace.cast import Cast
from kvmmodel.trace.telling import (
    Teller,
    Told,
    clear_isr,
    in_kvm,
    inject,
    meant,
    pv_eoi,
    request,
    set_irr,
    vmexit,
    vmrun,
    who_on,
)
from kvmmodel.trace.telling_program import tpr_sync, update_ppr
from kvmmodel.trace.telling_timer import timer_armed

KICKED = {
    "woken": "The thread was asleep: the kick wakes it, and KVM sends no IPI.",
    "itself": "The target is the vCPU that this CPU runs: it will check its requests before entry.",
    "ipi": "The target is in the guest: the kick sends a host IPI to get it out.",
    "nothing": "Its thread is awake and not in guest mode: nothing to do.",
}


def _instruction(cast: Cast, record: Record, e: Any) -> Told:
    reads = e.text.startswith(("RDMSR", "MOV r,"))
    why = f"The guest {'reads' if reads else 'writes'}: `{e.text}`."
    return Told("read" if reads else "write", "t.guest", None, f"`{e.text}`", "", who_on("Guest", record), why)


def _register(cast: Cast, record: Record, e: Any) -> Told | None:
    name, what = REGISTER_NAMES.get(e.reg, hex(e.reg)), "write" if e.write else "read"
    why = f"KVM's own register page is where `{name}` is: the access ends there."
    return in_kvm(cast, record, "table", f"`apic_{what}` `{name}`", f"`{e.val:#x}`", why)


def _ipi(cast: Cast, record: Record, e: Any) -> Told | None:
    why = "KVM decodes the message: vector, delivery mode, destination."
    return in_kvm(cast, record, "read", "`kvm_apic_ipi`", meant(e), why)


def _event_pass(cast: Cast, record: Record, e: Any) -> Told | None:
    return request(cast, record, e) if e.request == "EVENT" else None


def _kick(cast: Cast, record: Record, e: Any) -> Told | None:
    label = f"kick: {'host IPI' if e.outcome == 'ipi' else e.outcome}"
    return in_kvm(cast, record, "kick", label, f"of vCPU {e.vcpu_id}", KICKED[e.outcome])


def _mode(cast: Cast, record: Record, e: Any) -> Told | None:
    if e.vcpu_id != cast.target:
        return None  # the kick marks its target as exiting
    if e.mode == "OUTSIDE_GUEST_MODE":
        why = "KVM leaves the entry loop, and the host takes interrupts again before the exit is handled."
        return in_kvm(cast, record, "resume", "mode := outside guest", "host interrupts on", why)
    why = "The way back in: `mode` says in guest, then a barrier, then a last look at requests."
    return in_kvm(cast, record, "barrier", "mode := in guest", "then check requests", why)


def _exception(cast: Cast, record: Record, e: Any) -> Told | None:
    name = {13: "#GP"}.get(e.exception, f"exception {e.exception}")
    why = f"KVM refuses the access: the guest gets `{name}` through `EVENTINJ`."
    return in_kvm(cast, record, "inject", f"`EVENTINJ` `{name}`", "the access is refused", why)


ACCESS_TELLERS: dict[type[ev.Event], Teller] = {
    ev.Instruction: _instruction,
    ev.VmExit: vmexit,
    ev.SetMode: _mode,
    ev.KvmApic: _register,
    ev.KvmApicIpi: _ipi,
    ev.SetIrr: set_irr,
    ev.MakeRequest: _event_pass,
    ev.Kick: _kick,
    ev.ClearIsr: clear_isr,
    ev.TimerArmed: timer_armed,
    ev.TprSync: tpr_sync,
    ev.UpdatePpr: update_ppr,
    ev.KvmInjVirq: inject,
    ev.KvmInjException: _exception,
    ev.PvEoiByGuest: pv_eoi,
    ev.VmRun: vmrun,
}
