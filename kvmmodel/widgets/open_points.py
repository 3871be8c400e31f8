"""The open points as a list to read: what is asked, what may be, and what the model takes."""

from __future__ import annotations

from kvmmodel.facts.open_points import OpenPoint
from kvmmodel.facts.open_points import open_points as rows
from kvmmodel.widgets.page import Html
from kvmmodel.widgets.svg import el, esc


def open_points() -> Html:
    """Every row of facts/open_points.toml, in its order."""
    return Html(el("dl", *map(_entry, rows().values()), class_="km km-open"))


def _entry(point: OpenPoint) -> str:
    choices = [
        el("li", el("code", esc(word)), ": ", esc(what), el("b", " (taken)") if word == point.default else "")
        for word, what in point.choices.items()
    ]
    because = el("p", f"Taken because {esc(point.because)}. Source: {esc(point.source)}.", class_="km-note")
    return el("dt", esc(point.question), " ", el("code", esc(point.id))) + el("dd", el("ul", *choices), because)
