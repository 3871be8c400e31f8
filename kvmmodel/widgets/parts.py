"""The ipywidgets that a stepper is made of, and how a page says what the reader may choose."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from typing import Any

import ipywidgets

from kvmmodel.trace.story import Story
from kvmmodel.widgets.svg import plain

# Makes the run for the values chosen: one keyword for each choice's key, and ``broken`` (bool).
Build = Callable[..., Story]


class Refused(ValueError):
    """A run that the reader's own choices or text rule out. Its words are all that there is to say."""


@dataclass(frozen=True, slots=True)
class Choice:
    """A question with few answers. ``options`` are (label, value) with hashable values. No ``default``: the first.

    ``menu``: there are many answers, so they stand in a list that opens.
    """

    key: str
    label: str
    options: tuple[tuple[str, Any], ...]
    default: Any = None
    menu: bool = False

    def start(self) -> Any:
        """The value to begin with. Errors: ValueError if ``default`` is not among the options."""
        values = [value for _, value in self.options]
        if self.default is None and None not in values:
            return values[0]
        if self.default not in values:
            raise ValueError(f"choice {self.key!r}: default {self.default!r} is not an option")
        return self.default


@lru_cache(maxsize=1)
def css() -> str:
    """The style sheet of all figures and widgets."""
    return (files("kvmmodel.widgets") / "km.css").read_text(encoding="utf-8")


def styled(html: str) -> str:
    """HTML with the style sheet in front, for places that do not link it."""
    return f"<style>{css()}</style>{html}"


def beside_picture(bundle: Any, name: str, picture: str, with_css: bool) -> dict[str, Any]:
    """A widget's own MIME ``bundle``, and its first state as a static picture, for places that cannot run widgets."""
    data = bundle[0] if isinstance(bundle, tuple) else bundle
    return {"text/plain": name, **(data or {}), "text/html": styled(picture) if with_css else picture}


def in_one_line(what: str, problem: Exception) -> str:
    """What a reader gets of a page's own code that failed: ``what`` could not be made, and why."""
    return f"{what} could not be made. {type(problem).__name__}: {' '.join(str(problem).split())}"


def bounds(widget: Any, low: int, high: int, value: int) -> None:
    """Set bounds and value in one message: a front end that had the new bound alone would answer with a value."""
    with widget.hold_sync(), widget.hold_trait_notifications():
        widget.min, widget.max, widget.value = low, high, value


def html(css_class: str, value: str = "") -> Any:
    widget = ipywidgets.HTML(value)
    widget.add_class(f"km-{css_class}")
    return widget


def box(css_class: str, *children: Any) -> Any:
    box = ipywidgets.Box(children)
    box.add_class(f"km-{css_class}")
    return box


def button(key: str, tooltip: str) -> Any:
    button = ipywidgets.Button(description="", tooltip=tooltip)
    button.add_class(f"km-{key}")
    return button


def control(choice: Choice) -> Any:
    """The control of a choice: buttons that show all answers, or a menu."""
    kind = ipywidgets.Dropdown if choice.menu else ipywidgets.ToggleButtons
    widget = kind(options=list(choice.options), value=choice.start(), description=choice.label, tooltip=choice.label)
    widget.add_class(f"km-choice-{choice.key}")
    return widget


def text(key: str, label: str, rows: int = 1, **more: Any) -> Any:
    """A text that counts once its field is left. ``rows`` 1: one line."""
    kind = ipywidgets.Textarea if rows > 1 else ipywidgets.Text
    extra = {"rows": rows} if rows > 1 else {}
    widget = kind(description=label, tooltip=label, continuous_update=False, **extra, **more)
    widget.add_class(f"km-text-{key}")
    return widget


def act(key: str, label: str, tooltip: str) -> Any:
    """A button with words on it."""
    widget = ipywidgets.Button(description=label, tooltip=tooltip)
    for css_class in ("km-act", f"km-{key}"):
        widget.add_class(css_class)
    return widget


def switch(rule: str) -> Any:
    text = f"Break it: {plain(rule)}"  # no markup: some front ends show a description as it is
    widget = ipywidgets.Checkbox(description=text, tooltip=text, indent=False)
    widget.add_class("km-break")
    return widget
