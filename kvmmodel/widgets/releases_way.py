"""The way between two releases as a picture: a track with its stops, two handles, and what happens at each stop.

`+` new, `±` changed, `−` gone, each in a ring with its number; a dashed ring counts those whose release is inferred or
recalled. It is a list, so that it reads without the picture.
"""

from __future__ import annotations

from collections.abc import Sequence

from kvmmodel.facts.between import CHANGED, GONE, NEW, Difference
from kvmmodel.widgets.svg import el, esc

WORDS = {NEW: "new", CHANGED: "changed", GONE: "gone"}
MOST_IN_LINE = 8  # stops; with more their names would overlap
UNSURE = ("inferred", "recalled")
KEY = "<b>+</b> new. <b>±</b> changed: it is told what was before. <b>−</b> gone. Dashed: inferred or recalled."
SERIES = "A stop is a series as it was read; mainline took its changes there, or in a release since the stop before."
POINTS = "A stop is a stable release, the first that is known to have the change."


def draw(stops: Sequence[str], ends: tuple[str, str], rows: Sequence[Difference]) -> str:
    """``ends``: the two stops that are compared, in any order."""
    first, last = sorted(stops.index(end) for end in ends)
    items = [
        _stop(name, [row for row in rows if row.at == name], inside=first <= i <= last, after=first < i <= last,
              handle=name in ends)
        for i, name in enumerate(stops)
    ]  # fmt: skip
    where = POINTS if all(stop.count(".") == 2 for stop in stops) else SERIES
    label = f"The way from {ends[0]} to {ends[1]}"
    css = "km-rels many" if len(stops) > MOST_IN_LINE else "km-rels"
    return el("ol", *items, class_=css, aria_label=label) + el("p", f"{KEY} {where}", class_="km-note km-rels-key")


def _stop(name: str, rows: Sequence[Difference], *, inside: bool, after: bool, handle: bool) -> str:
    """``after``: the track from the stop before to this one is part of the way."""
    css = " ".join(word for word, holds in (("in", inside), ("way", after), ("end", handle)) if holds)
    marks = [
        _mark(mark, found, unsure)
        for mark in (NEW, CHANGED, GONE)
        for unsure in (False, True)
        if (found := [row for row in rows if row.mark == mark and (row.change.how in UNSURE) is unsure])
    ]
    name = el("b" if handle else "span", esc(name))
    return el("li", el("div", *marks), "<i></i>", name, class_=css or None)


def _mark(mark: str, rows: Sequence[Difference], unsure: bool) -> str:
    said = f"{len(rows)} {WORDS[mark]}{', inferred or recalled' if unsure else ''}; "
    ring = el("i", mark, class_="dashed" if unsure else None, aria_hidden="true")
    return el("span", ring, el("b", str(len(rows)), aria_hidden="true"), el("em", said, class_="km-vh"))
