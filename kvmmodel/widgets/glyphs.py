"""Symbols by kind of event, lane, badge and control: 16 by 16 px outlines that take the colour of what surrounds them.

The shapes are data (``glyphs.svg``): one group per symbol, named by its id. An unknown kind is a plain dot.
"""

from __future__ import annotations

import re
from functools import lru_cache
from importlib.resources import files

from kvmmodel.widgets.svg import num

# Kinds that share a symbol; a kind that is missing here is its own symbol's name.
ALIASES = {
    "setirr": "set_irr",
    "ipi": "kick",
    "resched": "kick",
    "sleep": "halt",
    "block": "halt",
    "blocked": "halt",
    "wakeup": "wake",
    "hlt": "halt",
    "table_write": "table",
    "posted": "post",
    "vmexit": "exit",
    "vmrun": "entry",
    "ioctl": "userspace",
    "check": "read",
    "irq": "line",
}


@lru_cache(maxsize=1)
def shapes() -> dict[str, str]:
    """Every symbol's content by name. The file is read once."""
    text = (files("kvmmodel.widgets") / "glyphs.svg").read_text(encoding="utf-8")
    return dict(re.findall(r'<g id="([^"]+)">(.*?)</g>', text))


def shape(kind: str) -> str:
    """The symbol's content for a kind of step, a lane ("lane-kvm"), a badge ("how-mail") or a control ("play")."""
    table = shapes()
    return table.get(ALIASES.get(kind, kind)) or table["dot"]


def glyph(kind: str, x: float, y: float, *, size: float = 16, css: str = "") -> str:
    """The symbol inside a drawing, centred on x, y (px); ``css`` names the lane whose colour it takes."""
    scale = "" if size == 16 else f" scale({size / 16:.3g})"
    where = f"translate({num(x - size / 2)} {num(y - size / 2)}){scale}"
    return f'<g class="{f"km-g {css}".strip()}" transform="{where}">{shape(kind)}</g>'


def icon(kind: str, *, css: str = "", size: int = 16) -> str:
    """The symbol beside text, as an SVG of its own; it says nothing to a screen reader, the word beside it does."""
    return (
        f'<svg class="{f"km-g km-icon {css}".strip()}" viewBox="0 0 16 16" width="{size}" height="{size}" '
        f'aria-hidden="true" focusable="false">{shape(kind)}</svg>'
    )
