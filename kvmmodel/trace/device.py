"""The story of a device's interrupt: from the vCPU's last move before it, by the IOMMU or the host, to the EOI."""

from __future__ import annotations

from collections.abc import Sequence

from kvmmodel import events as ev
from kvmmodel.facts.releases import Kernel
from kvmmodel.machine.record import Record
from kvmmodel.trace.cast import Cast, bars, begin, follow, groups, states
from kvmmodel.trace.stacks import frames
from kvmmodel.trace.story import Badge, IrteState, Step, Story
from kvmmodel.trace.telling_device import DEVICE_TELLERS

MOST_STEPS = 40


def device_story(
    records: Sequence[Record],
    kernel: Kernel,
    host_cpu: int,
    vector: int,
    vcpu: int = 0,
    *,
    title: str,
    setup: str,
    badges: tuple[Badge, ...] = (),
    broken: str | None = None,
    at: int = 0,
) -> Story:
    """Tell the first message of a run's device, for ``vector`` of a vCPU, to its EOI or the end of the run. No verdict.
    ``at``: the first from this index on, among the records in order of time.

    It begins where the vCPU halts or loses its CPU, if it does, else with the message. ``host_cpu``: where the host
    takes the interrupts of the device and of the IOMMU. ValueError if no device sends anything.
    """
    ordered = sorted(records, key=lambda record: record.t)  # stable: one CPU's events stay in their order
    messages = (i for i, record in enumerate(ordered) if isinstance(record.event, ev.DeviceMsi))
    sent = next((i for i in messages if i >= at), None)
    if sent is None:
        raise ValueError("no device sends a message in this run")
    first = next((i for i in range(sent, -1, -1) if _stops(ordered[i], vcpu)), sent)
    irte: IrteState | None = None
    for record in ordered[:first]:
        irte = _after(irte, record.event)
    opening = ordered[max(first - 1, 0)]
    cpu = next(s.cpu for s in opening.states if s.vcpu == vcpu)
    cast = Cast("device", vector, vcpu, cpu, sender_cpu=host_cpu)
    begin(cast, opening.states)
    if not isinstance(ordered[first].event, ev.SchedOut):
        cast.place[vcpu] = "guest"
    before, start, at_first = bars(cast), states(cast, opening), irte
    steps: list[Step] = []
    for record in ordered[first:]:
        follow(cast, record)
        teller = DEVICE_TELLERS.get(type(record.event))
        told = None if teller is None or not _ours(cast, record.event) else teller(cast, record, record.event)
        now = _after(irte, record.event)
        if told is not None and not (isinstance(record.event, ev.IommuMode) and now == irte):
            words = (told.kind, told.at, told.to, told.label, told.detail, told.who, told.sentence)
            stack = frames(record.stack, kernel)
            owner = f"CPU {record.cpu}" if stack else ""
            steps.append(Step(*words, bars(cast), stack, owner, states(cast, record), irte=now))
        irte = now
        ended = isinstance(record.event, ev.ClearIsr | ev.AvicClearIsr) and record.event.vector == vector
        if ended or len(steps) == MOST_STEPS:
            break
    return Story(title, setup, groups(cast), before, start, tuple(steps), badges, broken, irte=at_first)


def _stops(record: Record, vcpu: int) -> bool:
    """The vCPU halts, or its thread loses its CPU."""
    event = record.event
    if isinstance(event, ev.SchedOut):
        return event.preempted and record.vcpu == vcpu
    return isinstance(event, ev.Instruction) and event.vcpu_id == vcpu and event.text == "HLT"


def _ours(cast: Cast, event: ev.Event) -> bool:
    return cast.shown(getattr(event, "vcpu_id", cast.target)) and cast.follows(getattr(event, "vector", cast.vector))


def _after(irte: IrteState | None, event: ev.Event) -> IrteState | None:
    """The entry after an event. A run has one device."""
    return IrteState(event.irq, event.lo, event.hi) if isinstance(event, ev.IommuMode) else irte
