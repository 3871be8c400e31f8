"""How a fact is said in a sentence: a release, a default, a bit. Pages take these instead of typing them.

What rests on an inference or on memory says so, in brackets. The functions take the words that a page writes and
return a part of a sentence; ValueError, in one line, for what the facts don't have.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kvmmodel.facts import inhibits, load
from kvmmodel.facts.params import AUTO, kind_of, spell
from kvmmodel.facts.releases import Change, Kernel, changes, kernel, series, version

DOUBTS = ("recalled", "inferred")


def since(id: str) -> str:
    """ "since 6.17 (inferred)", "from 6.6 on" where the mainline release isn't known, and the stable releases."""
    first, mainline, doubt = _first(id)
    told = [doubt] if doubt else []
    if id in changes() and changes()[id].stable:
        told.append(f"stable: {_stable(changes()[id])}")
    begin = f"since {mainline}" if mainline else f"from {first} on"
    return f"{begin} ({'; '.join(told)})" if told else begin


def release(id: str) -> str:
    """ "6.17 (inferred)": the mainline release that brought it, or the first series read that has it."""
    first, mainline, doubt = _first(id)
    return f"{mainline or first}{_label(doubt)}"


def until(id: str) -> str:
    """ "up to 6.16 (inferred)": the last mainline release without it, or the last series read without it."""
    first, mainline, doubt = _first(id)
    last = _before(mainline) if mainline else max((s for s in series() if version(s) < version(first)), key=version)
    return f"up to {last}{_label(doubt)}"


def stable(id: str) -> str:
    """ "6.12.49 and 6.1.154": the stable releases that took it, newest series first."""
    change = _change(id)
    if not change.stable:
        raise ValueError(f"behaviour {id!r}: no stable release is known to have taken it")
    return f"{_stable(change)}{_label(change.how if change.how in DOUBTS else None)}"


def default(name: str, release: str) -> str:
    """ "N", "auto", "200000": a parameter's default in a release, as sysfs spells it."""
    here = kernel(release)
    value = default_of(name, here)
    return AUTO if value == AUTO else spell(name, value, here)


def default_of(name: str, here: Kernel) -> Any:
    """The default as a value: a bool, a number, or "auto"."""
    rows = load("params")
    if name not in rows or kind_of(name, here) is None:
        raise ValueError(f"kernel {here.release} has no parameter {name!r} in the facts")
    held = [value for first, value in rows[name]["default"].items() if version(first) <= version(here.series)]
    return held[-1]


def bit(name: str, release: str) -> str:
    """ "8": an inhibit's number in a release."""
    return str(inhibits.bit(kernel(release), name))


def mask(name: str, release: str) -> str:
    """ "0x200": an inhibit as a trace prints its mask."""
    return hex(1 << inhibits.bit(kernel(release), name))


def reason(mask: str, release: str) -> str:
    """ "SEV": the inhibits of a mask, as a release reads it."""
    return _and(inhibits.decode(kernel(release), int(mask, 0)))


def bits(name: str) -> str:
    """ "7 in 6.1, 8 from 6.6 on": an inhibit's numbers through the releases."""
    row = load("inhibits").get(name)
    if row is None:
        raise ValueError(f"no APICv inhibit {name!r}: expected one of {', '.join(load('inhibits'))}")
    spans = by_span(row["bit"], row.get("until"))
    return ", ".join(f"{value} {when}" for when, value in spans)


def by_span(by_series: Mapping[str, Any], until: str | None = None) -> tuple[tuple[str, Any], ...]:
    """Values keyed by the series from which they hold, as ("in 6.1", value), ("from 6.6 on", value)."""
    firsts = list(by_series)
    spans = []
    for first, after in zip(firsts, [*firsts[1:], until], strict=True):
        held = [s for s in series() if version(s) >= version(first) and (after is None or version(s) < version(after))]
        spans.append((_when(held, after), by_series[first]))
    return tuple(spans)


def doubt_of(change: Change) -> str | None:
    """ "recalled" or "inferred", the weaker of how the row and how its mainline release are known; None: neither."""
    hows = {change.how, *(change.mainline or ())[1:]}
    return next((doubt for doubt in DOUBTS if doubt in hows), None)


def _first(id: str) -> tuple[str, str | None, str | None]:
    """The first series with a behaviour, parameter or inhibit; its mainline release, and a doubt, where known."""
    if id in changes():
        change = changes()[id]
        return change.since, change.mainline and change.mainline[0], doubt_of(change)
    for table, field in (("params", "default"), ("inhibits", "bit")):
        row = load(table).get(id)
        if row is not None and "change" in row:
            return _first(row["change"])
        if row is not None:
            mainline, how = next(iter(row.get("mainline", {}).items()), (None, None))
            return next(iter(row[field])), mainline, how if how in DOUBTS else None
    raise ValueError(f"no behaviour, parameter or inhibit {id!r} in the facts")


def _change(id: str) -> Change:
    if id not in changes():
        raise ValueError(f"no behaviour {id!r} in facts/changes")
    return changes()[id]


def _before(mainline: str) -> str:
    """The mainline release before: 5.19 comes before 6.0."""
    parts = version(mainline) if " " not in mainline else ()
    last = load("kernels")["last_minor"]
    if len(parts) != 2 or (not parts[1] and str(parts[0] - 1) not in last):
        raise ValueError(f"which release is before {mainline} is not in the facts")
    return f"{parts[0]}.{parts[1] - 1}" if parts[1] else f"{parts[0] - 1}.{last[str(parts[0] - 1)]}"


def _stable(change: Change) -> str:
    """A release that was read or recorded has it; whether it was the first to have it isn't known."""
    held = load("kernels")
    seen = {*held["series"].values(), *held["recorded"]}
    newest_first = sorted((point for _, point in change.stable), key=version, reverse=True)
    said = [f"{point} or before" if point in seen else point for point in newest_first]
    return _and(said) if seen.isdisjoint(newest_first) else ", ".join(said)


def _label(doubt: str | None) -> str:
    return f" ({doubt})" if doubt else ""


def _when(held: list[str], after: str | None) -> str:
    if after is None:
        return f"from {held[0]} on"
    return f"in {_and(held)}" if len(held) < 3 else f"from {held[0]} to {held[-1]}"


def _and(words: Any) -> str:
    *first, last = words
    return f"{', '.join(first)} and {last}" if first else str(last)
