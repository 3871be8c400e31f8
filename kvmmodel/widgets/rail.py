"""The narrow drawing of a run, for phones: lanes 17 px apart like a commit graph, and the steps as a list beside it.

The list is real text, so it wraps by itself and never shrinks. On wide screens it stays as the picture's text for
screen readers. Rows have one height (px) in both, so that the rail fits the list.
"""

from __future__ import annotations

from kvmmodel.trace.story import Story
from kvmmodel.widgets import lanes
from kvmmodel.widgets.glyphs import glyph, icon
from kvmmodel.widgets.svg import el, num, per_story, rich, tspans, width

PITCH, ROW, HEAD, X0 = 17.0, 46.0, 46.0, 36.5
GAP, OUT, OVER = 3.0, 4.0, 6.0  # between headings; how far the outer ones stand outside; how much wider than its lanes


def rail_width(story: Story) -> float:
    """Width in px that the numbers and the lanes take; the text starts to the right of it."""
    return X0 + PITCH * max(len(lanes.plan(story).columns) - 1, 0) + 12


def row_y(row: int) -> float:
    return HEAD + (row - 0.5) * ROW


@per_story
def captions(story: Story) -> tuple[tuple[str, float, str], ...]:
    """Each group's heading, where it stands and its anchor: the label up to the dot, or its first word, or nothing.

    The first one and the last one stand a little outside, so that "host" has room over its one lane.
    """
    out: list[tuple[str, float, str]] = []
    end, last = 0.0, len(story.groups) - 1
    for i, (group, (left, right)) in enumerate(zip(story.groups, _edges(story), strict=True)):
        label = group.label.split(" · ")[0]
        anchor = "start" if i == 0 < last else "end" if i == last > 0 else "middle"
        for text in (label, label.split(" ")[0], ""):
            long = width(text, size=11.5)
            x = {"start": left - OUT, "end": right + OUT, "middle": (left + right) / 2}[anchor]
            start = x - {"start": 0, "end": long, "middle": long / 2}[anchor]
            if not text or (start >= end + GAP and long <= right - left + 2 * OVER):
                out.append((text, x, anchor))
                end = start + long if text else end
                break
    return tuple(out)


def _edges(story: Story) -> list[tuple[float, float]]:
    """From where to where each group's lanes reach."""
    found, left = [], X0 - 7.5
    for group in story.groups:
        found.append((left, left + PITCH * len(group.columns) - 2))
        left += PITCH * len(group.columns)
    return found


@per_story
def _head(story: Story) -> str:
    out = []
    bottom = HEAD + ROW * len(story.steps)
    for (left, right), (caption, x, anchor) in zip(_edges(story), captions(story), strict=True):
        if caption:
            out.append(el("text", tspans(caption), x=x, y=13, class_="s", text_anchor=anchor))
        out.append(f'<path class="km-axis" d="M{num(left)} 19H{num(right)}"/>')
    for i, column in enumerate(lanes.plan(story).columns):
        x = X0 + PITCH * i
        out.append(glyph(f"lane-{column.lane}", x, 31, size=13, css=lanes.lane_class(column.lane)))
        out.append(f'<path class="km-line" d="M{num(x)} 42V{num(bottom)}"/>')
    return "".join(out)


def draw(story: Story, index: int, *, prefix: str, label: str) -> str:
    """The rail with step ``index`` (from 0) as the present one, as an <svg class="km-n"> without scaling."""
    plan, steps = lanes.plan(story), story.steps
    bottom = HEAD + ROW * len(steps)
    now = HEAD + ROW * (index + 1) if steps else bottom
    parts = [lanes.textures(story, prefix), _head(story)]
    for span in plan.spans:
        top = 42 if span.first == 0 else row_y(span.first)
        end = bottom if span.last == len(steps) + 1 else row_y(span.last)
        x, split = X0 + PITCH * span.column, min(max(now, top), end)
        column = plan.columns[span.column]
        parts.append(lanes.bar(column, span.state, x, top, split, past=True, prefix=prefix))
        parts.append(lanes.bar(column, span.state, x, split, end, past=False, prefix=prefix))
    for row, step in enumerate(steps):
        lane = plan.lane(step.at) if row <= index else "km-mut"
        tense = "ahead" if row > index else "now" if row == index else "past"
        parts.append(f'<g class="km-row {tense} {lane}">{_mark(*plan.ends(step), row_y(row + 1))}</g>')
    wide, high = num(rail_width(story)), num(bottom)
    return el(
        "svg",
        *parts,
        class_="km-n km-art",
        width=wide,
        height=high,
        viewBox=f"0 0 {wide} {high}",
        role="img",
        aria_label=label,
    )


def _mark(start: int, end: int, y: float) -> str:
    a, b = X0 + PITCH * start, X0 + PITCH * end
    if start == end:
        return f'<circle class="km-knot" cx="{num(a)}" cy="{num(y)}" r="4.5"/>'
    way = 1 if b > a else -1
    tip = b - way * 5
    line = f'<path class="km-arrow" d="M{num(a + way * 5)} {num(y)}H{num(tip - way * 4)}"/>'
    return f'{line}<path class="f" d="M{num(tip)} {num(y)}l{-way * 7} -4v8z"/>'


def items(story: Story, index: int) -> str:
    """The steps as an ordered list; the present one has aria-current="step"."""
    out = []
    for row, step in enumerate(story.steps):
        lane = lanes.plan(story).lane(step.at) if row <= index else "km-mut"
        tense = "ahead" if row > index else "now" if row == index else "past"
        current = ' aria-current="step"' if row == index else ""
        out.append(
            f'<li class="{tense}"{current}>'
            + _item(row + 1, step.kind, lane, step.who, step.label, step.detail)
            + "</li>"
        )
    style = f"--km-rail:{num(rail_width(story))}px"
    return el("ol", *out, class_="km-steps", style=style, aria_label="Steps")


def _item(number: int, kind: str, lane: str, who: str, label: str, detail: str) -> str:
    more = f'<span class="km-more">{rich(detail)}</span>' if detail else ""
    return (
        f'<span class="km-no" aria-hidden="true">{number}</span>{icon(kind, css=lane)}'
        f'<span class="km-what"><span class="km-vh">{rich(who)}: </span>{rich(label)}{more}</span>'
    )
