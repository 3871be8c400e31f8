"""What lies between two releases: which behaviours come, change or go on the way from one to the other, and where.

It tells what facts/changes has: "nothing" means that nothing is known, not that nothing changed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from kvmmodel.facts import load
from kvmmodel.facts.releases import Change, Kernel, changes, gained, kernel, series, version

NEW, CHANGED, GONE = "+", "±", "−"
BEFORE = re.compile(r"(?<=\.) (?=Before\b|In 5\.10\b)")


@dataclass(frozen=True, slots=True)
class Difference:
    """``mark``: NEW or CHANGED for what the second release has, where CHANGED tells what was before; GONE for what only
    the first has. ``at``: the stop of the way at which it comes or goes."""

    change: Change
    mark: str
    at: str


def now_and_before(change: Change) -> tuple[str, str | None]:
    """What a release with this behaviour does, and what others did before, where the row tells that."""
    now, *before = BEFORE.split(change.summary, maxsplit=1)
    return now, before[0] if before else None


def known() -> tuple[str, ...]:
    """The names worth choosing, oldest first: each series, which stands for the point release whose source was read,
    and each point release that was recorded, or is the first known to have a change."""
    names = {kernel(name).release: name for name in series()}
    points = {point for change in changes().values() for _, point in change.stable} | set(load("kernels")["recorded"])
    names |= {point: point for point in points if point not in names}
    return tuple(names[point] for point in sorted(names, key=version))


def stops(a: Kernel, b: Kernel) -> tuple[str, ...]:
    """Oldest first: all series, where the two releases stand for theirs; or within one series the two, and the point
    releases between them that took something."""
    first, last = sorted((a, b), key=lambda one: one.point)
    if a.series == b.series:
        took = {p for c in changes().values() for s, p in c.stable if s == a.series}
        between = {point for point in took if first.point < version(point) < last.point}
        return tuple(sorted(between | {a.release, b.release}, key=version))
    ends = {first.series: first.release, last.series: last.release}
    return tuple(ends.get(name, name) for name in series())


def differences(a: Kernel, b: Kernel) -> tuple[Difference, ...]:
    """From ``a`` to ``b``, in the order of the way; what comes at one stop, in the order of the files."""
    rows = [Difference(c, CHANGED if now_and_before(c)[1] else NEW, _where(c, a, b)) for c in gained(a, b)]
    rows += [Difference(c, GONE, _where(c, b, a)) for c in gained(b, a)]
    way = stops(a, b) if version(a.release) <= version(b.release) else stops(a, b)[::-1]
    return tuple(sorted(rows, key=lambda row: way.index(row.at)))


def _where(change: Change, without: Kernel, having: Kernel) -> str:
    """The stop at which a change divides two releases. One that the newer lacks is lost at the newer."""
    newer = max(without, having, key=lambda one: one.point)
    point = dict(change.stable).get(having.series)
    if without is newer:
        return newer.release
    if without.series == having.series:
        assert point is not None  # nothing else divides releases of one series
        return point
    return newer.release if point is not None or change.since == having.series else change.since
