"""What commands share: reading a text, module parameters, progress."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

AVIC = {"on": True, "off": False, "auto": None}


def param(text: str) -> tuple[str, Any]:
    """NAME=VALUE: Y and N are booleans, the rest are numbers."""
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise ValueError(f"--param takes NAME=VALUE, got {text!r}")
    if name == "avic":
        raise ValueError("--param avic: use --avic on|off|auto")
    if value in ("Y", "N"):
        return name, value == "Y"
    try:
        return name, int(value, 0)
    except ValueError:
        raise ValueError(f"--param {name}: expected Y, N or a number, got {value!r}") from None


def text_of(name: str, expected: str) -> str:
    """A file's text. ValueError if it is none."""
    try:
        return Path(name).read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise ValueError(f"{name}: not a text, expected {expected}") from None


def progress(text: str, due: bool) -> None:
    """A line on standard error that the next one replaces, if somebody watches."""
    if due and sys.stderr.isatty():
        print(f"\r{text:40}\r", end="", file=sys.stderr, flush=True)
