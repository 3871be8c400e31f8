"""The changes between two releases as tables: those that a run asked for, then the rest by area.

A row has what a release does and did before, since when, in which stable releases, the commit, and how it is known.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from kvmmodel.facts.between import Difference, now_and_before
from kvmmodel.facts.releases import Change
from kvmmodel.trace.story import Badge
from kvmmodel.widgets.page import badge
from kvmmodel.widgets.releases_runs import CREATE, LOAD, Both, Turned
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
    "Each change here was turned round alone, in either release, and the scenario run again. Such a release never was, "
    "so the number says what this one change does in the model, with all else as it is."
)


def by_area(rows: Sequence[Difference]) -> list[tuple[str, list[Difference]]]:
    """The rows of each area that has some, in the order of AREAS."""
    found = [(name, [row for row in rows if row.change.area == area]) for area, name in AREAS.items()]
    return [(name, ours) for name, ours in found if ours]


def in_the_run(row: Difference, both: Both) -> bool:
    """Whether one of the runs asked for it, not counting the modules' start and the VM's creation."""
    return both.asked(row.change.id) not in (None, LOAD, CREATE) or _moves(row, both) > 0


def _moves(row: Difference, both: Both) -> int:
    turned = both.turned.get(row.change.id)
    return turned.moves if turned else 0


def draw(rows: Sequence[Difference], both: Both) -> str:
    """Nothing where nothing changed."""
    asked = sorted((row for row in rows if in_the_run(row, both)), key=lambda row: _order(row, both), reverse=True)
    parts = []
    if asked:
        parts += [el("h4", "Asked for in these runs", class_="km-at"), _table("Asked for in these runs", asked, both)]
        parts.append(el("p", TURNED, class_="km-note"))
    rest = by_area([row for row in rows if row not in asked])
    if rest:
        parts.append(el("h4", "The other changes" if asked else "The changes", class_="km-at"))
    for name, ours in rest:
        title = f"{name[0].upper()}{name[1:]}"
        summary = el("summary", f"{title}: {len(ours)}")
        parts.append(el("details", summary, _table(title, ours, both), class_="km-more"))
    return "".join(parts)


def _order(row: Difference, both: Both) -> tuple[int, int]:
    turned = both.turned.get(row.change.id) or Turned()
    return turned.closer, turned.moves


def _table(label: str, rows: Sequence[Difference], both: Both | None) -> str:
    heads = [el("th", name, scope="col", role="columnheader") for name in ("", "since", "change", "commit", "how known")]
    head = el("thead", el("tr", *heads, role="row"), role="rowgroup")
    body = el("tbody", *(_line(row, both) for row in rows), role="rowgroup")
    return el("table", head, body, class_="km-changes", role="table", aria_label=label)


def table(label: str, rows: Sequence[Difference]) -> str:
    """The same without runs, for a page."""
    return _table(label, rows, None)


def _line(row: Difference, both: Both | None) -> str:
    change = row.change
    now, before = now_and_before(change)
    text = [
        el("code", esc(change.id), class_="km-id"),
        el("p", coded(now)),
        el("p", coded(before), class_="km-mut") if before else "",
        el("p", _words(row, both), class_="km-turned") if both and change.id in both.left.asked | both.right.asked else "",
        el("p", coded(_stable(change)), class_="km-mut"),
        el("p", coded(f"{change.source}."), class_="km-mut"),
    ]
    commits = "<br/>".join(el("code", esc(one)) for one in (change.commit or "").split(", ") if one) or "–"
    cells = (
        (el("b", row.mark, aria_label=WORDS[row.mark]), "m"),
        (esc(change.since), "s"),
        ("".join(text), "t"),
        (commits, "c"),
        (badge(Badge(change.how, "")), "h"),
    )
    return el("tr", *(el("td", cell, class_=css, role="cell") for cell, css in cells), role="row")


def _stable(change: Change) -> str:
    return "Stable: " + ", ".join(point for _, point in change.stable) + "." if change.stable else ""


def _words(row: Difference, both: Both) -> str:
    """What is known of a change that a run asked for."""
    when = both.asked(row.change.id)
    if when == LOAD:
        return "Asked for while the modules load."
    asked = "Asked for while the VM is made" if when == CREATE else "Asked for in the run"
    turned = both.turned.get(row.change.id)
    if turned is None:
        return f"{asked}. Turned round alone, it leaves a release that the model cannot run."
    if not turned.moves:
        return f"{asked}. Turned round alone, it moves no step."
    steps = f"{turned.moves} step{'s' * (turned.moves != 1)}"
    if turned.closer > 0:
        lines = f"{turned.closer} line{'s' * (turned.closer != 1)}"
        return f"{asked}. Turned round alone, it moves {steps}, and the two runs differ in {lines} fewer."
    return f"{asked}. Turned round alone, it moves {steps}; the two runs differ no less."


def coded(text: str) -> str:
    return rich(CODE.sub(lambda found: f"`{found[0]}`", text))
