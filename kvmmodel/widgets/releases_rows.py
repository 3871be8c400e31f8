"""The changes between two releases as tables: those that a run asked for, then the rest by area.

A row has what a release does and did before, since when, in which stable releases, the commit, and how it is known.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from kvmmodel.facts.between import Difference, now_and_before
from kvmmodel.trace.story import Badge
from kvmmodel.widgets.page import badge
from kvmmodel.widgets.releases_runs import CREATE, LOAD, RUN, Both, Turned
from kvmmodel.widgets.releases_way import WORDS
from kvmmodel.widgets.svg import el, esc, rich

AREAS = {
    "avic": "AVIC",
    "apicv": "inhibits",
    "delivery": "delivery",
    "lapic": "local APIC",
    "svm": "SVM",
    "ioapic-pic-pit": "I/O APIC, 8259, PIT",
    "tracing": "traces",
}
CODE = re.compile(r"(?:[\w.-]+/)+[\w.-]+\.[ch]\b|\w*[^\W_]_\w+")  # a path, or a name of the kernel's
TURNED = (
    "A change was turned round alone, in one of the two releases, and the scenario run again. Such a release never "
    "was: the number says what this one change does in the model, with all else as it is."
)
TOO_MANY = (
    "Too many to turn each of them round and run again. Choose two releases that are nearer to each other to see which "
    "of them move a step."
)
NONE_MOVES = (
    "Turned round alone, none of these moves a step. Lines that differ all the same do so because functions have other "
    "names, because of a default, or because of several changes together."
)


def by_area(rows: Sequence[Difference]) -> list[tuple[str, list[Difference]]]:
    """The rows of each area that has some, in the order of AREAS."""
    found = [(name, [row for row in rows if row.change.area == area]) for area, name in AREAS.items()]
    return [(name, ours) for name, ours in found if ours]


def asked(rows: Sequence[Difference], both: Both) -> list[Difference]:
    """Those that a run asked for, not counting the modules' start; what moves most comes first."""
    found = [row for row in rows if both.asked(row.change.id) in (CREATE, RUN)]
    return sorted(found, key=lambda row: _order(row, both), reverse=True)


def moves(row: Difference, both: Both) -> bool:
    """Whether a step comes out otherwise with this change alone turned round."""
    return _order(row, both)[1] > 0


def _order(row: Difference, both: Both) -> tuple[int, int]:
    turned = both.turned.get(row.change.id) or Turned()
    return turned.closer, turned.moves


def draw(rows: Sequence[Difference], both: Both) -> str:
    """What moves a step, in full; then what else was asked for, and the rest by area, to be opened. Nothing if there is
    no change."""
    ours = asked(rows, both)
    moving, still = [row for row in ours if moves(row, both)], [row for row in ours if not moves(row, both)]
    parts = []
    if moving:
        title = "Changes that move a step"
        parts += [el("h4", title, class_="km-at"), table(title, moving, both), el("p", TURNED, class_="km-note")]
    others = [row for row in rows if row not in ours]
    if still or others:
        parts.append(el("h4", "All other changes" if moving else "The changes", class_="km-at"))
    if still:
        note = TOO_MANY if both.too_many else "" if moving else NONE_MOVES
        title = "Asked for in the runs" + ("" if both.too_many else ", and no step moves")
        parts.append(_folded(title, still, both) + (el("p", note, class_="km-note") if note else ""))
    parts += [_folded(f"{name[0].upper()}{name[1:]}", of_area, both) for name, of_area in by_area(others)]
    return "".join(parts)


def _folded(title: str, rows: Sequence[Difference], both: Both) -> str:
    return el("details", el("summary", f"{title}: {len(rows)}"), table(title, rows, both), class_="km-more")


def table(label: str, rows: Sequence[Difference], both: Both | None = None) -> str:
    """A row for each change; without runs, nothing of them."""
    mark = el("span", "mark", class_="km-vh")  # the marks need no heading to be seen
    heads = [
        el("th", name, scope="col", role="columnheader") for name in (mark, "since", "change", "commit", "how known")
    ]
    head = el("thead", el("tr", *heads, role="row"), role="rowgroup")
    body = el("tbody", *(_line(row, both) for row in rows), role="rowgroup")
    return el("table", head, body, class_="km-changes", role="table", aria_label=label)


def _line(row: Difference, both: Both | None) -> str:
    change = row.change
    now, before = now_and_before(change)
    words = _words(row, both) if both else ""
    text = [
        el("code", esc(change.id), class_="km-id"),
        el("p", coded(now)),
        el("p", coded(before), class_="km-mut") if before else "",
        el("p", words, class_="km-turned") if words else "",
        el("p", f"Stable: {', '.join(point for _, point in change.stable)}.", class_="km-mut") if change.stable else "",
        el("p", coded(f"{change.source}."), class_="km-mut"),
    ]
    commits = "<br/>".join(el("code", esc(one)) for one in (change.commit or "").split(", ") if one) or "–"
    cells = (
        (el("b", row.mark, aria_label=WORDS[row.mark]), "m"),
        (esc(change.since), "s"),
        ("".join(text), "t"),
        (commits, "c" if change.commit else "c none"),
        (badge(Badge(change.how, "")), "h"),
    )
    return el("tr", *(el("td", cell, class_=css, role="cell") for cell, css in cells), role="row")


def _words(row: Difference, both: Both) -> str:
    """What the runs tell of a change."""
    when = both.asked(row.change.id)
    if when == LOAD:
        return "Asked for while the modules load."
    if when is None or both.too_many:
        return ""
    turned = both.turned[row.change.id]
    if turned is None:
        return "Turned round alone, it makes a release that the model cannot run."
    if not turned.moves:
        return ""
    steps = f"{turned.moves} step{'s' * (turned.moves != 1)}"
    if turned.closer > 0:
        lines = f"{turned.closer} line{'s' * (turned.closer != 1)}"
        return f"Turned round alone: {steps} come out otherwise, and the runs differ in {lines} fewer."
    return f"Turned round alone: {steps} come out otherwise, and the runs differ no less."


def coded(text: str) -> str:
    return rich(CODE.sub(lambda found: f"`{found[0]}`", text))
