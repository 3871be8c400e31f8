"""The evidence panel: a recorded stack beside the model's own, verdict first.

It compares names and nothing else: every recorded frame must appear in the model's stack, in the same order.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from kvmmodel.trace.align import align as align_names
from kvmmodel.trace.story import StackFrame
from kvmmodel.widgets.glyphs import icon
from kvmmodel.widgets.stack import lane_of
from kvmmodel.widgets.svg import breakable, el, esc, rich

_NOTE = (
    "<b>=</b> same frame on both sides. <i>Folded</i>: inlined or tail-called in the recorded build, "
    "so it leaves no frame."
)
_OFFSET = re.compile(r"\+(0x[0-9a-f]+|\d+)(/(0x[0-9a-f]+|\d+))?( \[\w+\])?$")
_SUFFIX = re.compile(r"\.(part|isra|constprop|cold)(\.\d+)?")


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the comparison: a match has both sides, a gap one."""

    recorded: str | None
    model: StackFrame | None


def name_of(recorded: str) -> str:
    """A recorded frame's function name: without offset, size, module and compiler suffix."""
    return _SUFFIX.sub("", _OFFSET.sub("", recorded.strip()))


def align(recorded: Sequence[str], model: Sequence[StackFrame]) -> list[Row]:
    """Lay both stacks side by side so that as many frames as possible match in order; gaps of the model come first."""
    pairs = align_names([frame.name for frame in model], [name_of(r) for r in recorded])
    return [Row(None if j is None else recorded[j], None if i is None else model[i]) for i, j in pairs]


def draw(
    recorded: Sequence[str],
    model: Sequence[StackFrame],
    caption: str,
    *,
    model_caption: str = "",
    outside: Collection[str] = (),
) -> str:
    """The panel. ``caption`` says where the recording is from, ``model_caption`` which kernel the model ran.

    ``outside`` names functions that the model does not claim to have, such as a scheduler's: listed, not counted.
    """
    rows = align(recorded, model)
    verdict = _verdict(rows, outside)
    shown = table(rows, caption, model_caption, outside)
    return el("section", verdict, shown, el("p", _NOTE, class_="km-note"), class_="km km-evidence")


def table(rows: Sequence[Row], caption: str, model_caption: str = "", outside: Collection[str] = ()) -> str:
    """Both stacks, frame beside frame."""
    head = el("tr", _column("Recorded", caption), '<td role="cell"></td>', _column("Model", model_caption), role="row")
    body = [_line(row, outside) for row in rows]
    return el(
        "table", el("thead", head, role="rowgroup"), el("tbody", *body, role="rowgroup"), class_="km-ev", role="table"
    )


def counts(rows: Sequence[Row], outside: Collection[str] = ()) -> tuple[int, int, str]:
    """How many recorded frames match, of how many; and in words what more the model has, "" if nothing."""
    counted = [r for r in rows if r.recorded is not None and (r.model or name_of(r.recorded) not in outside)]
    folded = sum(1 for r in rows if r.recorded is None and r.model and r.model.folded)
    silent = sum(1 for r in rows if r.recorded is None and r.model and not r.model.folded)
    more = [f"{folded} more in the model, folded by the compiler"] if folded else []
    more += [f"{silent} of the model not in the recording"] if silent else []
    return sum(1 for r in counted if r.model), len(counted), "; ".join(more)


def _column(title: str, caption: str) -> str:
    return f'<th scope="col" role="columnheader">{title}<small>{rich(caption)}</small></th>'


def _verdict(rows: Sequence[Row], outside: Collection[str]) -> str:
    matched, total, more = counts(rows, outside)
    mark = icon("eoi") if matched == total else icon("no", css="km-bad")
    rest = f" <span>{more}</span>" if more else ""
    return f'<p class="km-found">{mark}<b>{matched} of {total} recorded frames matched</b>{rest}</p>'


def _line(row: Row, outside: Collection[str]) -> str:
    lane = "sched" if row.model is None else lane_of(row.model)
    left = right = middle = ""
    if row.recorded is not None:
        name, shown = name_of(row.recorded), row.recorded.strip()
        tail = shown[len(name) :] if shown.startswith(name) else ""
        offset = el("span", esc(tail), class_="km-off") if tail else ""
        left = f"<span>{breakable(shown.removesuffix(tail) if tail else shown)}{offset}</span>"
    if row.model is not None:
        right = f"<span>{breakable(row.model.name)}</span>"
    if row.recorded is not None and row.model is not None:
        kind, middle = "same", '<b aria-label="same">=</b>'
    elif row.model is not None:
        kind = "folded" if row.model.folded else "silent"
        right += f"<small>{'folded' if row.model.folded else 'not recorded'}</small>"
    elif name_of(row.recorded or "") in outside:
        kind = "outside"
        right = "<small>outside the model</small>"
    else:
        kind = "lost"
        left = icon("no", css="km-bad") + left
        right = '<small class="km-bad">not in the model</small>'
    cells = (
        f'<td class="rec" role="cell">{left}</td><td class="eq" role="cell">{middle}</td>'
        f'<td class="mod" role="cell">{right}</td>'
    )
    return f'<tr class="{kind} km-{lane}" role="row">{cells}</tr>'
