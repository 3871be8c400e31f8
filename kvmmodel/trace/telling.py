"""What each kind of event becomes in a story: glyph, label, second line and one sentence, cause before effect."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from kvmmodel import events as ev
from kvmmodel.machine.record import Record
from kvmmodel.silicon.apic import APIC_DEST_LOGICAL
from kvmmodel.silicon.vmcb import SVM_EVTINJ_TYPE_MASK, SVM_EVTINJ_TYPE_NMI
from kvmmodel.trace.cast import Cast, lane


@dataclass(frozen=True, slots=True)
class Told:
    """One step, as far as words go. ``at`` and ``to`` are columns; ``who`` says who acts."""

    kind: str
    at: str
    to: str | None
    label: str
    detail: str
    who: str
    sentence: str


Teller = Callable[[Cast, Record, Any], Told | None]
REASONS = {
    "msr": "MSR",
    "hlt": "HLT",
    "interrupt": "INTR",
    "npf": "NPF",
    "io": "IOIO",
    "vintr": "VINTR",
    "write_cr8": "WRITE_CR8",
    "stgi": "STGI",
    "clgi": "CLGI",
    "iret": "IRET",
    "rsm": "RSM",
    "DB excp": "#DB",
    "hypercall": "VMMCALL",
    "avic_incomplete_ipi": "AVIC_INCOMPLETE_IPI",
    "avic_unaccelerated_access": "AVIC_NOACCEL",
}


def who_on(name: str, record: Record) -> str:
    return f"{name} on CPU {record.cpu}"


def column(cast: Cast, vcpu: int, lane: str) -> str:
    """A vCPU's own: guest, hw or kvm."""
    return f"{'t' if cast.sender == cast.target else cast.prefix(vcpu)}.{lane}"


def _guest(cast: Cast, vcpu: int) -> str:
    return column(cast, vcpu, "guest")


def _kvm(cast: Cast, record: Record) -> str | None:
    place = lane(cast, record)
    return "t.kvm" if place == "s.kvm" and cast.sender == cast.target else place


def _who(at: str, record: Record) -> str:
    """KVM's code runs in somebody's thread, or in the host timer's interrupt."""
    return who_on("Timer callback" if at == "dev" else "KVM", record)


def in_kvm(cast: Cast, record: Record, kind: str, label: str, detail: str, sentence: str) -> Told | None:
    at = _kvm(cast, record)
    return None if at is None else Told(kind, at, None, label, detail, _who(at, record), sentence)


WRITES = {
    "WRMSR 0x830": "writes the x2APIC ICR, so an IPI is to be sent",
    "MOV [0xfee00310]": "writes ICR2, the destination of the IPI that follows",
    "MOV [0xfee00300]": "writes the ICR, so an IPI is to be sent",
    "WRMSR 0x83f": "writes SELF_IPI, so an IPI to itself is to be sent",
    "WRMSR 0x6e0": "sets its TSC deadline",
    "WRMSR 0x838": "writes the timer's initial count, which starts it",
    "WRMSR 0x80b": "writes the EOI register",
    "MOV [0xfee000b0]": "writes the EOI register",
}


def _instruction(cast: Cast, record: Record, e: Any) -> Told | None:
    if not e.text.startswith(("WRMSR", "HLT", "MOV [")):
        return None
    hlt = e.text == "HLT"
    name = e.text.split(" = ")[0]
    what = "has nothing to do and executes `HLT`" if hlt else WRITES.get(name, f"executes `{name}`")
    at = _guest(cast, e.vcpu_id)
    vcpu, kind = f"vCPU {e.vcpu_id}", "halt" if hlt else "write"
    return Told(kind, at, None, f"`{e.text}`", vcpu, who_on("Guest", record), f"{vcpu} {what}.")


def vmexit(cast: Cast, record: Record, e: Any) -> Told:
    why = {
        "interrupt": "A host interrupt arrived at this CPU, so the processor leaves the guest.",
        "hlt": "`HLT` is intercepted: the processor leaves the guest.",
        "idle-halt": "`HLT` with no virtual interrupt pending is intercepted: the processor leaves the guest.",
        "msr": "MSR accesses like this one are intercepted: the processor leaves the guest.",
        "npf": "The APIC page is not mapped: the access leaves the guest.",
        "hypercall": "`VMMCALL` is intercepted, as it is meant for KVM: the processor leaves the guest.",
        "vintr": "The guest can take interrupts now: the IRQ window that KVM asked for is open.",
        "write_cr8": "KVM intercepts CR8 writes for now, so this one leaves the guest.",
        "avic_incomplete_ipi": "AVIC could not finish the IPI: the write is done, and the processor leaves the guest.",
        "avic_unaccelerated_access": "AVIC does not do this access alone: the processor leaves the guest.",
    }.get(e.reason, "The event is intercepted: the processor leaves the guest.")
    guest = _guest(cast, e.vcpu_id)
    name = REASONS.get(e.reason, e.reason)
    label, detail = f"`#VMEXIT` {name}", f"exit code `{e.code:#x}`"
    return Told("exit", guest, guest.replace("guest", "kvm"), label, detail, f"Processor, CPU {record.cpu}", why)


def vmrun(cast: Cast, record: Record, e: Any) -> Told:
    guest = _guest(cast, e.vcpu_id)
    nmi = e.event_inj & SVM_EVTINJ_TYPE_MASK == SVM_EVTINJ_TYPE_NMI
    what = "the NMI" if nmi else f"vector `{e.event_inj & 0xFF:#x}`"
    label = f"`VMRUN` injects {what.removeprefix('vector ')}" if e.event_inj else "`VMRUN`"
    why = (
        f"`VMRUN` enters the guest, and {what} is delivered before any further guest instruction."
        if e.event_inj
        else f"`VMRUN`: vCPU {e.vcpu_id} enters the guest, KVM injects nothing."
    )
    detail = f"vCPU {e.vcpu_id} enters"
    return Told("entry", guest.replace("guest", "kvm"), guest, label, detail, f"Processor, CPU {record.cpu}", why)


SHORTHANDS = ("", "to the sender itself", "to all", "to all but the sender")  # the ICR's bits 19:18


def meant(e: Any) -> str:
    """Whom an IPI is for, as its message says. With a shorthand the destination has no meaning."""
    where = f"logical {e.dest_id:#x}" if e.icr_low & APIC_DEST_LOGICAL else f"APIC ID {e.dest_id}"
    return SHORTHANDS[e.icr_low >> 18 & 3] or f"to {where}"


def _ipi(cast: Cast, record: Record, e: Any) -> Told | None:
    if all(f.name != "kvm_apic_send_ipi" for f in record.stack):
        return None  # the fast path of 6.18 reports it after the delivery
    why = f"KVM decodes the message: vector, delivery mode, destination. It goes {meant(e)}."
    return in_kvm(cast, record, "read", "KVM decodes the message", meant(e), why)


def _msi(cast: Cast, record: Record, e: Any) -> Told | None:
    if cast.source != "msi":
        return None
    why = "A device raised its interrupt: userspace hands KVM the message by `KVM_SIGNAL_MSI`."
    to = _kvm(cast, record)
    if to is None:
        return None
    return Told("msi", "dev", to, "`KVM_SIGNAL_MSI`", f"vec `{e.data & 255:#x}`", who_on("VMM thread", record), why)


def set_irr(cast: Cast, record: Record, e: Any) -> Told | None:
    why = f"KVM sets bit `{e.vector:#x}` in the IRR of vCPU {e.vcpu_id}: the interrupt is requested, not yet delivered."
    return in_kvm(cast, record, "set_irr", f"set IRR `{e.vector:#x}`", f"in the page of vCPU {e.vcpu_id}", why)


def _barrier(cast: Cast, record: Record, e: Any) -> Told | None:
    if e.name != "smp_mb__after_atomic" or cast.delivering != cast.target:
        return None
    why = "A full barrier: the IRR is visible before the sender looks where the target is."
    return in_kvm(cast, record, "barrier", f"`{e.name}`", "IRR before mode", why)


def _read_mode(cast: Cast, record: Record, e: Any) -> Told | None:
    inside = e.mode == "IN_GUEST_MODE"
    label = f"mode {'in guest' if inside else 'outside'}, AVIC {int(e.apicv_active)}"
    if e.apicv_active:
        signal = "a doorbell" if inside else "a wake-up, if its thread sleeps"
        why = f"AVIC is on there; `mode` ({_mode(e.mode)}) says what its processor needs: {signal}."
        return in_kvm(cast, record, "read", label, f"of vCPU {e.vcpu_id}", why)
    why = f"AVIC is off there, so KVM must inject; `mode` ({_mode(e.mode)}) would choose between doorbell and wake-up."
    return in_kvm(cast, record, "read", label, f"of vCPU {e.vcpu_id}", why)


def _mode(mode: str) -> str:
    return {"IN_GUEST_MODE": "in guest", "OUTSIDE_GUEST_MODE": "outside guest"}.get(
        mode, mode.lower().replace("_", " ")
    )


def request(cast: Cast, record: Record, e: Any) -> Told | None:
    if e.request not in ("EVENT", "UNBLOCK", "APICV_UPDATE"):
        return None
    why = {
        "EVENT": f"KVM asks vCPU {e.vcpu_id} for an event pass before its next entry.",
        "UNBLOCK": f"KVM tells vCPU {e.vcpu_id} not to sleep: its own thread has to deliver the timer's interrupt.",
        "APICV_UPDATE": f"vCPU {e.vcpu_id} is to switch AVIC on or off, before its next entry.",
    }[e.request]
    return in_kvm(cast, record, "request", f"request `{e.request}`", f"of vCPU {e.vcpu_id}", why)


def _kick(cast: Cast, record: Record, e: Any) -> Told | None:
    why = {
        "itself": "The target is the vCPU that this CPU runs: no IPI, it will check its requests before entry.",
        "nothing": "Its thread is awake and it is not in guest mode: nothing to wake, no IPI to send.",
    }.get(e.outcome)
    if why is None:
        return None
    return in_kvm(cast, record, "no", "`kvm_vcpu_kick`: nothing to do", "no wake-up, no IPI", why)


def _wake(cast: Cast, record: Record, e: Any) -> Told | None:
    at = _kvm(cast, record)
    if e.vcpu_id != cast.target or at is None:
        return None
    why = f"vCPU {e.vcpu_id}'s thread is asleep, so `kvm_vcpu_kick` wakes it, and KVM sends no IPI of its own."
    label = "kick wakes the thread"
    if all(frame.name != "kvm_vcpu_kick" for frame in record.stack):
        why = f"vCPU {e.vcpu_id}'s thread is asleep, so `kvm_vcpu_wake_up` wakes it: once it runs, hardware delivers."
        label = "KVM wakes the thread"
    return Told("wake", at, "sched", label, "by `try_to_wake_up`", _who(at, record), why)


def _host_ipi(cast: Cast, record: Record, e: Any) -> Told | None:
    if e.target_cpu != cast.target_cpu:
        return None
    if e.name == "call_function_single":
        why = f"CPU {e.target_cpu} is idle: the scheduler queues the thread there and sends a host IPI."
        label = f"host IPI to idle CPU {e.target_cpu}"
        return Told("kick", "sched", "t.kvm", label, "from the scheduler", who_on("Scheduler", record), why)
    at = _kvm(cast, record)
    if at is None:
        return None
    if all(frame.name != "kvm_vcpu_kick" for frame in record.stack):
        why = f"vCPU {cast.target} is in the guest: a host IPI to CPU {e.target_cpu} gets it to see the request."
        label = f"host IPI to CPU {e.target_cpu}"
        return Told("kick", at, "t.guest", label, "to see a request", who_on("KVM", record), why)
    why = f"vCPU {cast.target} is in the guest: `kvm_vcpu_kick` sends CPU {e.target_cpu} a host IPI to get it out."
    return Told("kick", at, "t.guest", f"host IPI to CPU {e.target_cpu}", "reschedule", who_on("KVM", record), why)


def _sched_in(cast: Cast, record: Record, e: Any) -> Told | None:
    if record.vcpu != cast.target:
        return None
    why = f"CPU {record.cpu} switches to vCPU {cast.target}'s thread, which goes on where it stopped."
    return Told("resume", "sched", "t.kvm", "the thread runs", f"on CPU {record.cpu}", who_on("Scheduler", record), why)


def _sched_out(cast: Cast, record: Record, e: Any) -> Told | None:
    if record.vcpu != cast.target or not e.preempted:
        return None
    why = f"Another thread takes CPU {record.cpu}: vCPU {cast.target} is runnable, but does not run."
    return Told("preempt", "t.kvm", "sched", "thread preempted", "stays runnable", who_on("Scheduler", record), why)


def _block(cast: Cast, record: Record, e: Any) -> Told | None:
    why = f"Nothing waits for vCPU {e.vcpu_id}: its thread goes to sleep in `kvm_vcpu_block`."
    return in_kvm(cast, record, "halt", "`kvm_vcpu_block` sleeps", f"vCPU {e.vcpu_id}", why)


def _check_request(cast: Cast, record: Record, e: Any) -> Told | None:
    if e.request == "UNBLOCK":
        why = f"vCPU {e.vcpu_id}'s loop clears the request, then looks whether its timer is pending: it is."
        return in_kvm(cast, record, "read", "clears `KVM_REQ_UNBLOCK`", "then looks at its timer", why)
    if e.request == "APICV_UPDATE":
        why = f"vCPU {e.vcpu_id} finds `KVM_REQ_APICV_UPDATE`, and does as the VM's inhibits say now."
        return in_kvm(cast, record, "read", "finds `KVM_REQ_APICV_UPDATE`", "AVIC on or off", why)
    if e.request != "EVENT":
        return None
    why = f"vCPU {e.vcpu_id} finds `KVM_REQ_EVENT` on its way into the guest, and looks at its APIC."
    return in_kvm(cast, record, "read", "finds `KVM_REQ_EVENT`", "event pass", why)


def inject(cast: Cast, record: Record, e: Any) -> Told | None:
    why = f"Vector `{e.vector:#x}` moves from IRR to ISR and is written to `EVENTINJ`: that is the injection."
    return in_kvm(cast, record, "inject", f"`EVENTINJ` `{e.vector:#x}`: IRR to ISR", "in the VMCB", why)


def _set_mode(cast: Cast, record: Record, e: Any) -> Told | None:
    if e.vcpu_id == cast.target and e.mode == "OUTSIDE_GUEST_MODE" and cast.entering and cast.pending:
        cast.entering = False
        why = "A request came in after the loop had looked for a pending timer, so this entry is given up."
        return in_kvm(cast, record, "no", "a request waits: no `VMRUN`", "once more round the loop", why)
    waits = cast.pending or any(s.vcpu == cast.target and (s.irr | s.isr) >> cast.vector & 1 for s in record.states)
    if e.mode != "IN_GUEST_MODE" or e.vcpu_id != cast.target or not waits:
        return None  # only the entry that brings the interrupt in
    cast.entering = True
    signal = "rings the doorbell" if cast.avic else "sends an IPI"
    why = f"`vcpu->mode` says in guest, then a barrier, then a last look at requests: who sends now, {signal}."
    return in_kvm(cast, record, "barrier", "mode := in guest", "then check requests", why)


def handler(cast: Cast, record: Record, e: Any) -> Told:
    why = f"The handler of vector `{e.vector:#x}` runs on vCPU {e.vcpu_id}: the interrupt has arrived."
    at = _guest(cast, e.vcpu_id)
    return Told(
        "handler", at, None, f"handler of `{e.vector:#x}` runs", f"vCPU {e.vcpu_id}", who_on("Guest", record), why
    )


def clear_isr(cast: Cast, record: Record, e: Any) -> Told | None:
    why = f"`apic_set_eoi` clears ISR `{e.vector:#x}`: vectors of its class and below may come again."
    return in_kvm(cast, record, "eoi", f"`apic_set_eoi` clears ISR `{e.vector:#x}`", f"of vCPU {e.vcpu_id}", why)


def pv_eoi(cast: Cast, record: Record, e: Any) -> Told:
    why = "The guest finds its PV EOI bit set and clears it: that was the EOI, without an exit."
    return Told("eoi", _guest(cast, e.vcpu_id), None, "PV EOI bit cleared", "no exit", who_on("Guest", record), why)


def _pv_eoi_arm(cast: Cast, record: Record, e: Any) -> Told | None:
    why = "Nothing else waits and the I/O APIC needs no EOI, so KVM offers one without an exit."
    return in_kvm(cast, record, "table", "arm PV EOI", "a bit in guest memory", why)


TELLERS: dict[type[ev.Event], Teller] = {
    ev.Instruction: _instruction,
    ev.VmExit: vmexit,
    ev.VmRun: vmrun,
    ev.KvmApicIpi: _ipi,
    ev.KvmMsiSetIrq: _msi,
    ev.SetIrr: set_irr,
    ev.Barrier: _barrier,
    ev.ReadMode: _read_mode,
    ev.MakeRequest: request,
    ev.Kick: _kick,
    ev.WakeUp: _wake,
    ev.HostIpi: _host_ipi,
    ev.SchedIn: _sched_in,
    ev.SchedOut: _sched_out,
    ev.Block: _block,
    ev.CheckRequest: _check_request,
    ev.KvmInjVirq: inject,
    ev.SetMode: _set_mode,
    ev.HandlerEnter: handler,
    ev.ClearIsr: clear_isr,
    ev.PvEoiByGuest: pv_eoi,
    ev.PvEoiArm: _pv_eoi_arm,
}
