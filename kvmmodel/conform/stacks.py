"""The recording's call stacks beside those that the model's functions had when it ran the lab."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from kvmmodel.conform.recording import Recording
from kvmmodel.explain import ExplainError, explain
from kvmmodel.explain.corpus import emitted
from kvmmodel.explain.match import MATCHED
from kvmmodel.explain.source import read
from kvmmodel.machine.host import Host
from kvmmodel.scenarios.run import names


@dataclass(frozen=True, slots=True)
class Stacks:
    """How many distinct recorded stacks a run emitted, and the others: innermost frame first."""

    matched: int
    unmatched: tuple[tuple[str, ...], ...]


def compare_stacks(folder: Path, recording: Recording, kernel: str | None = None) -> Stacks:
    """Of every text in the folder. A recording without stacks has none matched and none unmatched."""
    try:
        text, _ = read(folder)
    except ExplainError:
        return Stacks(0, ())
    host = Host(recording.processor, kernel or recording.kernel, avic=recording.avic)
    report = explain(text, {host.kernel.release: emitted(host, names())}, host.kernel.release)
    distinct = report.distinct()
    unmatched = tuple(one.frames for one in distinct if one.match.verdict != MATCHED)
    return Stacks(len(distinct) - len(unmatched), unmatched)
