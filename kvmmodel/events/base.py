"""What every event has."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True, slots=True)
class Event:
    """Any event. ``kind`` is its name in JSON and the diagrams' glyph."""

    kind: ClassVar[str] = "event"
    lane: ClassVar[str] = "kvm"
    tracepoint: ClassVar[str | None] = None
