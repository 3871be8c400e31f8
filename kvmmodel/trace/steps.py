"""From the events of a run to a story: the steps between an interrupt's cause and its EOI."""

from __future__ import annotations

from collections.abc import Sequence

from kvmmodel import events as ev
from kvmmodel.facts.releases import Kernel
from kvmmodel.machine.record import Record
from kvmmodel.trace.cast import Cast, bars, begin, follow, groups, states
from kvmmodel.trace.stacks import frames
from kvmmodel.trace.story import Badge, Step, Story
from kvmmodel.trace.telling import TELLERS

CAUSES: dict[str, tuple[type[ev.Event], ...]] = {
    "ipi": (ev.Instruction,),
    "timer": (ev.Instruction,),
    "msi": (ev.KvmMsiSetIrq,),
}
MOST_STEPS = 30  # a run that was broken on purpose may go round and round


def story(
    records: Sequence[Record],
    kernel: Kernel,
    source: str,
    vector: int,
    target: int,
    *,
    title: str,
    setup: str,
    badges: tuple[Badge, ...] = (),
    broken: str | None = None,
) -> Story:
    """Tell a run. ``source``: ipi, timer or msi; ``vector`` and ``target`` (a vCPU) say which interrupt to follow.

    ValueError if nothing in the run is its cause.
    """
    ordered = sorted(records, key=lambda record: record.t)  # stable: one CPU's events stay in their order
    first = _cause(ordered, source, vector)
    opening = ordered[max(first - 1, 0)]
    cast = _cast(ordered[first], source, vector, target, opening)
    begin(cast, opening.states)
    before, start = bars(cast), states(cast, opening)
    steps = _steps(ordered[first:], kernel, cast)
    return Story(title, setup, groups(cast), before, start, steps, badges, broken, _verdict(cast, steps))


def _cause(records: Sequence[Record], source: str, vector: int) -> int:
    """The index of the event that the story begins with."""
    for i, record in enumerate(records):
        event = record.event
        if not isinstance(event, CAUSES[source]):
            continue
        if isinstance(event, ev.KvmMsiSetIrq) and event.data & 0xFF == vector:
            return i
        if isinstance(event, ev.Instruction) and _writes(event.text, source, vector):
            return i
    raise ValueError(f"nothing in this run causes vector {vector:#x} by {source}")


def _writes(text: str, source: str, vector: int) -> bool:
    """Whether an instruction sends the IPI, or arms the timer."""
    if source == "timer":
        return text.startswith(("WRMSR 0x6e0", "WRMSR 0x838"))
    value = text.rpartition(" = ")[2]
    sends = text.startswith(("WRMSR 0x830", "WRMSR 0x83f", "MOV [0xfee00300]"))
    return sends and int(value, 16) & 0xFF == vector


def _cast(cause: Record, source: str, vector: int, target: int, opening: Record) -> Cast:
    cpu = next(s.cpu for s in opening.states if s.vcpu == target)
    return Cast(source, vector, target, cpu, cause.vcpu if source != "msi" else None, cause.cpu)


def _steps(records: Sequence[Record], kernel: Kernel, cast: Cast) -> tuple[Step, ...]:
    """Everything up to the EOI that somebody shown does."""
    steps: list[Step] = []
    for record in records:
        follow(cast, record)
        event = record.event
        about = getattr(event, "vcpu_id", cast.target)
        teller = TELLERS.get(type(event))
        if teller is None or not cast.shown(about) or _other_vector(cast, event):
            continue
        told = teller(cast, record, event)
        if told is None:
            continue
        stack = frames(record.stack, kernel)
        owner = f"CPU {record.cpu}"
        words = (told.kind, told.at, told.to, told.label, told.detail, told.who, told.sentence)
        steps.append(Step(*words, bars(cast), stack, owner, states(cast, record)))
        if len(steps) == MOST_STEPS or (isinstance(event, ev.ClearIsr) and event.vcpu_id == cast.target):
            break
    return tuple(steps)


def _other_vector(cast: Cast, event: ev.Event) -> bool:
    """An event of some other interrupt."""
    return getattr(event, "vector", cast.vector) != cast.vector


def _verdict(cast: Cast, steps: tuple[Step, ...]) -> str | None:
    """What became of an interrupt that never got its EOI, in words."""
    state = next((s for s in steps[-1].states if s.vcpu == cast.target), None)
    if state is None or not state.irr >> cast.vector & 1:
        return None
    where = {
        "blocked": "sleeps",
        "runnable": "waits for its CPU",
    }.get(state.thread, "runs on")
    lost = f"Lost: IRR `{cast.vector:#x}` is set, and vCPU {cast.target} {where}."
    return f"{lost} Until another event comes along, nobody looks."
