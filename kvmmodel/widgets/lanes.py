"""What the wide and the narrow drawing share: where the bars are, how they are textured, what is said aloud."""

from __future__ import annotations

from dataclasses import dataclass

from kvmmodel.trace.story import Column, Step, Story
from kvmmodel.widgets.svg import el, num, per_story, plain

LANES = ("guest", "hw", "kvm", "sched", "dev")
LANE_WORDS = {"guest": "guest", "hw": "hardware", "kvm": "KVM", "sched": "scheduler", "dev": "device, IOMMU"}


@dataclass(frozen=True, slots=True)
class Span:
    """A bar in one column between two rows. Row 0 is the top, row k the k-th step, and steps + 1 the bottom."""

    column: int
    state: str  # runs or blocked
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class Plan:
    """A story's columns in drawing order, the place of each by id, and its bars."""

    columns: tuple[Column, ...]
    place: dict[str, int]
    spans: tuple[Span, ...]

    def lane(self, column_id: str) -> str:
        """The lane's name, as a colour class; a column that the story does not draw has none."""
        index = self.place.get(column_id)
        return "" if index is None else lane_class(self.columns[index].lane)

    def ends(self, step: Step) -> tuple[int, int]:
        """The columns a step starts and ends in; equal for a local event. An unknown column is the first one."""
        start = self.place.get(step.at, 0)
        return start, start if step.to is None else self.place.get(step.to, start)


def lane_class(lane: str) -> str:
    """The CSS class that gives a lane's colour; an unknown lane is drawn in muted ink."""
    return f"km-{lane}" if lane in LANES else "km-mut"


def state_class(state: str) -> str:
    return "blocked" if state == "blocked" else "runs"


@per_story
def plan(story: Story) -> Plan:
    """Lay a story out: columns from its groups, bars from what each step says runs until the next."""
    columns = tuple(c for group in story.groups for c in group.columns)
    place = {c.id: i for i, c in reversed(list(enumerate(columns)))}
    spans: list[Span] = []
    opened: dict[str, tuple[str, int]] = {}
    ends = len(story.steps) + 1
    for row, bars in enumerate([story.before, *(step.bars for step in story.steps), ()]):
        present = dict(bars) if row < ends else {}
        for column_id, (state, first) in list(opened.items()):
            if present.get(column_id) != state:
                if column_id in place and first < row:
                    spans.append(Span(place[column_id], state_class(state), first, row))
                del opened[column_id]
        for column_id, state in present.items():
            opened.setdefault(column_id, (state, row))
    return Plan(columns, place, tuple(spans))


def textures(story: Story, prefix: str) -> str:
    """SVG patterns for the lanes that the story has; ``prefix`` makes their ids unique in the page."""
    used = {c.lane for c in plan(story).columns}
    return el("defs", *(texture(lane, f"{prefix}-{lane}") for lane in LANES[1:] if lane in used))


def texture(lane: str, ident: str) -> str:
    """The pattern of one lane; the guest's is solid and has none."""
    size, turn, mark = {
        "hw": ("5", None, '<path d="M0 0h5M0 0v5" stroke-width="1.6"/>'),
        "kvm": ("5", "rotate(45)", '<path d="M0 0v5" stroke-width="3"/>'),
        "sched": ("5", None, '<path d="M0 1h5" stroke-width="2"/>'),
        "dev": ("6", None, '<circle cx="3" cy="3" r="1.5" class="f"/>'),
    }[lane]
    return el(
        "pattern",
        el("rect", class_="t", width=size, height=size),
        mark,
        id=ident,
        class_=f"km-tx km-{lane}",
        width=size,
        height=size,
        patternUnits="userSpaceOnUse",
        patternTransform=turn,
    )


def bar(column: Column, state: str, x: float, top: float, bottom: float, *, past: bool, prefix: str) -> str:
    """One piece of a bar, 9 px wide around x: textured, dotted (blocked) or hollow (not yet)."""
    if bottom - top < 0.5:
        return ""
    box = f'x="{num(x - 4.5)}" y="{num(top)}" width="9" height="{num(bottom - top)}"'
    lane = lane_class(column.lane)
    if state == "blocked":
        return f'<rect class="km-blocked {lane if past else "km-ahead"}" {box}/>'
    if not past:
        return f'<rect class="km-hollow" {box}/>'
    if column.lane == "guest" or column.lane not in LANES:
        return f'<rect class="km-solid {lane}" {box}/>'
    return f'<rect class="km-runs {lane}" fill="url(#{prefix}-{column.lane})" {box}/>'


def spoken(story: Story, index: int) -> str:
    """The picture in words: which step it is, who acts, what happens, and what runs on each side."""
    total = len(story.steps)
    if not total:
        return f"{plain(story.title)}: no steps."
    step = story.steps[index]
    bars = dict(step.bars)
    said = []
    for group in story.groups:
        doing = [f"{plain(c.label)} {bars[c.id]}" for c in group.columns if c.id in bars]
        if doing:
            said.append(f"{plain(group.label)}: {', '.join(doing)}.")
    head = f"Step {index + 1} of {total}: {plain(step.who)}, {plain(step.label)}."
    return " ".join([head, *said])
