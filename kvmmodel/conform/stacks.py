"""The recording's call stacks beside those that the model's functions had when it ran the lab.

Not compared: function graphs, and stacks without a frame of KVM's; those are listed for themselves, as nobody can say
from them whether KVM was there (a call that the compiler made a jump leaves no frame).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from kvmmodel.conform.recording import Recording
from kvmmodel.explain import explain, find
from kvmmodel.explain.match import MATCHED
from kvmmodel.explain.runs import emitted
from kvmmodel.explain.text import Stack
from kvmmodel.scenarios.run import names


@dataclass(frozen=True, slots=True)
class Stacks:
    """How many distinct recorded stacks a run emitted; the others, and those without a KVM frame: innermost first."""

    matched: int
    unmatched: tuple[tuple[str, ...], ...]
    outside: tuple[tuple[str, ...], ...] = ()


def compare_stacks(folder: Path, recording: Recording, kernel: str | None = None) -> Stacks:
    """Of every text in the folder. A recording without stacks has none matched and none unmatched."""
    texts = [path.read_text(encoding="utf-8", errors="replace") for path in sorted(folder.glob("*.txt"))]
    text = "\n".join(one for one in texts if any(isinstance(found, Stack) for found in find(one)))
    if not text:
        return Stacks(0, ())
    host = recording.system.host(kernel)
    report = explain(text, {host.kernel.release: emitted(host, names())}, host.kernel.release)
    distinct = report.distinct()
    ours = [one for one in distinct if any(part.kvm for part in one.parts)]
    unmatched = tuple(one.frames for one in ours if one.match.verdict != MATCHED)
    outside = tuple(one.frames for one in distinct if one not in ours)
    return Stacks(len(ours) - len(unmatched), unmatched, outside)
