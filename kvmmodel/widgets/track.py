"""The strip of glyphs that lies over a scrubber, and how long playing stays at a step."""

from __future__ import annotations

from kvmmodel.trace.story import Story
from kvmmodel.widgets import lanes
from kvmmodel.widgets.glyphs import icon
from kvmmodel.widgets.svg import num, plain

MOST = 20  # steps that fit as glyphs; beyond, plain ticks


def draw(story: Story, index: int) -> str:
    """One mark for each step along the strip, the present one larger; later ones muted."""
    steps, plan = story.steps, lanes.plan(story)
    at = 100 * index / (len(steps) - 1) if len(steps) > 1 else 0.0
    out = [f'<i class="km-done" style="width:max(0px,calc({num(at)}% - 14px))"></i>']
    for row, step in enumerate(steps):
        lane = plan.lane(step.at) if row <= index else "km-mut"
        now = " now" if row == index else ""
        left = 100 * row / (len(steps) - 1) if len(steps) > 1 else 0.0
        if len(steps) > MOST:
            out.append(f'<i class="km-tick bare {lane}{now}" style="left:{num(left)}%"></i>')
        else:
            mark = icon(step.kind, css=lane, size=16 if now else 13)
            out.append(f'<i class="km-tick{now}" style="left:{num(left)}%">{mark}</i>')
    return f'<span class="km-ticks" aria-hidden="true">{"".join(out)}</span>'


def hold(story: Story, index: int) -> int:
    """Milliseconds that playing stays at a step: 1.6 s, and more where the sentence is longer than ten words."""
    if not 0 <= index < len(story.steps):
        return 1600
    return 1600 + 120 * max(0, len(plain(story.steps[index].sentence).split()) - 10)
