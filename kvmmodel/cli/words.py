"""What commands share: reading a text, module parameters, progress."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kvmmodel.machine.host import Host

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


def params(texts: Sequence[str]) -> dict[str, Any]:
    """Those of all --param. ValueError for one that is given twice."""
    found: dict[str, Any] = {}
    for name, value in map(param, texts):
        if name in found:
            raise ValueError(f"--param {name} is given twice")
        found[name] = value
    return found


def tell_avic(host: Host, asked: str) -> None:
    """The kernel says nothing when it cannot have AVIC; whoever asked for it wants to know."""
    if asked == "on" and not host.params["avic"]:
        cpu, kernel = host.processor.name, host.kernel.release
        print(f"kvmmodel: --avic on: avic resolves to N on {cpu} with kernel {kernel}", file=sys.stderr)


def tell_unfinished(name: str, steps: dict[int, str]) -> int:
    """The exit status of a run: 1 if a guest waits for what never came."""
    for vcpu, step in steps.items():
        print(f"kvmmodel: {name}: vCPU {vcpu} did not finish: it is still at {step!r}", file=sys.stderr)
    return 1 if steps else 0


def text_of(name: str, expected: str) -> str:
    """A file's text. ValueError if it is none."""
    try:
        return Path(name).read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise ValueError(f"{name}: not a text, expected {expected}") from None


def progress(text: str, due: bool) -> None:
    """A line on standard error that the next one replaces, if somebody watches."""
    if due and sys.stderr.isatty():
        print(f"\r{text:40}\r", end="", file=sys.stderr, flush=True)
