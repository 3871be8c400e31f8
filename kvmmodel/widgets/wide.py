"""The wide drawing of a run: lanes side by side, 720 px, one row of 33 px for each step."""

from __future__ import annotations

from dataclasses import dataclass, field

from kvmmodel.trace.story import Group, Step, Story
from kvmmodel.widgets import lanes
from kvmmodel.widgets.glyphs import glyph
from kvmmodel.widgets.svg import cut, el, num, per_story, tspans, width

WIDTH, ROW, HEAD, FIRST = 720.0, 33.0, 48.0, 78.5
LEFT, RIGHT = 34.0, 714.0  # labels stay between these
PAST, NOW, AHEAD = "past", "now", "ahead"


@dataclass(frozen=True, slots=True)
class Label:
    """Where a step's label stands. ``lift``: it runs above its own arrow, which sits lower in the row."""

    x: float
    anchor: str
    text: str
    lift: bool = False


@dataclass(slots=True)
class Sheet:
    """A story laid out: x of each column, the heading, and rows already drawn by (row, tense)."""

    x: tuple[float, ...]
    bottom: float
    head: str
    rows: dict[tuple[int, str], str] = field(default_factory=dict)


def row_y(row: int) -> float:
    """The middle of a step's row; row 1 is the first step."""
    return FIRST + (row - 1) * ROW


@per_story
def sheet(story: Story) -> Sheet:
    columns = lanes.plan(story).columns
    pitch = (WIDTH - 30) / max(len(columns), 1)
    x = tuple(30 + (i + 0.5) * pitch for i in range(len(columns)))
    bottom = row_y(len(story.steps)) + 17.5
    parts, done = [], 0
    for group in story.groups:
        parts.append(_heading(group, 30 + done * pitch, 30 + (done + len(group.columns)) * pitch))
        done += len(group.columns)
    for column, at in zip(columns, x, strict=True):
        name = cut(column.label, pitch - 24, size=12.5)
        start = at - (width(name, size=11.5) + 19) / 2
        parts.append(glyph(f"lane-{column.lane}", start + 7.5, 34.5, size=15, css=lanes.lane_class(column.lane)))
        parts.append(el("text", tspans(name), x=start + 19, y=39, class_="s"))
        parts.append(f'<path class="km-line" d="M{num(at)} {num(HEAD)}V{num(bottom)}"/>')
    return Sheet(x, bottom, "".join(parts))


def _heading(group: Group, left: float, right: float) -> str:
    room = right - left - 8
    label = group.label if width(group.label, size=12, bold=True) <= room else group.label.split(" · ")[0]
    text = tspans(cut(label, room, size=12, bold=True))
    rule = f'<path class="km-axis" d="M{num(left + 6)} 20H{num(right - 6)}"/>'
    return el("text", text, x=(left + right) / 2, y=13, class_="s b", text_anchor="middle") + rule


def draw(story: Story, index: int, *, prefix: str, label: str) -> str:
    """The drawing with step ``index`` (from 0) as the present one, as an <svg class="km-w">."""
    page = sheet(story)
    tense = [AHEAD if row > index else NOW if row == index else PAST for row in range(len(story.steps))]
    parts = [lanes.textures(story, prefix)]
    if story.steps:
        y = row_y(index + 1) - 15.5
        parts.append(f'<rect class="km-band" y="{num(y)}" width="720" height="31"/>')
        parts.append(f'<rect class="km-edge" y="{num(y)}" width="4" height="31"/>')
    parts += [page.head, _bars(story, page, index, prefix)]
    parts += [_row(story, page, row, when) for row, when in enumerate(tense)]
    size = f"0 0 720 {num(page.bottom + 4)}"
    return el("svg", *parts, class_="km-w km-art", viewBox=size, role="img", aria_label=label)


def _bars(story: Story, page: Sheet, index: int, prefix: str) -> str:
    plan, last = lanes.plan(story), len(story.steps) + 1
    now = row_y(index + 1) + 16.5 if story.steps else page.bottom
    out = []
    for span in plan.spans:
        top = HEAD if span.first == 0 else row_y(span.first)
        bottom = page.bottom if span.last == last else row_y(span.last)
        column, x = plan.columns[span.column], page.x[span.column]
        split = min(max(now, top), bottom)
        out.append(lanes.bar(column, span.state, x, top, split, past=True, prefix=prefix))
        out.append(lanes.bar(column, span.state, x, split, bottom, past=False, prefix=prefix))
    return "".join(out)


def _row(story: Story, page: Sheet, row: int, tense: str) -> str:
    drawn = page.rows.get((row, tense))
    if drawn is None:
        drawn = page.rows[row, tense] = _draw_row(story, page, row, tense)
    return drawn


def _draw_row(story: Story, page: Sheet, row: int, tense: str) -> str:
    step, plan, y = story.steps[row], lanes.plan(story), row_y(row + 1)
    lane = "km-mut" if tense == AHEAD else plan.lane(step.at)
    start, end = plan.ends(step)
    spot = place(story, row)
    number = el("text", str(row + 1), x=22, y=y + 4, class_="s b on" if tense == NOW else "s mu", text_anchor="end")
    if start == end:
        mark = _local(page.x[start], y, -1 if spot.anchor == "end" else 1, step, lane)
    else:
        mark = _arrow(page.x[start], page.x[end], y + 6.5 if spot.lift else y, step, lane, spot.lift)
    style = {PAST: "halo", NOW: "b on halo", AHEAD: "mu halo"}[tense]
    text = el(
        "text", tspans(spot.text), x=spot.x, y=y - 3 if spot.lift else y + 4, class_=style, text_anchor=spot.anchor
    )
    return el("g", number, mark, text, class_=f"km-row {tense}")


def _local(x: float, y: float, side: int, step: Step, lane: str) -> str:
    tick = f'<path class="km-arrow {lane}" d="M{num(x + side * 5)} {num(y)}h{side * 5}"/>'
    disc = f'<circle class="km-disc" cx="{num(x + side * 20)}" cy="{num(y)}" r="11"/>'
    return tick + disc + glyph(step.kind, x + side * 20, y, css=lane)


def _arrow(x1: float, x2: float, y: float, step: Step, lane: str, lift: bool) -> str:
    way = 1 if x2 > x1 else -1
    tip = x2 - way * 6
    line = f'<path class="km-arrow" d="M{num(x1 + way * 5)} {num(y)}H{num(tip - way * 5)}"/>'
    head = f'<path class="f" d="M{num(tip)} {num(y)}l{-way * 8} -4v8z"/>'
    middle = x1 + way * 40 if lift else (x1 + x2) / 2
    disc = f'<circle class="km-disc" cx="{num(middle)}" cy="{num(y)}" r="10.5"/>'
    return f'<g class="km-move {lane}">{line}{head}</g>{disc}{glyph(step.kind, middle, y, css=lane)}'


def place(story: Story, row: int) -> Label:
    """Where the label of a step stands: on the inner side of its event if there is room and no running bar in the way.

    Then on the outer side; above a long arrow if a bar is in the way on both, or there is no room; where nothing fits,
    cut, on the side with more room.
    """
    step, plan, page = story.steps[row], lanes.plan(story), sheet(story)
    start, end = plan.ends(step)
    low, high = sorted((page.x[start], page.x[end]))
    gap = 34 if start == end else 14
    right, left = high + gap, low - gap
    long = width(step.label, bold=True)
    rooms = {"start": RIGHT - right, "end": left - LEFT}
    inner = "start" if (low + high) / 2 <= (WIDTH + 30) / 2 + 1 else "end"
    order = [inner, "end" if inner == "start" else "start"]
    fitting = [side for side in order if rooms[side] >= long]
    if fitting:
        reach = {"start": (right, right + long), "end": (left - long, left)}
        side = min(fitting, key=lambda s: (_crossed(story, row, *reach[s]), order.index(s)))
        middle = (low + high) / 2
        over = (middle - long / 2, middle + long / 2)
        if high - low >= long + 90 and _crossed(story, row, *reach[side]) and not _crossed(story, row, *over):
            return Label(middle, "middle", step.label, lift=True)
        return Label(right if side == "start" else left, side, step.label)
    if high - low >= 90:
        text = cut(step.label, RIGHT - LEFT, bold=True)
        half = width(text, bold=True) / 2
        middle = min(max((low + high) / 2, LEFT + half), RIGHT - half)
        return Label(middle, "middle", text, lift=True)
    side = max(order, key=lambda s: rooms[s])
    return Label(right if side == "start" else left, side, cut(step.label, rooms[side], bold=True))


def _crossed(story: Story, row: int, left: float, right: float) -> int:
    """How many bars of running code a label from left to right would lie on."""
    x = sheet(story).x
    return sum(
        1
        for span in lanes.plan(story).spans
        if span.state == "runs" and span.first <= row + 1 <= span.last and left - 6 < x[span.column] < right + 6
    )
