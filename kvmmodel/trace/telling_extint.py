"""What the 8259s and the PIT do, and how a vCPU takes an ExtINT. The program's tellers tell the rest."""

from __future__ import annotations

from typing import Any

from kvmmodel import events as ev
from kvmmodel.machine.record import Record
from kvmmodel.trace.cast import PIT_THREAD, Cast
from kvmmodel.trace.telling import TELLERS, Teller, Told, in_kvm, inject, vmexit, who_on
from kvmmodel.trace.telling_program import PROGRAM_TELLERS

EOI, READ_ISR = 0x20, 0x0B  # what a guest writes to a command port
CHIPS = {0x20: "primary", 0xA0: "secondary"}


def _port(text: str) -> tuple[int, int | None]:
    """The port of an OUT or IN, and the value that is written, None for IN."""
    name, _, value = text.removesuffix(", a byte").partition(" = ")
    return int(name.split()[-1], 16), int(value, 16) if value else None


def _said(text: str) -> tuple[str, str] | None:
    """An access to a port: in the sentence, and as a second line. None for what sets the chips up."""
    port, value = _port(text)
    chip = CHIPS.get(port)
    if chip is None:
        return ("makes its device let go of the line", "to the device") if port == 0xE0 else None
    if value is None:
        return f"reads whether line 7 of the {chip} is in service", f"{chip} 8259"
    return {
        EOI: (f"signals the EOI to the {chip} 8259", f"{chip} 8259"),
        READ_ISR: (f"asks the {chip} 8259 for its ISR", f"{chip} 8259"),
    }.get(value)


def _instruction(cast: Cast, record: Record, e: Any) -> Told | None:
    if not e.text.startswith(("OUT", "IN ")):
        return PROGRAM_TELLERS[ev.Instruction](cast, record, e)
    said = _said(e.text)
    if said is None:
        return None
    sentence, detail = said
    label = f"`{e.text.removesuffix(', a byte')}`"
    return Told("write", "t.guest", None, label, detail, who_on("Guest", record), f"The guest {sentence}.")


def _vmexit(cast: Cast, record: Record, e: Any) -> Told:
    told = vmexit(cast, record, e)
    if e.reason != "io":
        return told
    why = "Accesses to ports are intercepted: the processor leaves the guest."
    return Told(told.kind, told.at, told.to, told.label, told.detail, told.who, why)


def _tick(cast: Cast, record: Record, e: Any) -> Told:
    why = "The PIT's hrtimer fires on the host. Its callback counts the tick and wakes KVM's PIT thread."
    owed = f"{e.pending} owed" if e.pending else "not counted"
    return Told("timer", "dev", None, f"tick: {owed}", "`pit_timer_fn`", who_on("Timer callback", record), why)


def _waits(cast: Cast, record: Record, e: Any) -> Told | None:
    why = f"The tick before is not acknowledged, so `pit_do_work` leaves GSI 0 alone: {e.pending} ticks are owed."
    return in_kvm(cast, record, "no", "not acknowledged: no pulse", f"{e.pending} owed", why)


def _line(cast: Cast, record: Record, e: Any) -> Told | None:
    up = bool(e.sources)
    label = f"line {e.line} {'rises' if up else 'falls'}"
    if record.task != cast.raiser:
        why = f"Userspace hears of the write: its device lets go, and line {e.line} falls."
        return in_kvm(cast, record, "line", label, "`KVM_IRQ_LINE`", why)
    if any(f.name == "pit_do_work" for f in record.stack):
        why = (
            "The PIT thread pulses GSI 0. First up: the 8259 latches the edge."
            if up
            else "Then down: the edge stays latched in the 8259's IRR."
        )
        return Told("line", "u.kvm", None, label, "`pit_do_work`", who_on("KVM", record), why)
    why = f"A device raises line {e.line}: userspace tells KVM by `KVM_IRQ_LINE`."
    if not up:
        latched = (
            "but the primary has latched the secondary's request" if e.line > 7 else "and the request goes with it"
        )
        why = f"The device lets go of line {e.line}: the level falls, {latched}."
    return Told("line", "dev", "u.kvm", label, "`KVM_IRQ_LINE`", who_on("VMM thread", record), why)


def _output(cast: Cast, record: Record, e: Any) -> Told | None:
    if e.level:
        why = "An unmasked request beats all that is in service, so the 8259s' output rises."
        return in_kvm(cast, record, "line", "output rises", "of the 8259 pair", why)
    acknowledge = any(f.name == "kvm_pic_read_irq" for f in record.stack)
    if acknowledge:
        why = "The vCPU can take it, so it acknowledges; the output falls before the 8259s' lock is taken."
        return in_kvm(cast, record, "read", "`kvm_pic_read_irq`: output falls", "before its lock", why)
    why = "No unmasked request is left, so the output falls: the vCPU will find nothing to inject."
    return in_kvm(cast, record, "no", "output falls", "of the 8259 pair", why)


def _acknowledge(cast: Cast, record: Record, e: Any) -> Told | None:
    if e.spurious:
        why = "Nothing asks any more, but a vector must be given: the chip's line 7, which is not in service."
        return in_kvm(cast, record, "no", f"spurious: `{e.vector:#x}`", "not in service", why)
    why = f"The acknowledge: the 8259 moves the best line from its IRR to its ISR, and gives vector `{e.vector:#x}`."
    return in_kvm(cast, record, "table", f"INTA: `{e.vector:#x}`", "the 8259's IRR to ISR", why)


def _inject(cast: Cast, record: Record, e: Any) -> Told | None:
    """An ExtINT has no bit in the local APIC's ISR; a vector that has one comes from there."""
    if e.reinjected:
        why = f"A request came in before `VMRUN`, so KVM went round once more, and writes `{e.vector:#x}` again."
        return in_kvm(cast, record, "inject", f"`EVENTINJ` `{e.vector:#x}` again", "in the VMCB", why)
    if any(s.vcpu == cast.target and s.isr >> e.vector & 1 for s in record.states):
        return inject(cast, record, e)
    why = f"`{e.vector:#x}` is written to `EVENTINJ`. The local APIC's IRR, ISR and PPR stay as they are."
    return in_kvm(cast, record, "inject", f"`EVENTINJ` `{e.vector:#x}`: ExtINT", "in the VMCB", why)


def _acknowledged(cast: Cast, record: Record, e: Any) -> Told | None:
    if cast.raiser == PIT_THREAD:
        why = "The ISR bit is cleared: that is the acknowledge that the PIT waits for."
    else:
        why = "The ISR bit is cleared: the line, and those below it, may interrupt again."
    return in_kvm(cast, record, "eoi", f"8259 EOI of IRQ {e.pin}", "its ISR bit is cleared", why)


EXTINT_TELLERS: dict[type[ev.Event], Teller] = PROGRAM_TELLERS | {
    ev.Instruction: _instruction,
    ev.VmExit: _vmexit,
    ev.PitTick: _tick,
    ev.PitWaits: _waits,
    ev.PicLine: _line,
    ev.PicOutput: _output,
    ev.PicAck: _acknowledge,
    ev.HostIpi: TELLERS[ev.HostIpi],
    ev.KvmInjVirq: _inject,
    ev.KvmAckIrq: _acknowledged,
}
