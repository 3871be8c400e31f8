"""The bill so far: how many exits, host IPIs, doorbells and wake-ups a story has come to at a step."""

from __future__ import annotations

from kvmmodel.trace.story import Step, Story
from kvmmodel.widgets.svg import el

ROWS = (("exits", "exit"), ("host IPIs", "kick"), ("doorbells", "doorbell"), ("wake-ups", "wake"))


def counts(story: Story, index: int) -> dict[str, int]:
    """Up to and with step ``index``. A kick that sent no IPI is no step of that kind to another lane."""
    return {label: sum(_is(step, kind) for step in story.steps[: index + 1]) for label, kind in ROWS}


def _is(step: Step, kind: str) -> bool:
    return step.kind == kind and (kind != "kick" or step.to is not None)


def draw(story: Story, index: int) -> str:
    """What this step added has the yellow mark. Nothing for a story that is not counted."""
    if not story.counted or not story.steps:
        return ""
    now, before = counts(story, index), counts(story, index - 1) if index else dict.fromkeys(counts(story, 0), 0)
    rows = []
    for label, count in now.items():
        number = f"<mark>{count}</mark>" if count != before[label] else str(count)
        rows.append(el("div", el("dt", label), el("dd", number, class_=None if count else "z")))
    return el("div", el("h4", "Bill so far", class_="km-at"), el("dl", *rows, class_="km-tally"))
