"""The integer expressions of a case, and the points that a sweep runs over. See format.py for where they stand.

An expression has numbers, the sweep's variables, ``+ - * << >> & |`` and parentheses, with Python's precedence.
"""

from __future__ import annotations

import ast
import itertools
import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from typing import Any

Point = Mapping[str, int]
Evaluate = Callable[[Point], int]
MAX_SHIFT = 4096

OPERATORS: dict[type[ast.operator], Callable[[int, int], int]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.LShift: operator.lshift,
    ast.RShift: operator.rshift,
    ast.BitAnd: operator.and_,
    ast.BitOr: operator.or_,
}
COMPARISONS: dict[str, Callable[[int, int], bool]] = {
    "lt": operator.lt,
    "le": operator.le,
    "gt": operator.gt,
    "ge": operator.ge,
    "eq": operator.eq,
    "ne": operator.ne,
}


@cache
def parse(text: str) -> tuple[Evaluate, frozenset[str]]:
    """The expression as a function of a point, and the variables in it. ValueError for anything else."""
    try:
        tree = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise ValueError(f"expected an integer expression, got {text!r}") from None
    names = set[str]()
    return _build(tree, names, text), frozenset(names)


def _build(node: ast.expr, names: set[str], text: str) -> Evaluate:
    if isinstance(node, ast.Constant) and type(node.value) is int:
        number = node.value
        return lambda point: number
    if isinstance(node, ast.Name):
        name = node.id
        names.add(name)
        return lambda point: point[name]
    if isinstance(node, ast.BinOp) and type(node.op) in OPERATORS:
        apply, left, right = OPERATORS[type(node.op)], _build(node.left, names, text), _build(node.right, names, text)
        if isinstance(node.op, (ast.LShift, ast.RShift)):
            return lambda point: apply(left(point), _shift(right(point), text))
        return lambda point: apply(left(point), right(point))
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        positive = _build(node.operand, names, text)
        return lambda point: -positive(point)
    raise ValueError(f"expected numbers, variables of the sweep, + - * << >> & | and parentheses, got {text!r}")


def _shift(by: int, text: str) -> int:
    if not 0 <= by <= MAX_SHIFT:
        raise ValueError(f"cannot shift by {by} in {text!r}")
    return by


def is_expression(data: Any) -> bool:
    """Whether it has the form of one: ``{"expr": "i << 24"}``."""
    return isinstance(data, dict) and list(data) == ["expr"] and isinstance(data["expr"], str)


def substitute(data: Any, point: Point) -> Any:
    """The same data with each expression replaced by its value."""
    if isinstance(data, dict):
        if is_expression(data):
            return parse(data["expr"])[0](point)
        return {key: substitute(value, point) for key, value in data.items()}
    return [substitute(value, point) for value in data] if isinstance(data, list) else data


def points(sweep: Mapping[str, range], where: Sequence[Any] | None) -> Iterator[dict[str, int]]:
    """Every combination, the last variable fastest, for which ``where`` holds. One empty point without a sweep."""
    left, compare, right = where or (0, "eq", 0)
    holds, one, other = COMPARISONS[compare], _side(left), _side(right)
    for values in itertools.product(*sweep.values()):
        point = dict(zip(sweep, values, strict=True))
        if holds(one(point), other(point)):
            yield point


def _side(side: str | int) -> Evaluate:
    return parse(side if isinstance(side, str) else str(side))[0]
