"""Small builders for SVG and HTML text. All they return is well-formed XML, so a page and a test can parse it."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from html import escape
from typing import TypeVar

from kvmmodel.trace.story import Story

T = TypeVar("T")

_NAME = re.compile(r"\w+_\w+(\(\w+\))?")
_EMPTY = frozenset({"path", "rect", "circle", "wbr", "br"})
_NARROW = frozenset("iljtfrI.,:;|!'()[]/ `·")
_WIDE = frozenset("mwMW@%…")
_CONTROL = re.compile("[^\\t\\n\\r\\x20-\\ud7ff\\ue000-\\ufffd\\U00010000-\\U0010ffff]")


def esc(text: str) -> str:
    """Text or attribute value, escaped; characters that XML forbids become U+FFFD."""
    return escape(_CONTROL.sub("\ufffd", text), quote=True)


def num(value: float) -> str:
    """A coordinate with at most one decimal: 12, 12.5."""
    return f"{value:.1f}".removesuffix(".0")


def el(tag: str, *children: str, **attrs: object) -> str:
    """An element. Attributes: ``class_`` is class, ``stroke_width`` is stroke-width; None and False leave it out."""
    parts = [tag]
    for key, value in attrs.items():
        if value is None or value is False:
            continue
        name = key.rstrip("_").replace("_", "-")
        text = num(value) if isinstance(value, float) else esc(str(value))
        parts.append(f'{name}="{text}"')
    head = " ".join(parts)
    return f"<{head}/>" if tag in _EMPTY else f"<{head}>{''.join(children)}</{tag}>"


def runs(text: str) -> list[tuple[str, bool]]:
    """Split at backticks into (text, is code). A backtick without a partner stays as it is."""
    parts = text.split("`")
    if len(parts) % 2 == 0:
        parts[-2:] = ["`".join(parts[-2:])]
    return [(part, i % 2 == 1) for i, part in enumerate(parts) if part]


def plain(text: str) -> str:
    """The text without its backticks, for labels that are read aloud."""
    return "".join(part for part, _ in runs(text))


@lru_cache(maxsize=2048)
def rich(text: str) -> str:
    """Text with `code` as HTML; long names may break after an underscore."""
    return "".join(el("code", breakable(part)) if code else esc(part) for part, code in runs(text))


def coded(text: str) -> str:
    """A sentence of the facts as HTML: names with an underscore are code."""
    return rich(_NAME.sub(r"`\g<0>`", text))


def breakable(name: str) -> str:
    """A kernel name that may break after an inner underscore, and only there; a number never breaks."""
    if name[:1].isdigit():
        return esc(name)
    return re.sub(r"(?<=[^_])_+(?=[^_])", lambda m: m[0] + "<wbr/>", esc(name))


def tspans(text: str) -> str:
    """Text with `code` as SVG tspans."""
    return "".join(f'<tspan class="m">{esc(part)}</tspan>' if code else esc(part) for part, code in runs(text))


def width(text: str, *, size: float = 13, bold: bool = False) -> float:
    """Estimated width in px of a label in DejaVu Sans, the widest common fallback; code counts as DejaVu Sans Mono."""
    total = 0.0
    for part, code in runs(text):
        if code:
            total += len(part) * 0.602 * (size - 0.5)
        else:
            em = sum(0.37 if c in _NARROW else 0.95 if c in _WIDE else 0.68 if c.isupper() else 0.61 for c in part)
            total += em * size * (1.1 if bold else 1.0)
    return total


def cut(text: str, room: float, *, size: float = 13, bold: bool = False) -> str:
    """The text, or as much of it as fits into ``room`` px, ended by an ellipsis. Code stays marked as code."""
    if width(text, size=size, bold=bold) <= room:
        return text
    flat = plain(text)
    kept = len(flat)
    while kept > 1 and width(_take(text, kept), size=size, bold=bold) > room:
        kept -= 1
    return _take(text, kept)


def _take(text: str, count: int) -> str:
    out = ""
    for part, code in runs(text):
        piece = part[:count]
        count -= len(piece)
        out += f"`{piece}`" if code and piece else piece
    return out.rstrip(" ,:") + "…"


def per_story(make: Callable[[Story], T]) -> Callable[[Story], T]:
    """Remember what ``make`` returned for each Story object, so that a step need not lay the run out again."""
    kept: dict[int, tuple[Story, T]] = {}

    def get(story: Story) -> T:
        hit = kept.get(id(story))
        if hit is None or hit[0] is not story:
            if len(kept) >= 64:
                kept.clear()
            hit = kept[id(story)] = (story, make(story))
        return hit[1]

    return get
