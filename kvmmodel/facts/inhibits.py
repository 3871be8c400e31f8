"""The reasons for which APICv is switched off, as a release numbers and spells them.

A trace prints a bitmap; before 6.12 nothing but the number. What a bit means differs between releases.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

from kvmmodel.facts import load
from kvmmodel.facts.releases import Kernel, at


@dataclass(frozen=True, slots=True)
class Reason:
    """One reason in one release. ``id`` is the same in all releases, ``name`` as this one spells it; texts are English.

    ``short`` is for a list; ``options``: of a module or of QEMU, any of which avoids it; empty if none does.

    ``scope`` is "VM" or "vCPU"; ``avic`` and ``vmx`` say whether that vendor's code asks for it.
    """

    id: str
    bit: int
    name: str
    scope: str
    set_by: str
    cleared_by: str
    short: str
    why: str
    trigger: str
    avoid: str
    options: tuple[str, ...]
    avic: bool
    vmx: bool
    how: str
    source: str


@cache
def reasons(kernel: Kernel) -> tuple[Reason, ...]:
    """Those that this release has, in the order of their bits."""
    found = [_reason(key, row, kernel) for key, row in load("inhibits").items() if _exists(row, kernel)]
    return tuple(sorted(found, key=lambda reason: reason.bit))


def names(kernel: Kernel) -> tuple[str, ...]:
    """Their names as this release spells them; a name's index is its bit."""
    return tuple(reason.name for reason in reasons(kernel))


def reason(kernel: Kernel, name: str) -> Reason:
    """The one with that id or that name. ValueError, in one line, if this release has none."""
    for one in reasons(kernel):
        if name in (one.id, one.name):
            return one
    raise ValueError(
        f"kernel {kernel.release} has no APICv inhibit {name!r}: expected one of {', '.join(names(kernel))}"
    )


def bit(kernel: Kernel, name: str) -> int:
    """Its number in the bitmap. ValueError, in one line, if this release has no such reason."""
    return reason(kernel, name).bit


def decode(kernel: Kernel, mask: int) -> tuple[str, ...]:
    """The names of a bitmap's bits, lowest first. ValueError, in one line, for a bit that this release has not."""
    known = names(kernel)
    if mask < 0 or mask >> len(known):
        raise ValueError(f"kernel {kernel.release} has the APICv inhibits of bits 0 to {len(known) - 1}, got {mask:#x}")
    return tuple(name for number, name in enumerate(known) if mask >> number & 1)


def _exists(row: dict[str, Any], kernel: Kernel) -> bool:
    return at(row["bit"], kernel, row.get("until")) is not None


def _reason(key: str, row: dict[str, Any], kernel: Kernel) -> Reason:
    by_series = {field: at(row[field], kernel) for field in ("bit", "scope", "set_by", "cleared_by")}
    fixed = {field: row[field] for field in ("why", "trigger", "avic", "vmx", "how", "source")}
    words = {field: _of(row[field], kernel) for field in ("short", "avoid")}
    name, options = at(row.get("name", {}), kernel) or key, tuple(_of(row.get("options", ()), kernel))
    return Reason(id=key, name=name, options=options, **by_series, **words, **fixed)


def _of(value: Any, kernel: Kernel) -> Any:
    """What may be keyed by series, and mostly is not."""
    return at(value, kernel) if isinstance(value, dict) else value
