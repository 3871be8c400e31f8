"""The lab's guest in the model, on the recorded release, event by event beside the recording."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from difflib import SequenceMatcher

from kvmmodel.conform.excluded import comparable
from kvmmodel.conform.recording import MARKER, Line, Recording
from kvmmodel.events import KvmPio, KvmUserspaceExit
from kvmmodel.guest.program import PORT_MARK
from kvmmodel.machine.host import Host
from kvmmodel.machine.vm import Vm
from kvmmodel.scenarios.run import built_in, run
from kvmmodel.trace.text import tracepoint

SCENARIO = "lab"
USERSPACE_EXIT = "kvm_userspace_exit"


@dataclass(slots=True)
class Phase:
    """A phase of the guest, from its mark to the next. ``differences``: "-" only recorded, "+" only in the model."""

    name: str
    differences: list[str] = field(default_factory=list)

    @property
    def verdict(self) -> str:
        return "different" if self.differences else "equal"


@dataclass(frozen=True, slots=True)
class _Event:
    text: str
    phase: int


def compare(recording: Recording, kernel: str | None = None) -> list[Phase]:
    """Every phase of the lab. ``kernel`` other than the recorded one shows what differs between releases."""
    host = Host(recording.processor, kernel or recording.kernel, avic=recording.avic)
    vm = run(built_in(SCENARIO), host, stacks=False)
    phases = _phases(recording, vm.world.marks)
    for vcpu in vm.vcpus:
        _compare(phases, vcpu.id, _recorded(recording.lines, vcpu.id), _modelled(vm, host, vcpu.id))
    return phases


def _phases(recording: Recording, marks: Sequence[str]) -> list[Phase]:
    """The model's phases; one that was recorded under another name, or not at all, differs from the start."""
    recorded = [line.text for line in recording.lines if line.event == MARKER]
    phases = [Phase(mark) for mark in marks]
    for at, phase in enumerate(phases):
        if at >= len(recorded):
            phase.differences.append(f"+ mark {phase.name}")
        elif not recorded[at].endswith(phase.name):
            phase.differences += [f"- mark {recorded[at]}", f"+ mark {phase.name}"]
    phases[-1].differences += [f"- mark {text}" for text in recorded[len(phases) :]]
    return phases


def _recorded(lines: Sequence[Line], vcpu: int) -> list[_Event]:
    """A vCPU's events from the first mark to the guest's last exit to userspace; then the process ends as it likes."""
    exits = [at for at, line in enumerate(lines) if line.event == USERSPACE_EXIT and "KVM_EXIT_" in line.text]
    end = max(exits, default=-1)
    phase, found = -1, []
    for line in lines[: end + 1]:
        if line.event == MARKER:
            phase += 1
        elif line.vcpu == vcpu and phase >= 0:
            found.append((phase, line.event, line.text))
    return _events(found)


def _modelled(vm: Vm, host: Host, vcpu: int) -> list[_Event]:
    """The same of the model's run. A phase begins when userspace has the port write that marks it."""
    phase, marks, found = -1, 0, []
    for record in vm.trace.records:
        event = record.event
        if record.vcpu == vcpu and phase >= 0 and event.tracepoint is not None:
            found.append((phase, event.tracepoint, tracepoint(event, host.kernel) or ""))
        if isinstance(event, KvmPio) and event.port == PORT_MARK:
            marks += 1
        elif isinstance(event, KvmUserspaceExit):
            phase = marks - 1
    return _events(found)


def _events(found: list[tuple[int, str, str]]) -> list[_Event]:
    texts = comparable((event, text) for _, event, text in found)
    return [_Event(text, phase) for (phase, _, _), text in zip(found, texts, strict=True) if text is not None]


def _compare(phases: list[Phase], vcpu: int, recorded: list[_Event], modelled: list[_Event]) -> None:
    """Align the two; a difference belongs to the phase in which the model is there."""
    ours, theirs = [e.text for e in modelled], [e.text for e in recorded]
    for tag, i1, i2, j1, j2 in SequenceMatcher(None, ours, theirs, autojunk=False).get_opcodes():
        if tag == "equal":
            continue
        at = modelled[min(i1, len(modelled) - 1)].phase if modelled else 0
        rows = [f"- vCPU {vcpu} {text}" for text in theirs[j1:j2]] + [f"+ vCPU {vcpu} {text}" for text in ours[i1:i2]]
        phases[at].differences += rows
