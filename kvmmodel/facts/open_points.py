"""Open points: what is not known about the processor, as parameters with a stated default."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

from kvmmodel.facts import load


@dataclass(frozen=True, slots=True)
class OpenPoint:
    """One row of open_points.toml. ``choices`` by word, what the processor then does."""

    id: str
    question: str
    choices: dict[str, str]
    default: str
    because: str
    source: str


@cache
def open_points() -> dict[str, OpenPoint]:
    """All of them, by id."""
    return {name: OpenPoint(name, **row) for name, row in load("open_points").items()}


def choose(wanted: Mapping[str, str] | None = None) -> dict[str, str]:
    """The choice at every open point: ``wanted``, else the default. ValueError, in one line, for what is none."""
    known = open_points()
    for name, choice in (wanted or {}).items():
        if name not in known:
            raise ValueError(f"unknown open point {name!r}: expected one of {', '.join(known)}")
        if choice not in known[name].choices:
            raise ValueError(f"open point {name}: expected one of {', '.join(known[name].choices)}, got {choice!r}")
    return {name: point.default for name, point in known.items()} | dict(wanted or {})
