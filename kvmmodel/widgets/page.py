"""Small pieces for the top of a page: how we know, and for which kernels the answer holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.resources import files

from kvmmodel.trace.story import Badge
from kvmmodel.widgets.glyphs import icon
from kvmmodel.widgets.svg import el, esc, rich

HOW = {
    "recorded": "recorded",
    "source": "read in source",
    "mail": "commit or mail",
    "manual": "manual",
    "inferred": "inferred",
    "recalled": "recalled",
}


class Html(str):
    """HTML text that a notebook shows as such."""

    def _repr_html_(self) -> str:
        return str(self)


def style() -> Html:
    """The look of what other cells return, for a notebook, which does not link the style sheet as the book does."""
    return Html(f"<style>{(files('kvmmodel.widgets') / 'km.css').read_text(encoding='utf-8')}</style>")


def badge(item: Badge) -> str:
    """One badge: outline, icon, word, and what exactly. Errors: ValueError for a way of knowing that has no badge."""
    if item.how not in HOW:
        raise ValueError(f"unknown badge {item.how!r}: one of {', '.join(HOW)}")
    text = f"{HOW[item.how]} · {rich(item.text)}" if item.text else HOW[item.how]
    return f'<span class="km-badge {item.how}">{icon(f"how-{item.how}", size=12)}<span>{text}</span></span>'


def badges(items: Sequence[Badge]) -> str:
    return el("span", *map(badge, items), class_="km-badges") if items else ""


def how_known(*items: Badge | tuple[str, str]) -> Html:
    """The line "How we know" with its badges; a pair is (how, what): ("source", "6.1 to 7.3")."""
    known = [item if isinstance(item, Badge) else Badge(*item) for item in items]
    return Html(_line("How we know", badges(known)))


def kernels(holds: Sequence[str], differs: Mapping[str, str] | None = None) -> Html:
    """The line "Kernels": solid where the answer holds; dashed, with a word, where it ``differs`` (release to word)."""
    differs = differs or {}
    order = sorted({*holds, *differs}, key=_release)
    cells = [
        f'<span class="km-kernel{" differs" if k in differs else ""}">{esc(k)}{" ±" if k in differs else ""}</span>'
        for k in order
    ]
    words: dict[str, list[str]] = {}
    for kernel in order:
        if kernel in differs:
            words.setdefault(differs[kernel], []).append(kernel)
    notes = [f"± {esc(', '.join(ks))}: {rich(word)}" for word, ks in words.items()]
    note = el("small", "; ".join(notes)) if notes else ""
    return Html(_line("Kernels", el("span", *cells, note, class_="km-badges")))


def _release(name: str) -> tuple[int, ...]:
    return tuple(int(part) for part in name.split(".") if part.isdigit())


def _line(name: str, body: str) -> str:
    return el("div", el("span", name, class_="km-term"), body, class_="km km-known")
