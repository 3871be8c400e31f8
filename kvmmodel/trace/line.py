"""The story of an interrupt line: from a device through the IOAPIC's pin to a vCPU, and the EOI back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from kvmmodel import events as ev
from kvmmodel.facts.releases import Kernel
from kvmmodel.machine.record import Record
from kvmmodel.trace.cast import Cast, bars, begin, follow, groups, states
from kvmmodel.trace.stacks import frames
from kvmmodel.trace.story import Badge, PinState, Step, Story
from kvmmodel.trace.telling_line import LINE_TELLERS, Line

RESET_ENTRY = 1 << 16  # masked
MOST_STEPS = 60


def line_story(
    records: Sequence[Record],
    kernel: Kernel,
    pin: int,
    vectors: Sequence[int],
    vcpu: int = 0,
    *,
    title: str,
    setup: str,
    accepted: int | None = None,
    paravirtual: bool = False,
    badges: tuple[Badge, ...] = (),
    broken: str | None = None,
    at: int = 0,
) -> Story:
    """Tell what becomes of a pin's line, from its first change on, and of the ``vectors`` that its entry names.
    ``at``: not before this index among the records in order of time.

    To the end of the run, or until the ``accepted``-th message has been sent. ``paravirtual``: the guest uses PV
    EOI. No verdict. ValueError if the line never changes.
    """
    ordered = sorted(records, key=lambda record: record.t)  # stable: one CPU's events stay in their order
    changes = (i for i, r in enumerate(ordered) if isinstance(r.event, ev.IoapicLine) and r.event.pin == pin)
    first = next((i for i in changes if i >= at), None)
    if first is None:
        raise ValueError(f"nothing in this run changes the line of pin {pin}")
    opening = ordered[max(first - 1, 0)]
    cpu = next(s.cpu for s in opening.states if s.vcpu == vcpu)
    cast = Cast("line", vectors[0], vcpu, cpu, also=frozenset(vectors[1:]))
    begin(cast, opening.states)
    cast.place[vcpu] = "guest"
    line = Line(cast, PinState(pin, RESET_ENTRY, ()), paravirtual)
    for record in ordered[:first]:
        line.pin = after(line.pin, record.event)
    start, before, shown = line.pin, bars(cast), states(cast, opening)
    steps: list[Step] = []
    taken = 0
    for record in ordered[first:]:
        if taken == accepted and all(f.name != "ioapic_service" for f in record.stack):
            break
        follow(cast, record)
        step = _step(line, record, kernel)
        line.pin = after(line.pin, record.event)
        if step is not None:
            steps.append(replace(step, pin=line.pin))
        taken += isinstance(record.event, ev.SetIrr)
        if len(steps) == MOST_STEPS:
            break
    return Story(title, setup, groups(cast), before, shown, tuple(steps), badges, broken, pin=start)


def after(pin: PinState, event: ev.Event) -> PinState:
    """The pin after an event."""
    if isinstance(event, ev.IoapicLine) and event.pin == pin.pin:
        return replace(pin, sources=event.sources)
    if isinstance(event, ev.IoapicEntry) and event.pin == pin.pin:
        return replace(pin, entry=event.e)
    return pin


def _step(line: Line, record: Record, kernel: Kernel) -> Step | None:
    teller = LINE_TELLERS.get(type(record.event))
    other = getattr(record.event, "pin", line.pin.pin) != line.pin.pin
    told = None if teller is None or other else teller(line, record, record.event)
    if told is None:
        return None
    words = (told.kind, told.at, told.to, told.label, told.detail, told.who, told.sentence)
    cast = line.cast
    return Step(*words, bars(cast), frames(record.stack, kernel), f"CPU {record.cpu}", states(cast, record))
