"""Case files: facts about interrupt controllers as data. Read strictly, each complaint names the case.

tests/evidence/data/peer_cases.md defines every word. In short:

A file is one JSON object: ``vocabulary`` (see words.py) and ``cases``. A case has ``id`` and ``chip``; ``given``, what
differs from the initial state; ``sweep`` and ``where``, the points that it is run at; ``steps``; ``expect``, a list of
checkpoints ``{"after": step, ...}``; and ``kvm``, whose relation says whether KVM does the ``same`` or ``differs``
(then it does ``kvm.expect``), or why nothing is run: the case is ``out`` of scope, or the question is ``open``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from kvmmodel.cases.expr import COMPARISONS, parse, points
from kvmmodel.cases.words import Vocabulary, checkpoint_errors, fits, is_int, step_errors, vocabulary
from kvmmodel.facts.releases import kernel, series, version

DEFAULT_KERNEL = "6.18"
CHIPS = ("lapic", "ioapic", "pic", "pit", "avic", "routing", "svm", "vm")
FIELDS = ("id", "source", "chip", "area", "strength", "given", "sweep", "where", "steps", "expect", "kvm")
NEEDED = ("id", "chip", "given", "steps", "expect", "kvm")
RELATIONS = {"same": None, "differs": "expect", "out": "reason", "open": "question"}


class CaseError(ValueError):
    """A file or a case that is not in the format: which, and what was expected."""


@dataclass(frozen=True, slots=True)
class Case:
    """``expect`` is what KVM does; ``skip`` says why there is nothing to run, None otherwise."""

    id: str
    chip: str
    given: dict[str, Any]
    sweep: dict[str, range]
    where: list[Any] | None
    steps: list[dict[str, Any]]
    expect: list[dict[str, Any]]
    kernel: str
    skip: str | None


def read(text: str, name: str) -> list[Case]:
    """Every case of a file. CaseError names the case."""
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise CaseError(f"{name}: expected a case file in JSON: {error}") from None
    rows = data.get("cases") if isinstance(data, dict) else None
    if not isinstance(rows, list):
        raise CaseError(f"{name}: expected an object with vocabulary and cases")
    try:
        words = vocabulary(data.get("vocabulary"))
    except ValueError as error:
        raise CaseError(f"{name}: {error}") from None
    cases, seen = list[Case](), set[str]()
    for number, row in enumerate(rows, 1):
        ident = row.get("id") if isinstance(row, dict) else None
        if not isinstance(ident, str) or not ident:
            raise CaseError(f"{name}, case {number}: expected an object with an id")
        try:
            complaint = next(_errors(row, words), None)
        except ValueError as error:
            complaint = str(error)
        if complaint is None and ident in seen:
            complaint = "expected an id that no other case has"
        if complaint is not None:
            raise CaseError(f"{name}, case {ident}: {complaint}")
        seen.add(ident)
        cases.append(_case(row))
    return cases


def _errors(row: dict[str, Any], words: Vocabulary) -> Iterator[str]:
    for field in row.keys() - set(FIELDS):
        yield f"unknown field {field!r}: expected {', '.join(FIELDS)}"
    for field in NEEDED:
        if field not in row:
            yield f"no {field!r}: expected {', '.join(NEEDED)}"
    if row["chip"] not in CHIPS:
        yield f"unknown chip {row['chip']!r}: expected one of {', '.join(CHIPS)}"
    yield from _sweep_errors(row)
    sweep = row.get("sweep", {})
    for key, kind in (("given", dict), ("steps", list), ("expect", list), ("kvm", dict)):
        if not isinstance(row[key], kind):
            yield f"expected {key} to be {'an object' if kind is dict else 'a list'}, got {row[key]!r}"
    for key, value in row["given"].items():
        if key not in words["given"]:
            yield f"unknown {key!r} in given: expected one of {', '.join(words['given'])}"
        elif not fits(value, words["given"][key], (), words):
            yield f"given: expected {key} to be {words['given'][key]}, got {value!r}"
    cpus = _cpus(row["given"])
    if len(row["given"].get("ids", range(cpus))) != cpus or cpus < 1:
        yield f"given: expected as many ids as there are cpus, at least one, got {row['given']!r}"
    if row["given"].get("mode") == "x2apic" and not row["given"].get("x2apic_cpuid", True):
        yield "given: expected x2apic_cpuid with mode x2apic, KVM refuses the mode without it"
    for number, step in enumerate(row["steps"]):
        for complaint in step_errors(step, sweep, words):
            yield f"step {number}: {complaint}"
    relation = row["kvm"].get("relation")
    if not isinstance(relation, str) or relation not in RELATIONS:
        yield f"expected kvm.relation to be one of {', '.join(RELATIONS)}, got {relation!r}"
    needed = RELATIONS[relation]
    if needed is not None and not isinstance(row["kvm"].get(needed) or None, list if needed == "expect" else str):
        yield f"expected kvm.{needed}, as the relation is {relation!r}"
    for key in row["kvm"].keys() - {"relation", "kernel", "note", needed}:
        yield f"unknown {key!r} in kvm: expected relation, kernel, note{f', {needed}' if needed else ''}"
    if not isinstance(row["kvm"].get("kernel", ""), str):
        yield f"expected kvm.kernel to be a text, got {row['kvm']['kernel']!r}"
    kernel(release(row["kvm"].get("kernel", "")) or DEFAULT_KERNEL)  # raises for a release that is not modelled
    if relation in ("same", "differs") and not row["expect"]:
        yield "expected at least one checkpoint in expect"
    checkpoints = row["expect"] + (row["kvm"]["expect"] if needed == "expect" else [])
    for point in checkpoints:
        yield from checkpoint_errors(point, len(row["steps"]), sweep, words)
    for part in _parts(row["steps"] + checkpoints):
        if type(part.get("cpu")) is int and not 0 <= part["cpu"] < cpus:
            yield f"expected a cpu from 0 to {cpus - 1}, got {part!r}"


def _cpus(given: dict[str, Any]) -> int:
    count: int = given.get("cpus", len(given.get("ids", [0])))
    return count


def _parts(parts: list[Any]) -> Iterator[dict[str, Any]]:
    """Steps and checkpoints, also those inside handlers."""
    for part in parts:
        if isinstance(part, dict):
            yield part
            for steps in part.get("runs", ()):
                yield from _parts(steps)


def _sweep_errors(row: dict[str, Any]) -> Iterator[str]:
    sweep, where = row.get("sweep", {}), row.get("where")
    if not isinstance(sweep, dict):
        yield f"expected sweep to be an object, got {sweep!r}"
    for name, bounds in sweep.items():
        whole = isinstance(bounds, list) and len(bounds) == 3 and all(is_int(b, ()) for b in bounds)
        if not re.fullmatch("[a-z]", name) or not whole or bounds[2] <= 0 or bounds[0] >= bounds[1]:
            yield f"sweep: expected a letter and [start, stop, step], got {name!r}: {bounds!r}"
    if where is None:
        return
    if not isinstance(where, list) or len(where) != 3 or where[1] not in list(COMPARISONS):
        yield f"expected where to be [left, {' or '.join(COMPARISONS)}, right], got {where!r}"
    for side in where[::2]:
        if isinstance(side, str):
            unknown = parse(side)[1] - sweep.keys()
            if unknown:
                yield f"where: expected variables of the sweep, got {', '.join(sorted(unknown))}"
        elif not is_int(side, ()):
            yield f"where: expected an expression or an integer, got {side!r}"
    if next(points({name: range(*bounds) for name, bounds in sweep.items()}, where), None) is None:
        yield "expected where to leave a point of the sweep"


def _case(row: dict[str, Any]) -> Case:
    kvm = row["kvm"]
    relation = kvm["relation"]
    reason, on = kvm.get("reason") or kvm.get("question"), release(kvm.get("kernel", ""))
    return Case(
        row["id"],
        row["chip"],
        row["given"],
        {name: range(*bounds) for name, bounds in row.get("sweep", {}).items()},
        row.get("where"),
        row["steps"],
        kvm["expect"] if relation == "differs" else row["expect"],
        on or DEFAULT_KERNEL,
        f"{relation}: {reason}" if relation in ("out", "open") else None if on else f"no release is {kvm['kernel']}",
    )


NUMBER = r"\d+\.\d+(?:\.\d+)?"
# (what is written, how a release's numbers compare with those)
BOUNDS: tuple[tuple[str, Callable[[tuple[int, ...], tuple[int, ...]], bool]], ...] = (
    (rf"(?:>=|\bfrom\b|\bsince\b)\s*({NUMBER})", lambda one, bound: one >= bound),
    (rf"({NUMBER})(?:\+| and later)", lambda one, bound: one >= bound),
    (rf">\s*({NUMBER})", lambda one, bound: one[: len(bound)] > bound),
    (rf"(?:<=|\bup to\b)\s*({NUMBER})", lambda one, bound: one[: len(bound)] <= bound),
    (rf"(?:<|\bbefore\b)\s*({NUMBER})", lambda one, bound: one[: len(bound)] < bound),
)


def release(text: str) -> str | None:
    """A modelled release that "which releases it holds for" includes: the default, else the nearest; None: none is.

    Understood: ``>=X.Y``, ``X.Y+``, ``X.Y and later``, ``from`` or ``since X.Y``, ``>X.Y``; ``<=X.Y``, ``up to X.Y``,
    ``<X.Y``, ``before X.Y``; ``X.Y-X.Y`` and ``X.Y to X.Y``; else the releases that are named. What comes after ``not``
    or a semicolon is a remark.
    """
    text = re.split(r";|\bnot\b", text)[0].strip()
    text = re.sub(rf"({NUMBER})\s*(?:-|–|\bto\b)\s*({NUMBER})", r">=\1 <=\2", text)
    bounds = [(holds, version(found)) for pattern, holds in BOUNDS for found in re.findall(pattern, text)]
    named = re.findall(NUMBER, text)
    if named and not bounds:
        return DEFAULT_KERNEL if DEFAULT_KERNEL in named else named[-1]
    fitting = [s for s in series() if all(holds(kernel(s).point, bound) for holds, bound in bounds)]
    later = [s for s in fitting if version(s) >= version(DEFAULT_KERNEL)]
    return later[0] if later else fitting[-1] if fitting else None
