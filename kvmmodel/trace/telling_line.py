"""What each event becomes in the story of a line: the pin's sources, its messages, and who hears of the EOI."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from kvmmodel import events as ev
from kvmmodel.kvm.ioapic import RTE_LEVEL, RTE_REMOTE_IRR
from kvmmodel.machine.record import Record
from kvmmodel.trace.cast import Cast
from kvmmodel.trace.story import PinState
from kvmmodel.trace.telling import (
    TELLERS,
    Told,
    clear_isr,
    handler,
    in_kvm,
    inject,
    pv_eoi,
    request,
    set_irr,
    vmexit,
    vmrun,
    who_on,
)
from kvmmodel.trace.telling_avic import AVIC_TELLERS
from kvmmodel.trace.telling_program import PROGRAM_TELLERS

SELECT, WINDOW = "MOV [0xfec00000]", "MOV [0xfec00010]"
RESAMPLED = 1  # the source of all resampling irqfds


@dataclass(slots=True)
class Line:
    """``pin``: before the event that is told. ``skipping``: the guest selects an IOAPIC register, which is not told.
    ``rising``: a source has just raised the line. ``ended``: the vector whose EOI the IOAPIC has not heard of yet."""

    cast: Cast
    pin: PinState
    paravirtual: bool = False
    skipping: bool = False
    rising: bool = False
    ended: int | None = None


Teller = Callable[[Line, Record, Any], Told | None]


def _of_cast(teller: Callable[[Cast, Record, Any], Told | None]) -> Teller:
    """A teller of the other stories."""
    return lambda line, record, event: teller(line.cast, record, event)


def _set(line: Line, record: Record, e: ev.KvmSetIrq) -> Told | None:
    """A source says again what it said before: no change of the line, but the pin looks at it. A GSI is taken for the
    pin with its number."""
    if not e.level or e.gsi != line.pin.pin or e.irq_source_id not in line.pin.sources:
        return None
    line.rising = True
    why = f"The owner of source {e.irq_source_id} says again that its device interrupts: the pin looks at its line."
    label = f"source {e.irq_source_id} again: line is up"
    return Told("line", "dev", "ioapic", label, f"source {e.irq_source_id}", who_on("Device", record), why)


def _inside(record: Record, name: str) -> bool:
    return any(f.name == name for f in record.stack)


def _line(line: Line, record: Record, e: ev.IoapicLine) -> Told | None:
    before, now = set(line.pin.sources), set(e.sources)
    source = next(iter(before ^ now))
    level = bool(line.pin.entry & RTE_LEVEL)
    line.rising = len(now) > len(before)
    if line.rising:
        how = "its eventfd raises source 1" if source == RESAMPLED else "`KVM_IRQ_LINE` raises source 0"
        what = "The assigned device interrupts" if source == RESAMPLED else "The VMM's device has work"
        joins = ", and the line is up already" if before else ""
        label = f"source {source} joins: line stays up" if before else "line rises"
        return Told(
            "line", "dev", "ioapic", label, f"source {source}", who_on("Device", record), f"{what}: {how}{joins}."
        )
    if _inside(record, "irqfd_resampler_ack"):
        rest = "source 0 keeps the line up" if now else "the line is down until its owner says otherwise"
        label = "source 1 falls, line stays up" if now else "resampler lowers the line"
        why = f"`irqfd_resampler_ack` lowers source 1 at the EOI: {rest}."
        return in_kvm(line.cast, record, "line", label, "by the ack notifier", why)
    if not level:
        return None  # the end of the pulse
    why = "The driver has served the VMM's device, which lowers source 0: " + (
        "another source keeps the line up." if now else "the line is down."
    )
    return Told("line", "dev", "ioapic", "line falls", f"source {source}", who_on("Device", record), why)


def _message(line: Line, record: Record, e: ev.IoapicMessage) -> Told:
    line.rising = False
    vector = f"`{e.e & 0xFF:#x}`"
    if e.e & RTE_LEVEL:
        why = "The line is up, the entry is not masked and remote IRR is clear: the pin sends its message."
    else:
        why = "A rising edge on an edge pin: the message goes out, whatever became of the last one."
    return Told("msi", "ioapic", None, f"sends {vector}", _trigger(e.e), who_on("KVM", record), why)


def _trigger(entry: int) -> str:
    return "level" if entry & RTE_LEVEL else "edge"


def _set_irq(line: Line, record: Record, e: ev.KvmIoapicSetIrq) -> Told | None:
    if not line.rising or not e.e & RTE_REMOTE_IRR:
        return None
    line.rising = False
    why = "Remote IRR is set: no message now. The pin waits for the EOI of its last one."
    return Told("no", "ioapic", None, "no message: remote IRR", "set", who_on("KVM", record), why)


def _entry(line: Line, record: Record, e: ev.IoapicEntry) -> Told | None:
    vector, changed = e.e & 0xFF, e.e ^ e.old
    if not _inside(record, "ioapic_write_indirect") or changed == RTE_REMOTE_IRR:
        up = bool(e.e & RTE_REMOTE_IRR)
        if up:
            why = "An APIC took a level message, so remote IRR is set: the pin sends no other before the EOI."
        else:
            why = "The EOI of a level interrupt clears remote IRR, and the pin looks at its line again."
        return Told("table", "ioapic", None, f"remote IRR := {int(up)}", "in the entry", who_on("KVM", record), why)
    if changed & RTE_LEVEL and not e.e & RTE_LEVEL:
        why = "Written as edge, and masked: that clears remote IRR. It is the EOI of an IOAPIC without EOI register."
        label = "edge: clears remote IRR"
    elif changed & RTE_LEVEL:
        why = "Written as level again, unmasked: if the line is up, something has to happen now."
        label = "level again, unmasked"
    else:
        why = f"The entry's vector is `{vector:#x}` now. Remote IRR is read-only and stays as it is."
        label = f"vector := `{vector:#x}`"
    return Told("table", "t.kvm", "ioapic", label, "the entry", who_on("KVM", record), why)


def _ack(line: Line, record: Record, e: ev.KvmAckIrq) -> Told:
    line.ended = None
    why = "The IOAPIC handles this vector, so the EOI is passed on to every pin that has it."
    return Told("eoi", "t.kvm", "ioapic", f"EOI reaches pin {e.pin}", "`kvm_ack_irq`", who_on("KVM", record), why)


def _resample(line: Line, record: Record, e: ev.ResampleSignal) -> Told:
    why = "The resample eventfd tells the device's owner: if the device still asserts its interrupt, raise it again."
    at = "t.kvm" if record.vcpu is not None else "ioapic"
    return Told("userspace", at, "dev", "signals the resample eventfd", "to the owner", who_on("KVM", record), why)


def _clear_isr(line: Line, record: Record, e: ev.ClearIsr) -> Told | None:
    line.ended = e.vector
    return clear_isr(line.cast, record, e)


def _request(line: Line, record: Record, e: ev.MakeRequest) -> Told | None:
    """An event pass; and, where apic_set_eoi makes it, whether the IOAPIC has heard of the EOI before."""
    if e.request != "EVENT":
        return None
    if line.ended is None or not _inside(record, "apic_set_eoi"):
        if line.cast.asked:
            return None
        line.cast.asked = True
        return request(line.cast, record, e)
    vector, line.ended = line.ended, None
    line.cast.asked = True
    if not line.pin.entry & RTE_LEVEL:
        why = "The pin is edge-triggered and nobody has registered for its end: the EOI ends in the local APIC."
    elif line.pin.entry & 0xFF != vector:
        why = f"No pin has vector `{vector:#x}` any more: the EOI ends in the local APIC, and remote IRR stays set."
    else:
        why = "The EOI ends in the local APIC: the IOAPIC never hears of it, and remote IRR stays set."
    return in_kvm(line.cast, record, "no", "EOI is not passed on", f"of `{vector:#x}`", why)


def _check_request(line: Line, record: Record, e: ev.CheckRequest) -> Told | None:
    if e.request == "EVENT":
        line.cast.asked = False
    return None


def _instruction(line: Line, record: Record, e: ev.Instruction) -> Told | None:
    line.skipping = e.text.startswith(SELECT)
    value = e.text.rpartition(" = ")[2]
    if e.text.startswith(WINDOW):
        label, why = f"writes the entry: `{value}`", f"The guest writes `{value}` to the pin's entry."
    elif e.text.startswith("WRMSR 0x80b"):
        label = "`WRMSR 0x80b`"
        why = "The guest writes the EOI register."
        if line.paravirtual:
            why = "The guest finds its PV EOI bit clear, as KVM did not arm it, and writes the EOI register."
    elif e.text.startswith("OUT"):
        label = "serves the device: port write"
        why = "The driver serves the VMM's device by a write to one of its ports."
    elif e.text.startswith("NOP"):
        label = "serves the device, no exit"
        why = "The driver serves the device through memory that the guest has: no exit, and KVM sees nothing."
    else:
        return None
    return Told("write", "t.guest", None, label, f"vCPU {e.vcpu_id}", who_on("Guest", record), why)


def _vmexit(line: Line, record: Record, e: ev.VmExit) -> Told | None:
    if line.skipping:
        return None
    told = vmexit(line.cast, record, e)
    why = {
        "npf": "The IOAPIC's page is not mapped: the store leaves the guest, and KVM emulates it.",
        "io": "The port is the VMM's: the processor leaves the guest, and KVM returns to userspace.",
    }.get(e.reason)
    if why is None:
        return told
    return Told(told.kind, told.at, told.to, told.label, told.detail, told.who, why)


def _vmrun(line: Line, record: Record, e: ev.VmRun) -> Told | None:
    return None if line.skipping else vmrun(line.cast, record, e)


def _taken_back(line: Line, record: Record, e: ev.PvEoiDisarm) -> Told | None:
    why = "An exit before the EOI: KVM takes the bit back, and the guest will have to write the register."
    return in_kvm(line.cast, record, "no", "PV EOI taken back", "the bit was still set", why)


def _iret(line: Line, record: Record, e: ev.HandlerLeave) -> Told:
    why = "The handler is done: `IRET` sets IF again."
    return Told("resume", "t.guest", None, "`IRET`", "IF is set again", who_on("Guest", record), why)


LINE_TELLERS: dict[type[ev.Event], Teller] = {
    ev.KvmSetIrq: _set,
    ev.IoapicLine: _line,
    ev.IoapicMessage: _message,
    ev.KvmIoapicSetIrq: _set_irq,
    ev.IoapicEntry: _entry,
    ev.KvmAckIrq: _ack,
    ev.ResampleSignal: _resample,
    ev.Instruction: _instruction,
    ev.VmExit: _vmexit,
    ev.VmRun: _vmrun,
    ev.MakeRequest: _request,
    ev.CheckRequest: _check_request,
    ev.ClearIsr: _clear_isr,
    ev.HandlerLeave: _iret,
    ev.PvEoiDisarm: _taken_back,
    ev.SetIrr: _of_cast(set_irr),
    ev.HostIpi: _of_cast(TELLERS[ev.HostIpi]),
    ev.KvmInjVirq: _of_cast(inject),
    ev.HandlerEnter: _of_cast(handler),
    ev.IrqWindow: _of_cast(PROGRAM_TELLERS[ev.IrqWindow]),
    ev.PvEoiArm: _of_cast(TELLERS[ev.PvEoiArm]),
    ev.PvEoiByGuest: _of_cast(pv_eoi),
}
LINE_TELLERS |= {kind: _of_cast(teller) for kind, teller in AVIC_TELLERS.items()}
