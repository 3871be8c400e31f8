"""Running cases: each at every point of its sweep, on a fresh VM, against its checkpoints."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from kvmmodel.cases.bench import GIVEN, NotInModel, build
from kvmmodel.cases.expect import KEYS, SELECTORS, compare
from kvmmodel.cases.expr import points, substitute
from kvmmodel.cases.format import Case, CaseError
from kvmmodel.cases.ops import OPS, execute

NOT_YET = "not in the model yet"


@dataclass(frozen=True, slots=True)
class Failure:
    """The first checkpoint that does not hold, and the sweep's point where."""

    id: str
    expected: dict[str, Any]
    got: dict[str, Any]
    point: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Skipped:
    id: str
    reason: str


def run(case: Case) -> Failure | Skipped | None:
    """None: KVM's behaviour as the case has it is the model's."""
    if case.skip is not None:
        return Skipped(case.id, case.skip)
    missing = next(_missing(case), None)
    if missing is not None:
        return Skipped(case.id, f"{NOT_YET}: {missing}")
    try:
        for point in points(case.sweep, case.where):
            found = _run_at(case, point)
            if found is not None:
                return found
    except NotInModel as error:
        return Skipped(case.id, f"{NOT_YET}: {error}")
    except ValueError as error:  # of an expression, at a point of the sweep
        raise CaseError(f"case {case.id}: {error}") from None
    return None


def _missing(case: Case) -> Iterator[str]:
    """What the case uses and the model lacks."""
    yield from (name for name, value in case.given.items() if value and name not in GIVEN)
    yield from (op for op in _ops(case.steps) if op not in OPS)
    yield from (key for point in case.expect for key in point if key not in SELECTORS and key not in KEYS)


def _ops(steps: Iterable[dict[str, Any]]) -> Iterator[str]:
    for step in steps:
        yield step["op"]
        for run_ in step.get("runs", ()):
            yield from _ops(run_)


def _run_at(case: Case, point: dict[str, int]) -> Failure | None:
    steps, expect = substitute(case.steps, point), substitute(case.expect, point)
    bench = build(case.given, case.kernel)
    checks = dict[int, list[dict[str, Any]]]()
    for check in expect:
        checks.setdefault(check["after"], []).append(check)
    for number in range(-1, max(len(steps), 1)):
        if 0 <= number < len(steps):
            bench.new_step()
            try:
                execute(bench, steps[number])
            except (ArithmeticError, LookupError, TypeError, ValueError, struct.error) as error:
                return Failure(
                    case.id, {"after": number}, {"after": number, "error": f"{steps[number]}: {error}"}, point
                )
        for check in checks.get(number, ()):
            differs = compare(bench, check)
            if differs is not None:
                return Failure(case.id, *differs, point)
    return None
