"""Running a script with AVIC on, and comparing what the guest sees with the same run with AVIC off."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field, replace

from kvmmodel.machine.host import Host
from kvmmodel.scripts.avic_differences import CAUSES, LOW_NIBBLE, Differing, Row, differences
from kvmmodel.scripts.run import Outcome, run
from kvmmodel.scripts.translate import Script


@dataclass(frozen=True, slots=True)
class Verdict:
    """``rows``: of the table, those that explain what differs. ``different``: the first thing that none explains."""

    rows: tuple[str, ...] = ()
    different: Differing | None = None


@dataclass(slots=True)
class Pair:
    """A host with AVIC off and the same with AVIC on; besides, that one without the causes of differences."""

    off: Host
    on: Host
    others: dict[frozenset[str], Host] = field(default_factory=dict)

    def without(self, rows: frozenset[Row]) -> Host:
        """The host with AVIC where these rows make no difference."""
        key = frozenset(row.id for row in rows)
        if key not in self.others:
            made = self.others[key] = copy.copy(self.on)
            made.open_points = self.on.open_points | {row.open_point: row.choice for row in rows if row.open_point}
            behaviours = {row.behaviour for row in rows if row.behaviour}
            made.kernel = replace(self.on.kernel, behaviours=self.on.kernel.behaviours | behaviours)
        return self.others[key]


def compare_avic(script: Script, pair: Pair) -> Verdict:
    """What the guest sees with AVIC, compared with what it sees without. Equal: neither rows nor a difference."""
    off, on = run(script, pair.off), run(script, pair.on)
    if off == on:
        return Verdict()
    unexplained = _unexplained(script, off, on)
    if unexplained is None:
        return Verdict((LOW_NIBBLE.id,))
    every = frozenset(CAUSES)
    chosen = run(script, pair.without(every))
    if (left := _unexplained(script, off, chosen)) is not None:
        return Verdict(different=left)
    touched = [row.id for row in CAUSES if _touches(script, pair, row, on, chosen)]
    return Verdict((*([LOW_NIBBLE.id] * (off != chosen)), *touched))


def _unexplained(script: Script, off: Outcome, on: Outcome) -> Differing | None:
    return next((found for found in differences(script, off, on) if not found.nibble), None)


def _touches(script: Script, pair: Pair, row: Row, on: Outcome, chosen: Outcome) -> bool:
    """Whether the row's cause makes a difference to this script: by itself, or with the others out of the way."""
    alone, rest = pair.without(frozenset({row})), pair.without(frozenset(CAUSES) - {row})
    return run(script, alone) != on or run(script, rest) != chosen
