"""Hypothesis draws cases until one differs, and shrinks it; what is left of it is then tried without each operation."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

from hypothesis import HealthCheck, Phase, given, seed, settings

from tests.oracle.fuzz.case import Case, Difference
from tests.oracle.fuzz.engine import check
from tests.oracle.fuzz.generate import cases
from tests.oracle.fuzz.histogram import Histogram

SHRINKING_S = 60


class Enough(KeyboardInterrupt):
    """Hypothesis has had its time: it goes no further for this, and for nothing less."""


def search(
    number: int, examples: int, histogram: Histogram, seen: Callable[[Exception], None] = lambda _: None
) -> str | None:
    """Run so many cases of this seed. What differs in the smallest case that does, None: nothing does.

    ``seen`` is told the first difference: to make it smaller takes a minute.
    """
    worst: list[tuple[Case, Exception]] = []
    until = 0.0

    @seed(number)
    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
        print_blob=False,
        report_multiple_bugs=False,
    )
    @given(cases())
    def run(case: Case) -> None:
        nonlocal until
        if worst and time.monotonic() > until:
            raise Enough
        try:
            check(case, None if worst else histogram)
        except Exception as error:
            if not worst:
                until = time.monotonic() + SHRINKING_S
                seen(error)
            worst[:] = [(case, error)]
            raise

    try:
        run()
    except (Exception, Enough):
        if not worst:
            raise
        return told(*worst[0])
    return None


def fails(case: Case) -> Exception | None:
    try:
        check(case)
    except Exception as error:
        return error
    return None


def smallest(case: Case) -> Case:
    """Without every operation that is not needed, from the last to the first."""
    for i in reversed(range(len(case.ops))):
        shorter = replace(case, ops=case.ops[:i] + case.ops[i + 1 :])
        if fails(shorter):
            case = shorter
    return case


def told(case: Case, error: Exception) -> str:
    if not fails(case):
        return f"seen once, not again with the same case, so it depends on something else:\n{error}"
    case = smallest(case)
    error = fails(case) or error
    return str(error) if isinstance(error, Difference) else f"{type(error).__name__}: {error}\n{case}"
