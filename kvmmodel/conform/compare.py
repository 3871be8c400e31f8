"""The lab's guest in the model, on the recorded release, event by event beside the recording."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from difflib import SequenceMatcher

from kvmmodel.conform.excluded import comparable
from kvmmodel.conform.recording import LOST_EVENTS, MARKER, Line, Recording, runs
from kvmmodel.conform.timing import LAGS, SLACK, Moment, conduct
from kvmmodel.events import KvmPio, KvmUserspaceExit
from kvmmodel.guest.program import PORT_MARK
from kvmmodel.machine.host import Host
from kvmmodel.machine.vm import Vm
from kvmmodel.scenarios.run import built_in, run, unfinished
from kvmmodel.trace.text import tracepoint

SCENARIO = "lab"
USERSPACE_EXIT, SIGNAL = "kvm_userspace_exit", "reason restart"
INTERRUPTED, DELIVERING = "reason interrupt ", "intr_info 0x8"
EVENT_INJ = re.compile(r"intr_info (0x(?!0+\b)[0-9a-f]+)")
_Found = tuple[int, str, str, float]  # phase, tracepoint, its text, time


@dataclass(slots=True)
class Phase:
    """A phase of the guest, from its mark to the next. ``differences``: "-" only recorded, "+" only in the model.

    ``timed``: the model ran under the recording's times, as its own were other than the host's. ``unfinished``: the
    guest gets no further, in the recording and in the model; what its vCPUs wait for there.
    """

    name: str
    differences: list[str] = field(default_factory=list)
    timed: bool = False
    unfinished: str = ""

    @property
    def verdict(self) -> str:
        return "different" if self.differences else "equal"


@dataclass(frozen=True, slots=True)
class _Event:
    text: str
    phase: int
    t: float = 0.0
    entered: float = 0.0
    interrupts: tuple[bool, ...] = ()


def compare(recording: Recording, kernel: str | None = None) -> list[Phase]:
    """Every phase of the lab, of each recorded run. ``kernel`` other than the recorded one shows what has changed."""
    host = recording.system.host(kernel)
    vm = run(built_in(SCENARIO), host, stacks=False)
    marks = vm.world.marks
    return [phase for lines in runs(recording.lines, marks[0]) for phase in _compare_run(lines, vm)]


def _compare_run(lines: Sequence[Line], vm: Vm) -> list[Phase]:
    """Under the model's own timing; if that differs, under the recorded one, should that explain more."""
    best = own = _compare_with(lines, vm)
    if not _different(own):
        return own
    for prepare in _recorded_timings(lines, vm):
        again = _compare_with(lines, run(built_in(SCENARIO), vm.host, prepare=prepare, stacks=False))
        best = again if _different(again) < _different(best) else best
        if not _different(best):
            break
    for before, after in zip(own, best, strict=True):
        after.timed = best is not own and bool(before.differences)
    return best


def _different(phases: Sequence[Phase]) -> int:
    return sum(bool(phase.differences) for phase in phases)


def _compare_with(lines: Sequence[Line], vm: Vm) -> list[Phase]:
    phases = [Phase(mark) for mark in vm.world.marks]
    at = _marks(lines, phases)
    known = {vcpu.id for vcpu in vm.vcpus}
    waits = unfinished(vm)
    for vcpu in sorted(known | {line.vcpu for line in lines if line.vcpu is not None}):
        modelled = _modelled(vm, vm.host, vcpu) if vcpu in known else []
        recorded = _recorded(lines, at, vcpu, bool(waits))
        _compare(phases, vcpu, _events(recorded), _events(modelled))
        _compare(phases, vcpu, _injecting(recorded), _injecting(modelled))
    if waits and max(at, default=-1) == len(phases) - 1:
        phases[-1].unfinished = ", ".join(f"vCPU {vcpu} waits: {step}" for vcpu, step in sorted(waits.items()))
    return phases


def _recorded_timings(lines: Sequence[Line], vm: Vm) -> Iterator[Callable[[Vm], None]]:
    """None of a recording that lacks a mark or lost events: its times say nothing."""
    at = _marks(lines, phases := [Phase(mark) for mark in vm.world.marks])
    if _different(phases):
        return
    moments = {}
    for vcpu in vm.vcpus:
        moments[vcpu.id] = [
            Moment(e.t, e.text, e.entered, e.interrupts)
            for e in _events(_recorded(lines, at, vcpu.id, bool(unfinished(vm))))
        ]
    recorded = [line.t for line in lines if line.event == MARKER]
    own = [r.t / 1e9 for r in vm.trace.records if isinstance(r.event, KvmPio) and r.event.port == PORT_MARK]
    longest = max(range(len(own) - 1), key=lambda n: own[n + 1] - own[n])
    took = recorded[longest + 1] - recorded[longest]
    if took > 0 and moments[0]:
        scale = SLACK * max(1.0, (own[longest + 1] - own[longest]) / took)
        yield from (conduct(moments, scale, lag) for lag in LAGS)


def _marks(lines: Sequence[Line], phases: Sequence[Phase]) -> list[int]:
    """The phase that each line belongs to, -1 before the first. What a phase lacks, or lost, makes it differ."""
    number, found, seen = -1, list[int](), set[int]()
    for line in lines:
        if line.event == MARKER:
            named = next((n for n, phase in enumerate(phases) if line.text.endswith(phase.name)), None)
            if named is None or named in seen:
                phases[max(number, 0)].differences.append(f"- mark {line.text}")
            else:
                number = named
                seen.add(number)
        elif line.event == LOST_EVENTS:
            phases[max(number, 0)].differences.append(f"- lost events: {line.text}")
        found.append(number)
    for n, phase in enumerate(phases):
        if n not in seen:
            phase.differences.append(f"+ mark {phase.name}")
    return found


def _recorded(lines: Sequence[Line], at: Sequence[int], vcpu: int, hangs: bool) -> list[_Found]:
    """A vCPU's events from the first mark to the guest's last exit to userspace; then the process ends as it likes.

    ``hangs``: in the model the guest never gets so far. Then up to where a signal ends the process.
    """
    exits = [n + 1 for n, line in enumerate(lines) if line.event == USERSPACE_EXIT and "KVM_EXIT_" in line.text]
    end = _stopped(lines) if hangs else max(exits, default=0)
    return [
        (phase, line.event, line.text, line.t)
        for line, phase in zip(lines[:end], at, strict=False)
        if line.vcpu == vcpu and phase >= 0 and line.event != MARKER
    ]


def _stopped(lines: Sequence[Line]) -> int:
    """Where a signal takes the first vCPU out of KVM_RUN. It wakes it up for that."""
    end = next((n for n, line in enumerate(lines) if line.event == USERSPACE_EXIT and SIGNAL in line.text), len(lines))
    own = [n for n in range(end) if end < len(lines) and lines[n].thread == lines[end].thread]
    while own and lines[own[-1]].event in ("kvm_fpu", "kvm_vcpu_wakeup"):
        end = own.pop()
    return end


def _modelled(vm: Vm, host: Host, vcpu: int) -> list[_Found]:
    """The same of the model's run. A phase begins when userspace has the port write that marks it."""
    phase, marks, found = -1, 0, list[_Found]()
    for record in vm.trace.records:
        event = record.event
        if record.vcpu == vcpu and phase >= 0 and event.tracepoint is not None:
            found.append((phase, event.tracepoint, tracepoint(event, host.kernel) or "", 0.0))
        if isinstance(event, KvmPio) and event.port == PORT_MARK:
            marks += 1
        elif isinstance(event, KvmUserspaceExit):
            phase = marks - 1
    return found


def _injecting(found: Sequence[_Found]) -> list[_Event]:
    """The entries with EVENTINJ, where the release tells it. How many there are without is the host's affair."""
    told = ((phase, EVENT_INJ.search(text), t) for phase, event, text, t in found if event == "kvm_entry")
    return [_Event(f"kvm_entry: intr_info {inj[1]}", phase, t) for phase, inj, t in told if inj]


def _events(found: Sequence[_Found]) -> list[_Event]:
    made, interrupts, entered = list[_Event](), list[bool](), 0.0
    texts = comparable((event, text) for _, event, text, _ in found)
    for (phase, event, raw, t), text in zip(found, texts, strict=True):
        if text is not None:
            made.append(_Event(text, phase, t, entered, tuple(interrupts)))
            interrupts, entered = [], 0.0
        elif event == "kvm_exit" and INTERRUPTED in raw:
            interrupts.append(DELIVERING in raw)
        elif event == "kvm_entry":
            entered = entered or t
    return made


def _compare(phases: list[Phase], vcpu: int, recorded: list[_Event], modelled: list[_Event]) -> None:
    """Align the two; a difference belongs to the phase in which the model is there."""
    ours, theirs = [e.text for e in modelled], [e.text for e in recorded]
    for tag, i1, i2, j1, j2 in SequenceMatcher(None, ours, theirs, autojunk=False).get_opcodes():
        if tag == "equal":
            continue
        at = modelled[min(i1, len(modelled) - 1)].phase if modelled else recorded[j1].phase
        rows = [f"- vCPU {vcpu} {text}" for text in theirs[j1:j2]] + [f"+ vCPU {vcpu} {text}" for text in ours[i1:i2]]
        phases[at].differences += rows
