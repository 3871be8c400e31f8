"""Kernel releases: a name resolved to a point release, and the behaviours it has.

What differs between releases is one row a behaviour, in changes/, a file an area. The model asks for a behaviour by id
and never compares versions.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from typing import Any

from kvmmodel.facts import files, load

BUILT = re.compile(r"(\d+\.\d+)\.(\d+)([-+][\w.+~-]+)", re.ASCII)


@dataclass(frozen=True, slots=True)
class Change:
    """One row of changes/: a behaviour, and which releases have it.

    since    the first mainline series, of those modelled, that has it; "5.10" would be: always
    mainline the mainline release that brought it ("6.17", or "5.19 or 6.0") and how that is known; None: not known
    stable   older series that took it, each with the first point release known to have it
    commit   the hash that brought it to mainline, or several with ", " between; None: not known
    how      recorded, source, mail, manual, inferred, recalled
    source   where it was read or seen
    summary  what the release does; what it did before
    area     the file's name
    """

    id: str
    since: str
    mainline: tuple[str, str] | None
    stable: tuple[tuple[str, str], ...]
    commit: str | None
    how: str
    source: str
    summary: str
    area: str


@dataclass(frozen=True, slots=True)
class Kernel:
    """A release. ``name`` as asked for, ``series`` X.Y, ``point`` the release it stands for, ``behaviours`` by id."""

    name: str
    series: str
    point: tuple[int, ...]
    behaviours: frozenset[str]

    def has(self, behaviour: str) -> bool:
        """Whether this release behaves so. KeyError for an id that the facts don't have."""
        if behaviour not in changes():
            raise KeyError(f"no behaviour {behaviour!r} in facts/changes")
        return behaviour in self.behaviours

    @property
    def release(self) -> str:
        return ".".join(map(str, self.point))


def series() -> tuple[str, ...]:
    """The kernel series that are modelled, oldest first."""
    return tuple(load("kernels")["series"])


@cache
def changes() -> dict[str, Change]:
    """Every behaviour that differs between releases, by id. ValueError for an id that has two rows."""
    found: dict[str, Change] = {}
    for file in files("changes"):
        for row in load(file)["change"]:
            if row["id"] in found:
                raise ValueError(f"facts/changes has two rows {row['id']!r}, in {found[row['id']].area} and {file}")
            found[row["id"]] = _change(row, file.partition("/")[2])
    return found


def _change(row: dict[str, Any], area: str) -> Change:
    stable = tuple(row.get("stable", {}).items())
    known = (row.get("commit"), row["how"], row["source"], row["summary"])
    mainline = next(iter(row.get("mainline", {}).items()), None)
    return Change(row["id"], row["since"], mainline, stable, *known, area)


def version(text: str) -> tuple[int, ...]:
    """ "6.12.95" as (6, 12, 95)."""
    return tuple(int(part) for part in text.split("."))


def at(table: dict[str, Any], kernel: Kernel, until: str | None = None) -> Any:
    """Of values keyed by the series they hold from, the one here. None before the first, and from until on."""
    here = version(kernel.series)
    if until is not None and here >= version(until):
        return None
    held = [(version(since), value) for since, value in table.items() if version(since) <= here]
    return max(held, key=lambda one: one[0])[1] if held else None


@cache
def kernel(name: str) -> Kernel:
    """Resolve "6.12", "6.12.95" or what uname -r prints, as "6.12.95+deb12-amd64". ValueError, in one line, else.

    A distribution's X.Y.0-ABI does not tell the point release.
    """
    known = load("kernels")["series"]
    built = BUILT.fullmatch(name) if isinstance(name, str) else None
    if built and built[2] == "0" and built[3].startswith("-") and built[1] in known:
        raise ValueError(f"kernel {name!r} does not tell its point release: expected X.Y or X.Y.Z, as {built[1]}")
    plain = f"{built[1]}.{built[2]}" if built else name
    parts = plain.split(".") if isinstance(plain, str) else []
    if (
        len(parts) not in (2, 3)
        or not all(p.isascii() and p.isdigit() for p in parts)
        or ".".join(parts[:2]) not in known
    ):
        raise ValueError(f"unknown kernel {name!r}: expected X.Y or X.Y.Z of {', '.join(known)}")
    line = ".".join(parts[:2])
    point = version(plain if len(parts) == 3 else known[line])
    return Kernel(name, line, point, frozenset(c.id for c in changes().values() if _applies(c, line, point)))


def held(kernel: Kernel) -> tuple[Change, ...]:
    """What this release has of all that differs, newest first; within a series in the order of the files."""
    has = [c for c in changes().values() if kernel.has(c.id)]
    return tuple(sorted(has, key=lambda c: version(c.since), reverse=True))


def gained(before: Kernel, after: Kernel) -> tuple[Change, ...]:
    """What ``after`` has and ``before`` has not, newest first."""
    return tuple(c for c in held(after) if not before.has(c.id))


def lacked(kernel: Kernel) -> tuple[Change, ...]:
    """What this release has not, oldest first: the order in which it would come."""
    rest = [c for c in changes().values() if not kernel.has(c.id)]
    return tuple(sorted(rest, key=lambda c: version(c.since)))


def _applies(change: Change, line: str, point: tuple[int, ...]) -> bool:
    if version(line) >= version(change.since):
        return True
    return any(line == s and point >= version(since) for s, since in change.stable)
