"""Kernel releases: a name resolved to a point release, and the behaviours it has."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache

from kvmmodel.facts import load

BUILT = re.compile(r"(\d+\.\d+)\.(\d+)([-+][\w.+~-]+)", re.ASCII)


@dataclass(frozen=True, slots=True)
class Change:
    """One row of changes.toml."""

    id: str
    since: str
    stable: tuple[tuple[str, str], ...]
    how: str
    source: str
    summary: str


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
            raise KeyError(f"no behaviour {behaviour!r} in facts/changes.toml")
        return behaviour in self.behaviours

    @property
    def release(self) -> str:
        return ".".join(map(str, self.point))


def series() -> tuple[str, ...]:
    """The kernel series that are modelled, oldest first."""
    return tuple(load("kernels")["series"])


@cache
def changes() -> dict[str, Change]:
    """Every behaviour that differs between releases, by id."""
    return {
        row["id"]: Change(
            row["id"], row["since"], tuple(row.get("stable", {}).items()), row["how"], row["source"], row["summary"]
        )
        for row in load("changes")["change"]
    }


def version(text: str) -> tuple[int, ...]:
    """ "6.12.95" as (6, 12, 95)."""
    return tuple(int(part) for part in text.split("."))


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


def _applies(change: Change, line: str, point: tuple[int, ...]) -> bool:
    if version(line) >= version(change.since):
        return True
    return any(line == s and point >= version(since) for s, since in change.stable)
