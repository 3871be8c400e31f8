"""What generators know of the case they are in, and what all of them draw from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st

Draw = Callable[[st.SearchStrategy[Any]], Any]

STARTS = st.sampled_from(
    ("flat", "x2apic", "aliased", "mixed", "cluster", "aliased", "mixed", "x2apic", "aliased", "reset")
)
BYTE, WORD, BOOL = st.integers(0, 0xFF), st.integers(0, 0xFFFFFFFF), st.booleans()
VECTORS = st.one_of(st.sampled_from((0x41, 0x42, 0x43, 0x51, 0x52, 0x91, 0x31, 0xFE)), BYTE)
MODES = st.sampled_from((0, 0, 0, 0, 0, 1, 1, 1, 3, 4, 5, 6, 7, 2))
DESTS = st.one_of(
    st.sampled_from((0, 1, 2, 3, 0xFF, 0xFF, 5, 7, 0x0F, 0x11, 0x12, 0x21, 0x80)), st.integers(0, 3), BYTE
)


@dataclass(frozen=True)
class Context:
    """``start``: how the APICs were brought up. ``wild``: also what no sensible guest or VMM does."""

    vcpus: int
    split: bool
    pit: bool
    api: int
    start: str
    wild: bool

    @property
    def x2apics(self) -> tuple[int, ...]:
        """vCPUs that began in x2APIC mode."""
        first = {"x2apic": 0, "mixed": 2}.get(self.start, self.vcpus)
        return tuple(range(first, self.vcpus))

    def any(self, draw: Draw) -> int:
        return int(draw(st.integers(0, self.vcpus - 1)))

    def prefer(self, draw: Draw, wanted: tuple[int, ...]) -> int:
        """A vCPU, mostly one of these."""
        return int(draw(st.sampled_from(wanted))) if wanted and draw(st.integers(0, 9)) < 8 else self.any(draw)
