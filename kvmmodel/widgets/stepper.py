"""The stepper: choices, a switch that breaks a rule on purpose, transport and scrubber over the figure of a run.

Made of ipywidgets only, so it works in a notebook, in JupyterLab and in the live book. Every redraw is one string.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import ipywidgets

from kvmmodel.trace.story import Story
from kvmmodel.widgets import figure, parts, track
from kvmmodel.widgets.parts import Build, Choice, styled
from kvmmodel.widgets.sequence import clamp

__all__ = ["Build", "Choice", "Stepper", "stepper", "styled"]

_ids = itertools.count(1)


def stepper(
    build: Build,
    choices: Sequence[Choice] = (),
    break_it: str | None = None,
    css: bool = True,
    above: Callable[..., str] | None = None,
) -> Stepper:
    """The widget over the runs that ``build`` makes, a story for the values chosen. ``break_it``: the rule that the
    switch removes, if any.

    ``css=False`` leaves the style sheet out, for pages that link it. ``above`` draws what stands between the choices
    and the run, as HTML, from the choices' values.
    """
    return Stepper(build, choices, break_it=break_it, css=css, above=above)


class Stepper(ipywidgets.VBox):  # type: ignore[misc]
    """The widget. ``story``, ``index`` (from 0) and ``values`` say where it is; ``go``, ``choose`` and ``set_broken``
    move it as the controls do."""

    def __init__(
        self,
        build: Build,
        choices: Sequence[Choice] = (),
        *,
        break_it: str | None = None,
        css: bool = True,
        above: Callable[..., str] | None = None,
    ):
        self._build, self._with_css, self._name = build, css, f"w{next(_ids)}"
        self._above, self._board = above, parts.html("above")
        self._runs: dict[tuple[Any, ...], Story] = {}
        self._quiet = False
        self.story: Story | None = None
        self.index = 0
        self.error: str | None = None
        self._choices = {c.key: parts.control(c) for c in choices}
        self._break = parts.switch(break_it) if break_it is not None else None
        self._head, self._figure, self._count, self._track = (
            parts.html(c) for c in ("head", "figure", "count", "track")
        )
        self._scrub = ipywidgets.IntSlider(readout=False, continuous_update=True)
        self._scrub.add_class("km-scrub")
        self._timer = ipywidgets.Play(interval=1600, show_repeat=False)
        self._timer.add_class("km-timer")
        self._buttons = {
            key: parts.button(key, tip)
            for key, tip in (("first", "First step"), ("back", "Step back"), ("play", "Play"), ("fwd", "Step forward"))
        }
        super().__init__(self._layout())
        for css_class in ("km", "km-stepper"):
            self.add_class(css_class)
        self._wire()
        self._rebuild()
        self._first_picture = self._picture()

    # -- what other code may use ---------------------------------------------------------------------------------

    @property
    def values(self) -> dict[str, Any]:
        """The chosen values by key."""
        return {key: widget.value for key, widget in self._choices.items()}

    @property
    def broken(self) -> bool:
        """Whether the rule is removed now."""
        return bool(self._break is not None and self._break.value)

    def go(self, index: int) -> None:
        """Show a step, counted from 0; a number past either end means that end."""
        if self.story is not None:
            index = clamp(self.story, index)
            if index != self.index:
                self.index = index
                self._show()

    def choose(self, **values: Any) -> None:
        """Answer choices by key. Errors: KeyError for an unknown key, TraitError for a value that is no option."""
        self._quiet = True
        try:
            for key, value in values.items():
                self._choices[key].value = value
        finally:
            self._quiet = False
            self._rebuild()

    def set_broken(self, on: bool) -> None:
        """Remove the rule, or put it back."""
        if self._break is not None:
            self._break.value = on

    def refresh(self) -> None:
        """Make the run anew: no choice has changed, but what it is made of."""
        self._runs.clear()
        self._rebuild()

    # -- making and wiring ----------------------------------------------------------------------------------------

    def _layout(self) -> list[Any]:
        style = [parts.html("css", f"<style>{parts.css()}</style>")] if self._with_css else []
        controls = [*self._choices.values(), *([self._break] if self._break is not None else [])]
        way = parts.box("way", self._scrub, self._track)
        bar = parts.box("bar", parts.box("btns", *self._buttons.values(), self._timer), way, self._count)
        board = [self._board] if self._above is not None else []
        return [*style, self._head, *([parts.box("ctl", *controls)] if controls else []), *board, bar, self._figure]

    def _wire(self) -> None:
        for widget in [*self._choices.values(), *([self._break] if self._break is not None else [])]:
            widget.observe(lambda _: self._rebuild(), "value")
        moves: dict[str, Callable[[], None]] = {
            "first": lambda: self.go(0),
            "back": lambda: self.go(self.index - 1),
            "fwd": lambda: self.go(self.index + 1),
        }
        for key, move in moves.items():
            self._buttons[key].on_click(lambda _, move=move: self._by_hand(move))
        self._buttons["play"].on_click(lambda _: self._toggle())
        self._timer.observe(lambda _: self._playing(), "playing")
        self._timer.observe(lambda change: self._moved(change["new"]), "value")
        self._scrub.observe(lambda change: self._moved(change["new"] - 1), "value")

    def _by_hand(self, move: Callable[[], None]) -> None:
        self._timer.playing = False
        move()

    def _toggle(self) -> None:
        self._timer.playing = not self._timer.playing

    def _playing(self) -> None:
        button, on = self._buttons["play"], self._timer.playing
        button.tooltip = "Pause" if on else "Play"
        (button.add_class if on else button.remove_class)("km-playing")

    def _moved(self, index: int) -> None:
        if not self._quiet:
            self.go(index)

    # -- showing -------------------------------------------------------------------------------------------------------

    def _rebuild(self) -> None:
        """Another run: stay at the first or last step, else at the same number if it has one, else go to the first."""
        if self._quiet:
            return
        self._timer.playing = False
        ended = self.story is not None and 0 < self.index == len(self.story.steps) - 1
        key = (*self.values.items(), self.broken)
        if self._above is not None:
            self._board.value = self._above(**self.values)
        try:
            if key not in self._runs:
                self._runs[key] = self._build(**self.values, broken=self.broken)
            self.story, self.error = self._runs[key], None
        except Exception as problem:  # a page's own code: its reader gets one line, and the controls go on working
            refused = isinstance(problem, parts.Refused)
            self.story, self.error = None, str(problem) if refused else parts.in_one_line("This run", problem)
            self._figure.value = figure.failed(self.error)
            self._count.value = self._track.value = ""
            return
        last = max(len(self.story.steps) - 1, 0)
        self.index = last if ended else self.index if self.index <= last else 0
        self._head.value = figure.heading(self.story)
        self._show()

    def _show(self) -> None:
        if self.story is None:
            return
        total, index = len(self.story.steps), self.index
        self._figure.value = figure.render(self.story, index, id=self._name)
        self._count.value = f"<b>{min(index + 1, total)}</b> of {total}"
        self._track.value = track.draw(self.story, index)
        self._quiet = True
        try:
            parts.bounds(self._scrub, 1, max(total, 1), index + 1)
            parts.bounds(self._timer, 0, max(total - 1, 0), index)
            self._timer.interval = track.hold(self.story, index + 1)
        finally:
            self._quiet = False

    def _picture(self) -> str:
        if self.story is None:
            return figure.failed(self.error or "No run.")
        return str(self._board.value) + figure.static(self.story, self.index, id=f"{self._name}s")

    def _repr_mimebundle_(self, **kwargs: Any) -> dict[str, Any]:
        """The widget, and beside it the static picture of its first state for places that cannot run it."""
        own = super()._repr_mimebundle_(**kwargs) if hasattr(super(), "_repr_mimebundle_") else {}
        return parts.beside_picture(own, "Stepper", self._first_picture, self._with_css)
