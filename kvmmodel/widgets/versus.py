"""Two runs side by side, as HTML: equal steps face each other, and a mark says where they differ.

`=` the same step by the same functions, `±` the same step by other functions, `−` left only, `+` right only.
A difference has an ink edge and no colour of its own. Rows are order; nothing here is a picture of time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from kvmmodel.trace import align
from kvmmodel.trace.align import CHANGED, GONE, NEW, SAME, FrameRow, StepRow
from kvmmodel.trace.story import Badge, StackFrame, Step, Story
from kvmmodel.widgets.glyphs import icon
from kvmmodel.widgets.page import badges
from kvmmodel.widgets.stack import lane_of
from kvmmodel.widgets.svg import breakable, el, plain, rich

SPOKEN = {SAME: "same", CHANGED: "same step, other functions", GONE: "only on the left", NEW: "only on the right"}
_KEY = (
    "<b>=</b> same step, same functions. <b>±</b> same step, by other functions. <b>−</b> left only. <b>+</b> right "
    "only. <i>Italic</i>: inlined or tail-called, so no recorded build shows the frame."
)
COUNTED = (("exit", "exit"), ("kick", "kick"))


@dataclass(frozen=True, slots=True)
class Pair:
    """Two runs to compare, each under a name. ``note`` is a sentence that belongs beneath them."""

    title: str
    setup: str
    left: Story
    right: Story
    names: tuple[str, str]
    note: str = ""
    badges: tuple[Badge, ...] = ()


def draw(pair: Pair) -> str:
    """Verdict, steps and the stacks of one row: what a widget redraws."""
    rows = align.steps(pair.left, pair.right)
    parts = [_verdict(rows, pair), _steps(rows, pair), _stacks(rows, pair)]
    note = el("p", rich(pair.note), class_="km-note") if pair.note else ""
    foot = el("div", badges(pair.badges), class_="km-foot")
    return el("div", *parts, f'<p class="km-note">{_KEY}</p>', note, foot, class_="km km-run")


def heading(pair: Pair) -> str:
    setup = el("p", rich(pair.setup), class_="km-sub") if pair.setup else ""
    return el("div", el("h3", rich(pair.title), class_="km-title"), setup, class_="km-rule")


def static(pair: Pair) -> str:
    """Complete in itself, for readers without scripts and for print."""
    return el("section", heading(pair), draw(pair), class_="km km-static", aria_label=plain(pair.title))


def verdict(rows: Sequence[StepRow], names: tuple[str, str]) -> str:
    """In words: how many steps are the same, and what is not."""
    count = {mark: sum(row.mark == mark for row in rows) for mark in (SAME, CHANGED, GONE, NEW)}
    if count[SAME] == len(rows):
        return f"{_number(len(rows), 'step')}, all the same, by the same functions."
    parts = [f"{count[SAME]} of {_number(len(rows), 'row')} the same"]
    parts += [f"{count[CHANGED]} by other functions"] if count[CHANGED] else []
    parts += [f"{count[mark]} only on “{name}”" for mark, name in zip((GONE, NEW), names, strict=True) if count[mark]]
    return ", ".join(parts) + "."


def focus(rows: Sequence[StepRow]) -> StepRow | None:
    """The row whose stacks are worth showing: the first that differs in them; else the deepest."""
    facing = [row for row in rows if row.left and row.right and (row.left.stack or row.right.stack)]
    return next((row for row in facing if row.mark == CHANGED), max(facing, key=_depth, default=None))


def _depth(row: StepRow) -> int:
    return len(row.left.stack) if row.left else 0


def _number(count: int, what: str) -> str:
    return f"{count} {what}{'s' * (count != 1)}"


def _verdict(rows: Sequence[StepRow], pair: Pair) -> str:
    mark = icon("eoi" if all(row.mark == SAME for row in rows) else "dot")
    return f'<p class="km-found">{mark}<b>{rich(verdict(rows, pair.names))}</b></p>'


def _steps(rows: Sequence[StepRow], pair: Pair) -> str:
    lane = {c.id: c.lane for story in (pair.left, pair.right) for g in story.groups for c in g.columns}

    def side(step: Step | None) -> str:
        if step is None:
            return '<span class="km-gap">no such step</span>'
        return f"{icon(step.kind, css=f'km-{lane[step.at]}', size=14)}<span>{rich(step.label)}</span>"

    lines = [_line(row.mark, side(row.left), side(row.right)) for row in rows]
    return _table("Steps", [_counts(pair.names[0], pair.left), _counts(pair.names[1], pair.right)], lines)


def _counts(name: str, story: Story) -> str:
    kinds = [step.kind for step in story.steps]
    counted = [f"<span>{icon(kind, size=14)}{_number(kinds.count(kind), word)}</span>" for kind, word in COUNTED]
    return rich(name) + el("small", *counted)


def _stacks(rows: Sequence[StepRow], pair: Pair) -> str:
    row = focus(rows)
    if row is None or row.left is None or row.right is None:
        return ""
    lines = [_frame(item) for item in align.frames(row.left, row.right)]
    return el("h4", f"Kernel stacks at “{rich(row.left.label)}”", class_="km-at") + _table(
        "Stacks", [rich(name) for name in pair.names], lines
    )


def _frame(row: FrameRow) -> str:
    def side(frame: StackFrame | None) -> str:
        if frame is None:
            return '<span class="km-gap">no frame</span>'
        name = breakable(frame.name)
        return f'<code class="km-{lane_of(frame)}">{f"<i>{name}</i>" if frame.folded else name}</code>'

    return _line(row.mark, side(row.left), side(row.right))


def _line(mark: str, left: str, right: str) -> str:
    css = {SAME: "same", CHANGED: "changed", GONE: "gone", NEW: "new"}[mark]
    middle = el("td", f'<b aria-label="{SPOKEN[mark]}">{mark}</b>', class_="eq", role="cell")
    cells = el("td", left, class_="a", role="cell"), middle, el("td", right, class_="b", role="cell")
    return el("tr", *cells, class_=css, role="row")


def _table(label: str, heads: Sequence[str], lines: Sequence[str]) -> str:
    middle = '<td role="cell" class="eq"></td>'
    first, second = (el("th", head, scope="col", role="columnheader") for head in heads)
    head = el("thead", el("tr", first, middle, second, role="row"), role="rowgroup")
    body = el("tbody", *lines, role="rowgroup")
    return el("table", head, body, class_="km-pair", role="table", aria_label=label)
