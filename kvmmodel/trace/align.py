"""Two runs side by side: equal steps face each other, and a mark says where they differ."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from itertools import starmap

from kvmmodel.trace.story import StackFrame, Step, Story

SAME, CHANGED, GONE, NEW = "=", "±", "−", "+"


@dataclass(frozen=True, slots=True)
class StepRow:
    """One line of two stories. ± is the same step, done by other functions; − and + are steps of one side only."""

    left: Step | None
    right: Step | None
    mark: str


@dataclass(frozen=True, slots=True)
class FrameRow:
    """One line of two stacks; a function that only one side passes faces None."""

    left: StackFrame | None
    right: StackFrame | None
    mark: str


def align(left: Sequence[Hashable], right: Sequence[Hashable]) -> list[tuple[int | None, int | None]]:
    """Pairs of indices: as many equal items as possible face each other, in order. A gap is None; where both sides
    have one, what only the left has comes first."""
    best = [[0] * (len(right) + 1) for _ in range(len(left) + 1)]
    for i in reversed(range(len(left))):
        for j in reversed(range(len(right))):
            same = left[i] == right[j]
            best[i][j] = best[i + 1][j + 1] + 1 if same else max(best[i + 1][j], best[i][j + 1])
    out: list[tuple[int | None, int | None]] = []
    i = j = 0
    while i < len(left) or j < len(right):
        if i < len(left) and j < len(right) and left[i] == right[j]:
            out.append((i, j))
            i, j = i + 1, j + 1
        elif i < len(left) and (j == len(right) or best[i + 1][j] >= best[i][j + 1]):
            out.append((i, None))
            i += 1
        else:
            out.append((None, j))
            j += 1
    return out


def steps(left: Story, right: Story) -> list[StepRow]:
    """The steps of two stories. What a step is called, and in which lane it happens, makes it the same step."""
    pairs = align([_key(step) for step in left.steps], [_key(step) for step in right.steps])

    def row(i: int | None, j: int | None) -> StepRow:
        a = None if i is None else left.steps[i]
        b = None if j is None else right.steps[j]
        return StepRow(a, b, _mark(a, b) if a is None or b is None or _names(a) == _names(b) else CHANGED)

    return list(starmap(row, pairs))


def frames(left: Step, right: Step) -> list[FrameRow]:
    """The stacks of two steps, innermost frame first."""

    def row(i: int | None, j: int | None) -> FrameRow:
        a = None if i is None else left.stack[i]
        b = None if j is None else right.stack[j]
        return FrameRow(a, b, _mark(a, b))

    return list(starmap(row, align(_names(left), _names(right))))


def _key(step: Step) -> tuple[str, str, str | None, str]:
    return step.kind, step.at, step.to, step.label


def _names(step: Step) -> tuple[str, ...]:
    return tuple(frame.name for frame in step.stack)


def _mark(left: object, right: object) -> str:
    return NEW if left is None else GONE if right is None else SAME
