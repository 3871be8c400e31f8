"""Probes on every modelled kernel function: what kprobes and the function graph tracer are to a real kernel."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType

from kvmmodel.kvm.names import FUNCTIONS, KernelFunction, walk


@dataclass(slots=True)
class Call:
    """A function that was entered, and what it called."""

    function: KernelFunction
    calls: list[Call] = field(default_factory=list)


@dataclass(slots=True)
class Probe:
    """Stacks at each entry (innermost first, distinct), and the trees of calls below ``root`` if one is named."""

    root: str | None = None
    stacks: set[tuple[KernelFunction, ...]] = field(default_factory=set)
    graphs: list[Call] = field(default_factory=list)
    open: list[tuple[FrameType, Call]] = field(default_factory=list)

    def __call__(self, frame: FrameType, what: str, _: object) -> None:
        function = FUNCTIONS.get(frame.f_code)
        if function is None:
            return
        if what == "call":
            if self.root is None:
                self.stacks.add(walk(frame))
                return
            call = Call(function)
            if self.open:
                self.open[-1][1].calls.append(call)
            elif function.name == self.root:
                self.graphs.append(call)
            else:
                return
            self.open.append((frame, call))
        elif what == "return" and self.open and self.open[-1][0] is frame:
            self.open.pop()


@contextmanager
def probe(root: str | None = None) -> Iterator[Probe]:
    """Probe everything that runs inside the with statement, in this thread. Slow: for tools, not for long runs."""
    made = Probe(root)
    before = sys.getprofile()
    sys.setprofile(made)
    try:
        yield made
    finally:
        sys.setprofile(before)
