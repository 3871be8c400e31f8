"""The kernel stack at a step, innermost frame first, as bpftrace prints it."""

from __future__ import annotations

import re

from kvmmodel.trace.story import StackFrame, Step, Story
from kvmmodel.widgets.svg import breakable, el, esc, per_story, runs

SHOWN = 15  # frames before the rest is folded away
_DEVICE = ("vfio", "iommu", "amd_iommu", "irqbypass")


def lane_of(frame: StackFrame) -> str:
    """The lane whose colour a frame's edge has, by its module."""
    if frame.module.startswith("kvm"):
        return "kvm"
    return "dev" if frame.module.startswith(_DEVICE) else "sched"


def acting(step: Step) -> int | None:
    """Which frame does what the step says: the innermost one that its label or sentence names, else the innermost
    one of the step's own lane that a recording could show. None without a stack."""
    for text in (step.label, step.sentence):
        named = {word for part, code in runs(text) if code for word in re.findall(r"\w+", part)}
        for i, frame in enumerate(step.stack):
            if frame.name in named:
                return i
    lane = "sched" if step.at.startswith("sched") else "kvm"
    for i, frame in enumerate(step.stack):
        if lane_of(frame) == lane and not frame.folded:
            return i
    return 0 if step.stack else None


def frame(item: StackFrame, *, now: bool = False) -> str:
    """One frame as a list item: the name, and at the right its module or the word "folded"."""
    css = f"km-{lane_of(item)}" + (" folded" if item.folded else "") + (" now" if now else "")
    word = "folded" if item.folded else esc(item.module)
    current = ' aria-current="true"' if now else ""
    return f'<li class="{css}"{current}><span>{breakable(item.name)}</span><small>{word}</small></li>'


@per_story
def height(story: Story) -> int:
    """The most lines that a stack of this run takes; the place is kept, so that stepping moves nothing."""
    return max((min(len(step.stack), SHOWN + 1) for step in story.steps), default=0)


def draw(story: Story, step: Step) -> str:
    """Heading and frames. A step without kernel code says so."""
    owner = f" on {esc(step.stack_owner)}" if step.stack_owner else ""
    head = el("h4", f"Kernel stack{owner}")
    room = f"min-height:calc(1.75rem + {height(story) * 20.2:.0f}px)"
    if not step.stack:
        return el("div", el("h4", "Kernel stack"), _none(), class_="km-frames", style=room)
    now = acting(step)
    items = [frame(f, now=i == now) for i, f in enumerate(step.stack)]
    shown = items if len(items) <= SHOWN + 1 else items[:SHOWN]
    body = el("ol", *shown, class_="km-stack")
    if len(shown) < len(items):
        left = len(items) - len(shown)
        more = el("summary", f"{left} more, down to {_outermost(step)}")
        body += el(
            "details", more, el("ol", *items[len(shown) :], class_="km-stack", start=len(shown) + 1), class_="km-rest"
        )
    return el("div", head, body, class_="km-frames", style=room)


def _outermost(step: Step) -> str:
    names = [f.name for f in step.stack]
    return "the ioctl" if any("ioctl" in name for name in names[-6:]) else f"<code>{breakable(names[-1])}</code>"


def _none() -> str:
    tools = "so <code>bpftrace</code>, <code>ftrace</code> and <code>perf</code> have nothing to show here."
    return f'<p class="km-none"><b>No kernel stack.</b> No host code runs in this step, {tools}</p>'
