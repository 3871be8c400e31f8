"""A run of which nothing is known beforehand: what happens in it that a story can follow, and that story.

What an interrupt is, and how it comes, is read off the run's events and stacks: the programs, and whoever wrote them,
have no say in it. Not told: what nested guests take, and which of several devices an interrupt is of.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from kvmmodel import events as ev
from kvmmodel.facts.releases import Kernel
from kvmmodel.guest.cpu import NMI_VECTOR
from kvmmodel.machine.record import Record
from kvmmodel.trace.bill import causes
from kvmmodel.trace.bill_words import access, instruction_before, last, text_of
from kvmmodel.trace.cast import RAISERS
from kvmmodel.trace.device import device_story
from kvmmodel.trace.line import line_story
from kvmmodel.trace.steps import extint_story, kick_story, program_story, story
from kvmmodel.trace.story import Story
from kvmmodel.trace.telling_any import ANY_TELLERS

MOST_STEPS = 80
ALL = range(256)
BESIDE = range(16, 256)  # the vectors that a story tells besides its own
EVENTS = {"NMI": "an NMI", "SMI": "an SMI"}


@dataclass(frozen=True, slots=True)
class Happening:
    """Something that a story can follow. ``kind``: ipi, timer, msi, device, line, extint, nmi, smi or kick.

    ``at``: its cause, an index among the records in order of time. ``what``: in a few words. ``vector`` is 0 where
    there is none.
    """

    kind: str
    at: int
    vector: int
    target: int
    what: str


def happenings(records: Sequence[Record]) -> list[Happening]:
    """All of a run, in the order of their causes. Of an interrupt to several vCPUs, one, for the first."""
    ordered = _ordered(records)
    found = [_interrupt(ordered, at, vector, targets) for at, vector, targets in causes(ordered)]
    found += [one for i in range(len(ordered)) if (one := _other(ordered, i)) is not None]
    return sorted(found, key=lambda one: one.at)


def tell(records: Sequence[Record], kernel: Kernel, which: Happening | int, **words: Any) -> Story:
    """The story of one happening, or of all that a vCPU does if ``which`` is its number.

    ``words``: title, setup, badges and broken, as the story has them. ValueError where there is nothing to tell.
    """
    ordered = _ordered(records)
    if isinstance(which, int):
        return program_story(
            ordered, kernel, tuple(ALL), which, tellers=ANY_TELLERS, most=MOST_STEPS, whole=True, **words
        )
    made = _tell(ordered, kernel, which, words)
    return replace(made, verdict=made.verdict or _verdict(made, which))


def _tell(ordered: Sequence[Record], kernel: Kernel, one: Happening, words: dict[str, Any]) -> Story:
    if one.kind == "device":
        cpu = _host_cpu(ordered, one.at)
        if cpu is not None:
            return device_story(ordered, kernel, cpu, one.vector, one.target, at=one.at, **words)
    if one.kind == "line":
        pin = _pin(ordered, one.at)
        if pin is not None:
            return line_story(ordered, kernel, pin, (one.vector, *BESIDE), one.target, at=one.at, accepted=2, **words)
    if one.kind == "extint":
        return extint_story(ordered, kernel, _raiser(ordered), **words)
    if one.kind == "kick":
        sender = ordered[one.at].vcpu
        assert sender is not None
        return kick_story(ordered, kernel, one.target, sender, tellers=ANY_TELLERS, **words)
    source = _source(ordered[one.at], one)
    return story(
        ordered, kernel, source, one.vector, one.target, tellers=ANY_TELLERS, most=MOST_STEPS, at=one.at, also=BESIDE,
        **words,
    )  # fmt: skip


def _source(cause: Record, one: Happening) -> str:
    """Which lanes: a vCPU that sends, the VMM's thread, or the host's timer."""
    if one.kind == "timer":
        return "timer"
    return "ipi" if cause.vcpu is not None else "msi"


def _ordered(records: Sequence[Record]) -> list[Record]:
    return sorted(records, key=lambda record: record.t)  # stable: one CPU's events stay in their order


# -- what happens ------------------------------------------------------------------------------------------------------


def _interrupt(ordered: Sequence[Record], at: int, vector: int, targets: Sequence[tuple[int, int]]) -> Happening:
    """Of the local APIC, by what its cause is."""
    event, request = ordered[at].event, ordered[targets[0][0]]
    called = {frame.name for frame in request.stack}
    if isinstance(event, ev.DeviceMsi | ev.IommuPost):
        kind, by = "device", "a device"
    elif "ioapic_service" in called:
        kind, by = "line", "a pin of the IOAPIC"
    elif any(name in called for name in ("kvm_inject_apic_timer_irqs", "kvm_apic_inject_pending_timer_irqs")):
        kind, by = "timer", "the APIC timer"
    elif isinstance(event, ev.KvmMsiSetIrq):
        kind, by = "msi", "irqfd" if any(frame.name == "irqfd_wakeup" for frame in ordered[at].stack) else "an MSI"
    else:
        kind, by = "ipi", _by(ordered, at)
    whom = [vcpu for _, vcpu in targets]
    to = f"vCPU{'s' * (len(whom) > 1)} {', '.join(map(str, whom))}"
    return Happening(kind, at, vector, whom[0], f"`{vector:#x}` to {to}, by {by}")


def _other(ordered: Sequence[Record], i: int) -> Happening | None:
    """What never goes through an IRR."""
    match ordered[i].event:
        case ev.MakeRequest(vcpu, "NMI" | "SMI" as name):
            return _event(ordered, _sent(ordered, i), name, vcpu)
        case ev.VnmiPending(vcpu) if not _asked(ordered, i, vcpu):
            return _event(ordered, _sent(ordered, i), "NMI", vcpu)
        case ev.PvUnhalted(vcpu, True):
            return Happening("kick", _sent(ordered, i), 0, vcpu, f"a PV kick of vCPU {vcpu}")
        case ev.PicAck(vector=vector) if ordered[i].vcpu is not None:
            earlier = last(ordered, i, lambda r: isinstance(r.event, ev.PicAck))
            if earlier is None and (raiser := _raiser(ordered)) in RAISERS:
                at = next(j for j, r in enumerate(ordered) if r.task == raiser)
                return Happening("extint", at, 0, 0, f"ExtINT `{vector:#x}` to vCPU {ordered[i].vcpu}, by the 8259s")
    return None


def _event(ordered: Sequence[Record], at: int, name: str, vcpu: int) -> Happening:
    vector = NMI_VECTOR if name == "NMI" else 0
    return Happening(name.lower(), at, vector, vcpu, f"{EVENTS[name]} to vCPU {vcpu}, by {_by(ordered, at)}")


def _by(ordered: Sequence[Record], at: int) -> str:
    """A cause in a few words: the register that is written, a port, a hypercall, a message."""
    event, text = ordered[at].event, text_of(ordered[at])
    if isinstance(event, ev.KvmMsiSetIrq):
        return "an MSI"
    if text.startswith("VMMCALL"):
        return "a hypercall"
    if text.startswith("OUT"):
        return f"a write to port {text.split()[1]}"
    return access(text) if text else event.kind


def _sent(ordered: Sequence[Record], i: int) -> int:
    """The message or the instruction that an event without a vector comes from."""
    mine = ordered[i]

    def sends(record: Record) -> bool:
        here = (record.task, record.cpu) == (mine.task, mine.cpu)
        return here and isinstance(record.event, ev.KvmMsiSetIrq | ev.Instruction)

    found = last(ordered, i, sends)
    if found is None:
        return i
    vcpu = ordered[found].vcpu
    if vcpu is not None and isinstance(ordered[found].event, ev.KvmMsiSetIrq):
        asked = instruction_before(ordered, found, vcpu)  # userspace answers an exit
        found = found if asked is None else asked
    return found


def _asked(ordered: Sequence[Record], i: int, vcpu: int) -> bool:
    """Whether the virtual NMI is one that was requested."""
    before = last(ordered, i, lambda r: isinstance(r.event, ev.MakeRequest | ev.VnmiPending) and _nmi(r, vcpu))
    return before is not None and isinstance(ordered[before].event, ev.MakeRequest)


def _nmi(record: Record, vcpu: int) -> bool:
    event = record.event
    return getattr(event, "vcpu_id", None) == vcpu and getattr(event, "request", "NMI") == "NMI"


def _raiser(ordered: Sequence[Record]) -> str:
    """The thread that first changes a line of the 8259s; the PIT's comes of its tick."""
    lines = [record.task for record in ordered if isinstance(record.event, ev.PicLine)]
    return lines[0] if lines else ""


def _pin(ordered: Sequence[Record], at: int) -> int | None:
    sent = next((r.event for r in ordered[at:] if isinstance(r.event, ev.IoapicMessage)), None)
    return None if sent is None else sent.pin


def _host_cpu(ordered: Sequence[Record], at: int) -> int | None:
    """Where the host takes the device's interrupt, or the IOMMU's; else a CPU that runs none of the vCPUs."""
    for record in ordered[at:]:
        if isinstance(record.event, ev.HostIrq) and record.event.name.startswith(("vfio", "AMD-Vi")):
            return record.cpu
    busy = {state.cpu for record in ordered for state in record.states}
    return max(busy) + 1 if busy else None


# -- what became of it -------------------------------------------------------------------------------------------------


def _verdict(told: Story, one: Happening) -> str | None:
    """Where a story ends without the end that it should have. An interrupt's own story says so itself."""
    state = next((s for s in told.steps[-1].states if s.vcpu == one.target), None) if told.steps else None
    if state is None or one.kind not in ("nmi", "device"):
        return None
    if one.kind == "nmi" and state.nmis and told.steps[-1].kind != "resume":
        return f"An NMI still waits on vCPU {one.target} at the end of the run."
    if one.kind == "device" and state.irr >> one.vector & 1:
        return f"Stuck: IRR `{one.vector:#x}` is set at the end of the run, and nobody looks."
    return None
