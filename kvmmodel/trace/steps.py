"""From the events of a run to a story: the steps between an interrupt's cause and its EOI, or one vCPU's program."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from kvmmodel import events as ev
from kvmmodel.facts.releases import Kernel
from kvmmodel.guest.cpu import NMI_VECTOR
from kvmmodel.machine.record import Record
from kvmmodel.trace.cast import HOST, Cast, bars, begin, follow, groups, states
from kvmmodel.trace.stacks import frames
from kvmmodel.trace.story import Badge, Step, Story
from kvmmodel.trace.telling import TELLERS, Teller, Told
from kvmmodel.trace.telling_access import ACCESS_TELLERS
from kvmmodel.trace.telling_avic import AVIC_TELLERS
from kvmmodel.trace.telling_extint import EXTINT_TELLERS
from kvmmodel.trace.telling_program import PROGRAM_TELLERS
from kvmmodel.trace.telling_timer import TIMER_TELLERS

CAUSES: dict[str, tuple[type[ev.Event], ...]] = {
    "ipi": (ev.Instruction,),
    "timer": (ev.Instruction,),
    "msi": (ev.KvmMsiSetIrq,),
}
STORY_TELLERS = TELLERS | TIMER_TELLERS
MOST_STEPS = 40  # a run that was broken on purpose may go round and round
MOST_PROGRAM_STEPS = 50
PV_IPI = "VMMCALL 0xa "
MOST_EXTINT_STEPS = 60
ENDS = ev.ClearIsr | ev.AvicClearIsr | ev.HandlerLeave
ICR, ICR2 = "MOV [0xfee00300]", "MOV [0xfee00310]"


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
    tellers: Mapping[type[ev.Event], Teller] = STORY_TELLERS,
    most: int = MOST_STEPS,
    at: int | None = None,
    also: Iterable[int] = (),
) -> Story:
    """Tell a run. ``source``: ipi, timer or msi; ``vector`` and ``target`` (a vCPU) say which interrupt to
    follow. ``tellers`` say which events become steps, of which there are ``most``; AVIC's do in any case.
    ``at``: the index of its cause among the records in order of time, if it is not the first such. ``also``: more
    vectors whose steps are told on the way.

    ValueError if nothing in the run is its cause.
    """
    ordered = sorted(records, key=lambda record: record.t)  # stable: one CPU's events stay in their order
    first = _cause(ordered, source, vector) if at is None else at
    opening = ordered[max(first - 1, 0)]
    cast = _cast(ordered[first], source, vector, target, opening, frozenset(also))
    begin(cast, opening.states)
    before, start = bars(cast), states(cast, opening)
    steps = _steps(ordered[first:], kernel, cast, tellers, most)
    spins = _spins(cast, steps)
    steps = steps[: spins + 1] if spins else steps
    shown = tuple(group for group in groups(cast) if group.label != HOST or cast.sender != target or _scheduled(steps))
    return Story(title, setup, shown, before, start, steps, badges, broken, _verdict(cast, steps, bool(spins)))


def program_story(
    records: Sequence[Record],
    kernel: Kernel,
    vectors: Sequence[int],
    vcpu: int = 0,
    *,
    title: str,
    setup: str,
    since: str = "",
    badges: tuple[Badge, ...] = (),
    broken: str | None = None,
    tellers: Mapping[type[ev.Event], Teller] = PROGRAM_TELLERS,
    most: int = MOST_PROGRAM_STEPS,
    whole: bool = False,
) -> Story:
    """Tell what one vCPU's program does, from its first instruction that starts with ``since`` to the EOI after which
    none of ``vectors`` waits or is in service, else to its end; ``whole``: to its end in any case. ``tellers`` say
    which events become steps, of which there are ``most``. No verdict.

    ValueError if the vCPU never executes such an instruction.
    """
    ordered = sorted(records, key=lambda record: record.t)
    first = next((i for i, record in enumerate(ordered) if _begins(record.event, vcpu, since)), None)
    if first is None:
        raise ValueError(f"vCPU {vcpu} executes no instruction that starts with {since!r}")
    opening = ordered[max(first - 1, 0)]
    cpu = next(s.cpu for s in opening.states if s.vcpu == vcpu)
    cast = Cast("program", vectors[0], vcpu, cpu, also=frozenset(vectors[1:]))
    begin(cast, opening.states)
    cast.place[vcpu] = "guest"
    for record in ordered[:first]:
        if isinstance(record.event, ev.IrqWindow):
            cast.window = record.event.open
    before, start = bars(cast), states(cast, opening)
    steps = _steps(ordered[first:], kernel, cast, tellers, most, whole)
    return Story(title, setup, groups(cast), before, start, steps, badges, broken)


def kick_story(
    records: Sequence[Record],
    kernel: Kernel,
    waiter: int,
    sender: int,
    *,
    title: str,
    setup: str,
    badges: tuple[Badge, ...] = (),
    broken: str | None = None,
    tellers: Mapping[type[ev.Event], Teller],
) -> Story:
    """Tell a PV kick, from the waiter's HLT to the end of the run. No verdict. ValueError if the waiter never halts."""
    ordered = sorted(records, key=lambda record: record.t)
    first = next((i for i, record in enumerate(ordered) if _begins(record.event, waiter, "HLT")), None)
    if first is None:
        raise ValueError(f"vCPU {waiter} never executes HLT")
    opening = ordered[max(first - 1, 0)]
    cpu = {state.vcpu: state.cpu for state in opening.states}
    cast = Cast("ipi", 0, waiter, cpu[waiter], sender, cpu[sender], kick=True)
    begin(cast, opening.states)
    before, start = bars(cast), states(cast, opening)
    steps = _steps(ordered[first:], kernel, cast, tellers, MOST_STEPS)
    return Story(title, setup, groups(cast), before, start, steps, badges, broken)


def access_story(
    records: Sequence[Record],
    kernel: Kernel,
    *,
    title: str,
    setup: str,
    badges: tuple[Badge, ...] = (),
) -> Story:
    """Tell all of the records, which are those of one vCPU's thread; ``trace.access`` finds them for an instruction."""
    ours = records[0].vcpu
    if ours is None or any(record.vcpu != ours for record in records):
        raise ValueError("these are not the records of one vCPU's thread")
    cast = Cast("program", -1, ours, records[0].cpu)
    begin(cast, records[0].states)
    before, start = bars(cast), states(cast, records[0])
    steps = _told(records, kernel, cast, ACCESS_TELLERS)
    return Story(title, setup, groups(cast), before, start, steps, badges)


def extint_story(
    records: Sequence[Record],
    kernel: Kernel,
    raiser: str,
    *,
    title: str,
    setup: str,
    badges: tuple[Badge, ...] = (),
    broken: str | None = None,
) -> Story:
    """Tell how what the 8259s ask for comes to vCPU 0, from what leads to it on to the end of the run.

    ``raiser`` is the thread that changes their lines. ValueError if it does nothing in this run.
    """
    ordered = sorted(records, key=lambda record: record.t)
    raised = next((record for record in ordered if record.task == raiser), None)
    if raised is None:
        raise ValueError(f"the thread {raiser!r} does nothing in this run")
    first = next(i for i, record in enumerate(ordered) if record is raised or _leads_to_extint(record.event))
    opening = ordered[max(first - 1, 0)]
    cpu = next(s.cpu for s in opening.states if s.vcpu == 0)
    cast = Cast("extint", -1, 0, cpu, sender_cpu=raised.cpu, raiser=raiser)
    begin(cast, opening.states)
    before, start = bars(cast), states(cast, opening)
    steps = _told(ordered[first:], kernel, cast, EXTINT_TELLERS, others=False)[:MOST_EXTINT_STEPS]
    return Story(title, setup, groups(cast), before, start, steps, badges, broken)


def _leads_to_extint(event: ev.Event) -> bool:
    """A tick, or what the guest does about interrupts before one comes."""
    before = isinstance(event, ev.Instruction) and event.text.startswith(("CLI", "MOV CR8", "WRMSR"))
    return before or isinstance(event, ev.PitTick)


def _told(
    records: Sequence[Record],
    kernel: Kernel,
    cast: Cast,
    tellers: Mapping[type[ev.Event], Teller],
    others: bool = True,
) -> tuple[Step, ...]:
    """``others``: also what concerns vCPUs that have no lanes."""
    steps = []
    for record in records:
        follow(cast, record)
        if not others and not cast.shown(getattr(record.event, "vcpu_id", cast.target)):
            continue
        teller = tellers.get(type(record.event)) or AVIC_TELLERS.get(type(record.event))
        told = None if teller is None else teller(cast, record, record.event)
        if told is not None:
            steps.append(_step(told, cast, record, kernel))
    return tuple(steps)


def _scheduled(steps: tuple[Step, ...]) -> bool:
    """Whether the scheduler has a part. In an IPI to oneself it has none, unless the thread loses its CPU."""
    return any("sched" in (step.at, step.to, *(column for column, _ in step.bars)) for step in steps)


def _begins(event: ev.Event, vcpu: int, since: str) -> bool:
    return isinstance(event, ev.Instruction) and event.vcpu_id == vcpu and event.text.startswith(since)


def _cause(records: Sequence[Record], source: str, vector: int) -> int:
    """The index of the event that the story begins with."""
    for i, record in enumerate(records):
        event = record.event
        if not isinstance(event, CAUSES[source]):
            continue
        if isinstance(event, ev.KvmMsiSetIrq) and event.data & 0xFF == vector:
            return i
        if isinstance(event, ev.Instruction) and _writes(event.text, source, vector):
            return _with_destination(records, i, event)
    raise ValueError(f"nothing in this run causes vector {vector:#x} by {source}")


def _with_destination(records: Sequence[Record], i: int, event: ev.Instruction) -> int:
    """An xAPIC's ICR takes two writes: where the vCPU's instruction before wrote ICR2, that is the beginning."""
    if not event.text.startswith(ICR):
        return i
    earlier = ((j, r.event) for j, r in zip(range(i - 1, -1, -1), reversed(records[:i]), strict=True))
    for j, before in earlier:
        if isinstance(before, ev.Instruction) and before.vcpu_id == event.vcpu_id:
            return j if before.text.startswith(ICR2) else i
    return i


def _writes(text: str, source: str, vector: int) -> bool:
    """Whether an instruction sends the IPI, or arms the timer."""
    if source == "timer":
        return text.startswith(("WRMSR 0x6e0", "WRMSR 0x838"))
    if text.startswith(PV_IPI):
        return int(text.rstrip(")").rpartition(" ")[2], 16) & 0xFF == vector
    value = text.rpartition(" = ")[2]
    sends = text.startswith(("WRMSR 0x830", "WRMSR 0x83f", ICR))
    return sends and int(value, 16) & 0xFF == vector


def _cast(
    cause: Record, source: str, vector: int, target: int, opening: Record, also: frozenset[int] = frozenset()
) -> Cast:
    cpu = next(s.cpu for s in opening.states if s.vcpu == target)
    return Cast(source, vector, target, cpu, cause.vcpu if source != "msi" else None, cause.cpu, also=also)


def _steps(
    records: Sequence[Record],
    kernel: Kernel,
    cast: Cast,
    tellers: Mapping[type[ev.Event], Teller],
    most: int,
    whole: bool = False,
) -> tuple[Step, ...]:
    """Everything up to the EOI that somebody shown does; ``whole``: up to the end."""
    steps: list[Step] = []
    back: tuple[tuple[str, str], ...] | None = None  # what runs once the host timer's interrupt, where we are, is over
    for record in records:
        follow(cast, record)
        event = record.event
        about = getattr(event, "vcpu_id", cast.target)
        if isinstance(event, ev.AvicTake | ev.AvicClearIsr):
            about = event.apic_id  # which is the vcpu_id
        teller = tellers.get(type(event)) or AVIC_TELLERS.get(type(event))
        if teller is None or not cast.shown(about) or _other_vector(cast, event):
            continue
        told = teller(cast, record, event)
        if told is None:
            continue
        if back is not None and (not cast.timer_irq or isinstance(event, ev.HostIrq)):
            steps[-1] = replace(steps[-1], bars=back)
        back = bars(replace(cast, timer_irq=False)) if cast.timer_irq and record.cpu == cast.target_cpu else None
        steps.append(_step(told, cast, record, kernel))
        if len(steps) == most or (not whole and isinstance(event, ENDS) and _is_last(cast, record)):
            break
    if back is not None:
        steps[-1] = replace(steps[-1], bars=back)
    return tuple(steps)


def _step(told: Told, cast: Cast, record: Record, kernel: Kernel) -> Step:
    words = (told.kind, told.at, told.to, told.label, told.detail, told.who, told.sentence)
    return Step(*words, bars(cast), frames(record.stack, kernel), f"CPU {record.cpu}", states(cast, record))


def _other_vector(cast: Cast, event: ev.Event) -> bool:
    """An event of some other interrupt."""
    return not cast.follows(getattr(event, "vector", cast.vector))


def _is_last(cast: Cast, record: Record) -> bool:
    """Whether this EOI ends the story: in a program's, none of its vectors waits or is in service after it. An NMI has
    no EOI, but a handler."""
    event = record.event
    if isinstance(event, ev.HandlerLeave):
        return event.vector == cast.vector == NMI_VECTOR and event.vcpu_id == cast.target and cast.source != "program"
    about = event.apic_id if isinstance(event, ev.AvicClearIsr) else getattr(event, "vcpu_id", None)
    if about != cast.target:
        return False
    if cast.source != "program":
        return getattr(event, "vector", None) == cast.vector
    left = next(s.irr | s.isr for s in record.states if s.vcpu == cast.target)
    return not any(left >> vector & 1 for vector in (cast.vector, *cast.also))


def _spins(cast: Cast, steps: tuple[Step, ...]) -> int:
    """Where the target exits by HLT the second time with the vector in its IRR, from where on all repeats; or 0."""
    halts = [i for i, step in enumerate(steps) if step.kind == "exit" and "HLT" in step.label and _waits(cast, step)]
    return halts[1] if len(halts) > 1 else 0


def _waits(cast: Cast, step: Step) -> bool:
    return any(s.vcpu == cast.target and s.irr >> cast.vector & 1 for s in step.states)


def _verdict(cast: Cast, steps: tuple[Step, ...], spins: bool) -> str | None:
    """What became of an interrupt that never got its EOI, in words."""
    state = next(s for s in steps[-1].states if s.vcpu == cast.target)
    where = {"blocked": "sleeps", "runnable": "waits for its CPU"}.get(state.thread, "runs on")
    if cast.pending:
        return f"Stuck: the timer is pending, the IRR is empty, and vCPU {cast.target} {where}."
    if steps[-1].kind == "eoi" or not _waits(cast, steps[-1]):
        return None  # after its EOI it may wait again: that is another story
    if spins:
        where = "spins: each `HLT` exits and enters again, as KVM sees an event but injects none"
    stuck = f"Stuck: IRR `{cast.vector:#x}` is set, and vCPU {cast.target} {where}."
    return f"{stuck} Until another event comes along, nobody looks."
