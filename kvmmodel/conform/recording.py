"""Reading a recording: a folder with 00-system.txt (release, CPU, parameters) and 10-kvm-tracepoints.txt.

A trace may hold several runs of the guest, one after the other. Of the columns before an event only the thread's number
is used, so it does not matter what the tracer was told to print there.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from kvmmodel.explain.source import kernel_of
from kvmmodel.explain.system import System, system_of
from kvmmodel.facts.cpus import Processor

LINE = re.compile(
    r"^\s*(?P<task>\S.*?)-(?P<pid>\d+)\s+(?:\(\s*[-\d]+\)\s+)?\[(?P<cpu>\d+)\]\s+(?:\S+\s+)?(?P<t>\d+(?:\.\d+)?):\s+"
    r"(?P<event>\w+):\s+(?P<text>.*)$"
)
LOST = re.compile(r"^CPU:(?P<cpu>\d+) \[LOST (?P<count>\d+ )?EVENTS\]$")
MARKER = "tracing_mark_write"
LOST_EVENTS = "lost events"


class RecordingError(ValueError):
    """A folder that is no recording: what is missing."""


@dataclass(frozen=True, slots=True)
class Line:
    """One event; ``vcpu`` is the one whose thread it happened in, None for other threads."""

    vcpu: int | None
    event: str
    text: str
    thread: str = ""
    t: float = 0.0


@dataclass(frozen=True, slots=True)
class Recording:
    system: System
    lines: tuple[Line, ...]

    @property
    def kernel(self) -> str:
        return self.system.kernel or ""

    @property
    def processor(self) -> Processor:
        return self.system.processor


def read(folder: Path) -> Recording:
    """RecordingError, in one line, if the folder is none."""
    text = _file(folder, "00-system.txt")
    system = system_of(text)
    if kernel_of(text) is None:
        raise RecordingError(f"{folder}/00-system.txt names no kernel release: expected a line like uname -a prints")
    if system is None:
        raise RecordingError(f"{folder}/00-system.txt has no parameters of kvm_amd: expected /sys/module/... = value")
    lines = _lines(_file(folder, "10-kvm-tracepoints.txt"))
    if not lines:
        raise RecordingError(f"{folder}/10-kvm-tracepoints.txt has no KVM event: expected lines of tracefs' trace file")
    return Recording(system, lines)


def _file(folder: Path, name: str) -> str:
    path = folder / name
    if not path.is_file():
        raise RecordingError(f"{folder}: no {name}, so it is not a recording")
    return path.read_text(encoding="utf-8-sig", errors="replace")


def _lines(text: str) -> tuple[Line, ...]:
    """The events in the order of the file, and where some were lost. A thread is a vCPU's if it ever enters one."""
    found = [match for row in text.splitlines() if (match := LINE.match(row) or LOST.match(row.strip()))]
    vcpu_of: dict[str, int] = {}
    for match in found:
        entered = re.match(r"vcpu (\d+)", match["text"]) if match.re is LINE and match["event"] == "kvm_entry" else None
        if entered:
            vcpu_of[match["pid"]] = int(entered[1])
    return tuple(_line(match, vcpu_of) for match in found)


def _line(match: re.Match[str], vcpu_of: dict[str, int]) -> Line:
    if match.re is LOST:
        return Line(None, LOST_EVENTS, f"{(match['count'] or 'some ').strip()} on CPU {match['cpu']}")
    return Line(vcpu_of.get(match["pid"]), match["event"], match["text"], match["pid"], float(match["t"]))


def runs(lines: Sequence[Line], first: str) -> list[Sequence[Line]]:
    """The trace cut where the thread that makes the guest's first mark begins; one run if there is no such mark."""
    cuts, thread = list[int](), None
    for at, line in enumerate(lines):
        if line.event == MARKER and line.text.endswith(first):
            begins = next(n for n, other in enumerate(lines) if other.thread == line.thread)
            cuts.append(at if line.thread == thread else begins)
            thread = line.thread
    cuts = [0, *cuts[1:], len(lines)]
    return [lines[begin:end] for begin, end in pairwise(cuts)]
