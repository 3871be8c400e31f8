"""Probes on every modelled kernel function: what kprobes and the function graph tracer are to a real kernel.

Slow: for tools, not for long runs. Python calls back at each entry and return, also of generators: from 3.12 on for the
modelled functions alone (sys.monitoring), before for every function (its profiler, three times as slow).
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from types import CodeType, FrameType
from typing import Any

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
    new: list[Node] = field(default_factory=list)  # in the order in which they first came; whoever reads may empty it
    at: list[Node] = field(default_factory=list)  # the stack of each function that is entered and not left
    open: list[tuple[FrameType, Call]] = field(default_factory=list)
    functions: dict[int, KernelFunction] = field(default_factory=lambda: {id(c): f for c, f in FUNCTIONS.items()})
    boundaries: frozenset[int] = field(default_factory=lambda: frozenset(map(id, BOUNDARIES)))

    @property
    def stacks(self) -> set[tuple[KernelFunction, ...]]:
        found, left = set(), list(self.top.inner.values())
        while left:
            node = left.pop()
            found.add(path(node))
            left += node.inner.values()
        return found


def path(node: Node | None) -> tuple[KernelFunction, ...]:
    """A node's stack, innermost first."""
    path = []
    while node is not None and node.function is not None:
        path.append(node.function)
        node = node.outer
    return tuple(path)


def _entered(seen: Probe, code: CodeType, *_: object) -> None:
    """A stack is its outer one's node and one function more, so nobody walks the frames."""
    function = seen.functions.get(id(code))  # a code object's own hash is slow
    if function is None:  # a kernel stack ends here
        seen.at.append(seen.top)
        return
    outer = seen.at[-1] if seen.at else seen.top
    node = outer.inner.get(function)
    if node is None:
        node = outer.inner[function] = Node(outer, function)
        seen.new.append(node)
    seen.at.append(node)


def _left(seen: Probe, *_: object) -> None:
    if seen.at:
        seen.at.pop()


def _left_by_exception(seen: Probe, code: CodeType, *_: object) -> None:
    """This comes for every function, not only for those that are watched."""
    if id(code) in seen.functions or id(code) in seen.boundaries:
        _left(seen)


def _entered_by_exception(seen: Probe, code: CodeType, *_: object) -> None:
    if id(code) in seen.functions or id(code) in seen.boundaries:
        _entered(seen, code)


def _note_stacks(seen: Probe, frame: FrameType, what: str, _: object) -> None:
    code = frame.f_code
    if id(code) in seen.functions or id(code) in seen.boundaries:
        if what == "call":
            _entered(seen, code)
        elif what == "return":
            _left(seen)


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
def probe(root: str | None = None, *, go_on: Probe | None = None) -> Iterator[Probe]:
    """Probe everything that runs inside the with statement, in this thread. ``go_on``: add to that probe's stacks.

    Nothing is collected meanwhile: a vCPU's generators that are thrown away half done run once more, to be closed, and
    would leave stacks that no kernel ever had.
    """
    made = Probe(root) if go_on is None else go_on
    made.at.clear()
    collecting = gc.isenabled()
    gc.disable()
    stop = _profile(partial(_note_graph, made)) if root is not None else _watch_stacks(made)
    try:
        yield made
    finally:
        stop()
        if collecting:
            gc.enable()


def _profile(note: Callable[[FrameType, str, Any], object]) -> Callable[[], None]:
    before = sys.getprofile()
    sys.setprofile(note)
    return partial(sys.setprofile, before)


def _watch_stacks(seen: Probe) -> Callable[[], None]:
    """Begin; what is returned ends it."""
    tool = _free_tool()
    return _profile(partial(_note_stacks, seen)) if tool is None else _monitor(seen, tool)


def _free_tool() -> int | None:
    monitoring: Any = getattr(sys, "monitoring", None)
    if monitoring is None:
        return None
    return next((number for number in (3, 4) if monitoring.get_tool(number) is None), None)


def _monitor(seen: Probe, tool: int) -> Callable[[], None]:
    monitoring: Any = sys.monitoring  # type: ignore[attr-defined,unused-ignore]
    on = monitoring.events
    enter, leave = on.PY_START | on.PY_RESUME, on.PY_RETURN | on.PY_YIELD
    calls: dict[int, Callable[..., None]] = {
        on.PY_START: _entered, on.PY_RESUME: _entered, on.PY_THROW: _entered_by_exception,
        on.PY_RETURN: _left, on.PY_YIELD: _left, on.PY_UNWIND: _left_by_exception,
    }  # fmt: skip
    codes = (*FUNCTIONS, *BOUNDARIES)
    monitoring.use_tool_id(tool, "kvmmodel probe")
    for event, call in calls.items():
        monitoring.register_callback(tool, event, partial(call, seen))
    for code in codes:
        monitoring.set_local_events(tool, code, enter | leave)
    monitoring.set_events(tool, on.PY_UNWIND | on.PY_THROW)  # these two are of all functions or of none

    def stop() -> None:
        monitoring.set_events(tool, 0)
        for code in codes:
            monitoring.set_local_events(tool, code, 0)
        for event in calls:
            monitoring.register_callback(tool, event, None)
        monitoring.free_tool_id(tool)

    return stop
