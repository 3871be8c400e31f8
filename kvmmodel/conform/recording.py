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
from kvmmodel.facts.cpus import Processor

LINE = re.compile(
    r"^\s*(?P<task>\S.*?)-(?P<pid>\d+)\s+(?:\(\s*[-\d]+\)\s+)?\[(?P<cpu>\d+)\]\s+(?:\S+\s+)?(?P<t>\d+(?:\.\d+)?):\s+"
    r"(?P<event>\w+):\s+(?P<text>.*)$"
)
LOST = re.compile(r"^CPU:(?P<cpu>\d+) \[LOST (?P<count>\d+ )?EVENTS\]$")
PARAMETER = re.compile(r"^/sys/module/(kvm\w*)/parameters/(\w+) = (\S+)\s*$", re.MULTILINE)
MARKER = "tracing_mark_write"
LOST_EVENTS = "lost events"
# Parameters that are on only if the processor has the feature, so they tell it.
FEATURES = ("npt", "nrips", "vgif", "vnmi", "avic")


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
    kernel: str
    processor: Processor
    avic: bool
    lines: tuple[Line, ...]


def read(folder: Path) -> Recording:
    """RecordingError, in one line, if the folder is none."""
    system = _file(folder, "00-system.txt")
    kernel = _kernel(system)
    if kernel is None:
        raise RecordingError(f"{folder}/00-system.txt names no kernel release: expected a line like uname -a prints")
    params = {name: value for module, name, value in PARAMETER.findall(system) if module == "kvm_amd"}
    if not params:
        raise RecordingError(f"{folder}/00-system.txt has no parameters of kvm_amd: expected /sys/module/... = value")
    lines = _lines(_file(folder, "10-kvm-tracepoints.txt"))
    if not lines:
        raise RecordingError(f"{folder}/10-kvm-tracepoints.txt has no KVM event: expected lines of tracefs' trace file")
    return Recording(kernel, _processor(system, params), params.get("avic") in ("Y", "1"), lines)


def _kernel(system: str) -> str | None:
    """The release. A distribution's X.Y.0-ABI without its point release is taken for the series."""
    kernel = kernel_of(system)
    if kernel is not None and kernel.endswith(".0") and re.search(rf"\b{re.escape(kernel)}-\d+-", system):
        return kernel.removesuffix(".0")
    return kernel


def _file(folder: Path, name: str) -> str:
    path = folder / name
    if not path.is_file():
        raise RecordingError(f"{folder}: no {name}, so it is not a recording")
    return path.read_text(encoding="utf-8-sig", errors="replace")


def _processor(system: str, params: dict[str, str]) -> Processor:
    """What the recorded parameters say of the processor; an emulated one has the emulator's ways."""
    model = re.search(r"^model name\s*: (.*)$", system, re.MULTILINE)
    title = model[1] if model else "not recorded"
    features = {name for name in FEATURES if params.get(name) in ("Y", "1")}
    if "TCG" in title:
        features.add("virq_at_equal_priority")
    return Processor("the recorded CPU", title, frozenset(features))


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
