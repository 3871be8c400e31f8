"""The words of a case file, checked against the vocabulary that the file carries.

A type is alternatives joined by ``|``: int, bool, ints, names, reg, routes, runs, message, or a word that stands for
itself; a trailing ``?`` allows null or absence. Any int may be an expression.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from kvmmodel.cases.expr import is_expression, parse

TYPES = ("int", "bool", "ints", "names", "reg", "routes", "runs", "message")
Vocabulary = Mapping[str, Any]
SECTIONS = {"given": dict, "ops": dict, "select": dict, "keys": dict, "names": list, "regs": list}


def vocabulary(data: Any) -> Vocabulary:
    """The file's vocabulary. ValueError unless it has every section."""
    for section, kind in SECTIONS.items():
        if not isinstance(data, dict) or not isinstance(data.get(section), kind):
            raise ValueError(f"expected a vocabulary with {', '.join(SECTIONS)}, found no {section}")
    types = [data["given"], data["select"], data["keys"], *data["ops"].values()]
    if not all(isinstance(t, dict) and all(isinstance(kind, str) for kind in t.values()) for t in types):
        raise ValueError("vocabulary: expected each argument and key with its type, a text")
    words: Vocabulary = data
    return words


def is_int(value: Any, variables: Collection[str]) -> bool:
    """An integer, or an expression over these variables. ValueError for an expression that is none."""
    if is_expression(value):
        return parse(value["expr"])[1] <= set(variables)
    return isinstance(value, int) and not isinstance(value, bool)


def fits(value: Any, kind: str, variables: Collection[str], words: Vocabulary) -> bool:
    """Whether a value is of a type."""
    choices = kind.split("|")
    if value is None:
        return any(choice.endswith("?") for choice in choices)
    choices = [choice.rstrip("?") for choice in choices]
    plain = set(choices) - {*TYPES, ""}
    if plain and isinstance(value, str) and value in choices:
        return value != ""  # also where a type's name is a word, as with the instruction "int"
    return any(_fits(value, choice, variables, words) for choice in choices)


def _fits(value: Any, kind: str, variables: Collection[str], words: Vocabulary) -> bool:
    if kind == "int":
        return is_int(value, variables)
    if kind == "bool":
        return isinstance(value, bool)
    if kind == "reg":
        return value in words["regs"] if isinstance(value, str) else is_int(value, variables)
    return kind in TYPES and isinstance(value, list) and _list_fits(value, kind, variables, words)


def _list_fits(value: list[Any], kind: str, variables: Collection[str], words: Vocabulary) -> bool:
    if kind == "ints":
        return all(is_int(v, variables) for v in value)
    if kind == "names":
        return all(v in words["names"] for v in value)
    if kind == "runs":
        steps = [step for run in value for step in (run if isinstance(run, list) else [None])]
        return all(next(step_errors(step, variables, words), None) is None for step in steps)
    if kind == "routes":
        forms = (int, str, int)
        return all(isinstance(r, list) and len(r) == 3 and _shape(r, forms, variables) for r in value)
    return len(value) == 7 and _shape(value, (int, str, str, str, str, str, int), variables)


def _shape(value: list[Any], forms: tuple[type, ...], variables: Collection[str]) -> bool:
    return all(
        is_int(v, variables) if form is int else isinstance(v, str) for v, form in zip(value, forms, strict=True)
    )


def step_errors(step: Any, variables: Collection[str], words: Vocabulary) -> Iterator[str]:
    """What is wrong with a step."""
    op = step.get("op") if isinstance(step, dict) else None
    if not isinstance(op, str) or op not in words["ops"]:
        yield f"expected a step whose op is one of the vocabulary, got {op if op is not None else step!r}"
        return
    arguments = words["ops"][op]
    for name, kind in arguments.items():
        if name not in step and "?" not in kind:
            yield f"{op} needs {name}: expected {kind}"
    for name, value in step.items():
        if name == "op":
            continue
        if name not in arguments:
            yield f"{op} has no {name}: expected {', '.join(arguments) or 'no arguments'}"
        elif not fits(value, arguments[name], variables, words):
            yield f"{op}: expected {name} to be {arguments[name]}, got {value!r}"


def checkpoint_errors(point: Any, steps: int, variables: Collection[str], words: Vocabulary) -> Iterator[str]:
    """What is wrong with a checkpoint of a case with so many steps."""
    after = point.get("after") if isinstance(point, dict) else None
    if type(after) is not int or not -1 <= after < max(steps, 1):
        yield f"expected a checkpoint after one of {steps} steps, from -1, got {point!r}"
        return
    if not point.keys() & words["keys"].keys():
        yield f"expected something to check in {point!r}"
    for name, value in point.items():
        kind = words["keys"].get(name) or words["select"].get(name)
        if kind is None:
            yield f"unknown key {name!r} in a checkpoint: expected one of the vocabulary"
        elif not fits(value, kind, variables, words):
            yield f"expected {name} to be {kind}, got {value!r}"
