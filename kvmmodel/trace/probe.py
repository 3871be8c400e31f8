"""Probes on every modelled kernel function: what kprobes and the function graph tracer are to a real kernel.

Slow: for tools, not for long runs. Python's profiler calls back at each entry and return, also of generators.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from types import FrameType

from kvmmodel.kvm.names import BOUNDARIES, FUNCTIONS, KernelFunction


@dataclass(slots=True)
class Call:
    """A function that was entered, and what it called."""

    function: KernelFunction
    calls: list[Call] = field(default_factory=list)


@dataclass(slots=True)
class Node:
    """A distinct stack: the one above it, and the function that was entered last."""

    outer: Node | None = None
    function: KernelFunction | None = None
    inner: dict[KernelFunction, Node] = field(default_factory=dict)


@dataclass(slots=True)
class Probe:
    """Stacks at each entry (innermost first, distinct), or the trees of calls below ``root`` if one is named."""

    root: str | None = None
    graphs: list[Call] = field(default_factory=list)
    top: Node = field(default_factory=Node)
    at: list[Node] = field(default_factory=list)  # the stack of each function that is entered and not left
    open: list[tuple[FrameType, Call]] = field(default_factory=list)
    functions: dict[int, KernelFunction] = field(default_factory=lambda: {id(c): f for c, f in FUNCTIONS.items()})
    boundaries: frozenset[int] = field(default_factory=lambda: frozenset(map(id, BOUNDARIES)))

    @property
    def stacks(self) -> set[tuple[KernelFunction, ...]]:
        found, left = set(), list(self.top.inner.values())
        while left:
            node = left.pop()
            found.add(_path(node))
            left += node.inner.values()
        return found


def _path(node: Node | None) -> tuple[KernelFunction, ...]:
    path = []
    while node is not None and node.function is not None:
        path.append(node.function)
        node = node.outer
    return tuple(path)


def _note_stacks(seen: Probe, frame: FrameType, what: str, _: object) -> None:
    """A stack is its outer one's node and one function more, so nobody walks the frames."""
    code = id(frame.f_code)  # a code object's own hash is slow
    function = seen.functions.get(code)
    if function is None and code not in seen.boundaries:
        return
    if what == "call":
        if function is None:  # a kernel stack ends here
            seen.at.append(seen.top)
            return
        outer = seen.at[-1] if seen.at else seen.top
        node = outer.inner.get(function)
        if node is None:
            node = outer.inner[function] = Node(outer, function)
        seen.at.append(node)
    elif what == "return" and seen.at:
        seen.at.pop()


def _note_graph(seen: Probe, frame: FrameType, what: str, _: object) -> None:
    function = seen.functions.get(id(frame.f_code))
    if function is None:
        return
    if what == "call":
        call = Call(function)
        if seen.open:
            seen.open[-1][1].calls.append(call)
        elif function.name == seen.root:
            seen.graphs.append(call)
        else:
            return
        seen.open.append((frame, call))
    elif what == "return" and seen.open and seen.open[-1][0] is frame:
        seen.open.pop()


@contextmanager
def probe(root: str | None = None) -> Iterator[Probe]:
    """Probe everything that runs inside the with statement, in this thread.

    Nothing is collected meanwhile: a vCPU's generators that are thrown away half done run once more, to be closed, and
    would leave stacks that no kernel ever had.
    """
    made = Probe(root)
    note = _note_stacks if root is None else _note_graph
    before, collecting = sys.getprofile(), gc.isenabled()
    gc.disable()
    sys.setprofile(partial(note, made))
    try:
        yield made
    finally:
        sys.setprofile(before)
        if collecting:
            gc.enable()
