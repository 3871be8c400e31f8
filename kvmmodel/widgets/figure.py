"""The whole figure of a run at one step, as HTML: what a widget redraws, and the picture before a page is live."""

from __future__ import annotations

from kvmmodel.trace.story import Step, Story
from kvmmodel.widgets import apic, irte, lanes, pin, sequence, stack, tally
from kvmmodel.widgets.glyphs import icon
from kvmmodel.widgets.page import badges
from kvmmodel.widgets.svg import el, esc, per_story, plain, rich

_NOTE = (
    "A grid is 256 vectors: rows are priority classes, f at the top. Ring: in IRR. Solid: in ISR. Corner: level, "
    "in TMR. Below the line, PPR holds vectors back. “Folded”: inlined or tail-called, so no recorded build shows it."
)


def render(story: Story, index: int, *, id: str = "") -> str:
    """The figure at step ``index`` (from 0; past the end is the last step). ``id`` must be unique in the page."""
    index = sequence.clamp(story, index)
    prefix = sequence.unique(story, id)
    parts = [_broken(story)]
    if story.steps:
        parts += [sentence(story, index), pin.draw(story, index), irte.draw(story, index)]
    parts.append(el("figure", sequence.draw(story, index, name=id), _key(story), class_="km-fig"))
    if index >= len(story.steps) - 1:
        parts.append(_verdict(story))
    if story.steps:
        parts += [tally.draw(story, index), _state(story, index, prefix)]
    return el("div", *parts, _foot(story), class_="km km-run")


def static(story: Story, index: int = 0, *, id: str = "") -> str:
    """The figure with its title and setup: complete in itself, for readers without scripts and for print."""
    return el(
        "section",
        heading(story),
        render(story, index, id=id or "static"),
        class_="km km-static",
        aria_label=plain(story.title),
    )


def heading(story: Story) -> str:
    """Title and the muted line of setup, under the rule that opens every widget."""
    setup = el("p", rich(story.setup), class_="km-sub") if story.setup else ""
    return el("div", el("h3", rich(story.title), class_="km-title"), setup, class_="km-rule")


def failed(message: str) -> str:
    """One line in place of the figure, when a run could not be made."""
    line = " ".join(message.split())
    words = f'<p class="km-error" role="alert">{icon("no", css="km-bad")}<span>{esc(line)}</span></p>'
    return f'<div class="km km-run">{words}</div>'


@per_story
def _longest(story: Story) -> str:
    return max((plain(step.sentence) for step in story.steps), key=len, default="")


def sentence(story: Story, index: int) -> str:
    """The box above the diagram. It is as high as the run's longest sentence needs, at any width: the style sheet lays
    that sentence out, unseen, from ``data-longest``."""
    step = story.steps[index]
    line = f"<small>Step {index + 1} · {rich(step.who)}</small><span>{rich(step.sentence)}</span>"
    return el("div", el("div", line), class_="km-say", aria_live="polite", data_longest=_longest(story))


@per_story
def _broken(story: Story) -> str:
    if story.broken is None:
        return ""
    words = f"<b>Broken on purpose.</b> {rich(story.broken)}"
    return f'<p class="km-broken">{icon("no", css="km-bad")}<span>{words}</span></p>'


@per_story
def _key(story: Story) -> str:
    columns = lanes.plan(story).columns
    used = {c.lane for c in columns}
    devices = dict.fromkeys(plain(c.label) for c in columns if c.lane == "dev")  # a device, or the host's timer
    words = lanes.LANE_WORDS | {"dev": ", ".join(devices)}
    names = [
        f"<span>{icon(f'lane-{x}', css=f'km-{x}', size=13)}{esc(words[x])}</span>" for x in lanes.LANES if x in used
    ]
    blocked = any(s.state == "blocked" for s in lanes.plan(story).spans)
    signs = ["filled bar: runs here", *(["dotted bar: blocked"] if blocked else []), "hollow: not yet"]
    return el("figcaption", *names, *(f"<span>{sign}</span>" for sign in signs), class_="km-key")


def _verdict(story: Story) -> str:
    if not story.verdict:
        return ""
    first, dot, rest = story.verdict.partition(". ")
    more = f"<span>{rich(rest)}</span>" if rest else ""
    bad = story.broken is not None or story.lost
    mark = icon("no", css="km-bad", size=20) if bad else icon("eoi", size=20)
    css = "km-verdict broken" if bad else "km-verdict"
    return f'<div class="{css}">{mark}<b>{rich(first + dot.rstrip())}</b>{more}</div>'


def _state(story: Story, index: int, prefix: str) -> str:
    step: Step = story.steps[index]
    grids = [apic.draw(story, index, s, prefix=prefix) for s in step.states]
    css = f"km-state n{min(len(grids), 3)}"
    return el("div", *grids, stack.draw(story, step), class_=css) + el("p", _NOTE, class_="km-note")


@per_story
def _foot(story: Story) -> str:
    return el("div", badges(story.badges), class_="km-foot")
