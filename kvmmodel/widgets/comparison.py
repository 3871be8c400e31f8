"""The comparison: choices over runs side by side. Every redraw is one string; it has no steps of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

import ipywidgets

from kvmmodel.widgets import figure, parts, versus
from kvmmodel.widgets.parts import Choice

# Makes the runs for the values chosen: one keyword for each choice's key. A Pair, or what another ``view`` draws.
BuildPair = Callable[..., Any]


def comparison(build: BuildPair, choices: Sequence[Choice], css: bool = True, view: ModuleType = versus) -> Comparison:
    """The widget over the pairs that ``build`` makes. ``css=False`` leaves the style sheet out. ``view`` has the
    functions heading, draw and static of what is compared."""
    return Comparison(build, choices, css=css, view=view)


class Comparison(ipywidgets.VBox):  # type: ignore[misc]
    """The widget. ``pair`` and ``values`` say what it shows; ``choose`` answers as the controls do."""

    def __init__(self, build: BuildPair, choices: Sequence[Choice], *, css: bool = True, view: ModuleType = versus):
        self._build, self._with_css, self._view = build, css, view
        self._made: dict[tuple[Any, ...], Any] = {}
        self._quiet = False
        self.pair: Any = None
        self.error: str | None = None
        self._choices = {c.key: parts.control(c) for c in choices}
        self._head, self._figure = parts.html("head"), parts.html("figure")
        style = [parts.html("css", f"<style>{parts.css()}</style>")] if css else []
        super().__init__([*style, self._head, parts.box("ctl", *self._choices.values()), self._figure])
        for css_class in ("km", "km-stepper", "km-comparison"):
            self.add_class(css_class)
        for widget in self._choices.values():
            widget.observe(lambda _: self._rebuild(), "value")
        self._rebuild()
        self._first = figure.failed(self.error or "") if self.pair is None else view.static(self.pair)

    @property
    def values(self) -> dict[str, Any]:
        """The chosen values by key."""
        return {key: widget.value for key, widget in self._choices.items()}

    def choose(self, **values: Any) -> None:
        """Answer choices by key. Errors: KeyError for an unknown key, TraitError for a value that is no option."""
        self._quiet = True
        try:
            for key, value in values.items():
                self._choices[key].value = value
        finally:
            self._quiet = False
            self._rebuild()

    def _rebuild(self) -> None:
        if self._quiet:
            return
        key = tuple(self.values.items())
        try:
            if key not in self._made:
                self._made[key] = self._build(**self.values)
            self.pair, self.error = self._made[key], None
        except Exception as problem:  # a page's own code: its reader gets one line, and the controls go on working
            self.pair, self.error = None, parts.in_one_line("These runs", problem)
            self._figure.value = figure.failed(self.error)
            return
        self._head.value = self._view.heading(self.pair)
        self._figure.value = self._view.draw(self.pair)

    def _repr_mimebundle_(self, **kwargs: Any) -> dict[str, Any]:
        """The widget, and beside it the static picture of its first state for places that cannot run it."""
        own = super()._repr_mimebundle_(**kwargs) if hasattr(super(), "_repr_mimebundle_") else {}
        return parts.beside_picture(own, "Comparison", self._first, self._with_css)
