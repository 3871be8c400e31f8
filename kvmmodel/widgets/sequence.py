"""The sequence diagram: who ran, in what order. Two drawings in one DOM; the container's width chooses one."""

from __future__ import annotations

import re
import zlib

from kvmmodel.trace.story import Story
from kvmmodel.widgets import lanes, rail, wide
from kvmmodel.widgets.svg import el


def clamp(story: Story, index: int) -> int:
    """A step number that the story has, counted from 0: past the end means the last step."""
    return max(0, min(index, len(story.steps) - 1))


def unique(story: Story, name: str = "") -> str:
    """A prefix for ids in the page: from ``name``, or from the story where the caller has no name."""
    name = re.sub(r"[^A-Za-z0-9_-]", "", name)
    return f"km-{name}" if name else f"km-{zlib.crc32(f'{story.title}|{story.setup}|{story.broken}'.encode()):08x}"


def draw(story: Story, index: int, *, name: str = "") -> str:
    """The diagram at step ``index`` (from 0): both drawings and the list of steps, as one HTML element.

    ``name`` must differ between diagrams on one page, so that their textures do not share ids.
    """
    index, prefix = clamp(story, index), unique(story, name)
    label = lanes.spoken(story, index)
    return el(
        "div",
        wide.draw(story, index, prefix=f"{prefix}-w", label=label),
        rail.draw(story, index, prefix=f"{prefix}-n", label=label),
        rail.items(story, index),
        class_="km-seq",
    )
