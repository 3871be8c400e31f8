"""Kernel names: which Python functions stand for which kernel functions, and what a release calls them.

The decorator returns the function itself, so a call costs nothing more. It registers the function's code object; only
when somebody traces are frames looked up.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from types import CodeType, FrameType
from typing import TypeVar

from kvmmodel.facts.releases import Kernel, version

F = TypeVar("F", bound=Callable[..., object])


@dataclass(frozen=True, slots=True)
class KernelFunction:
    """A kernel function. ``names``: (series, name) ascending; None: it does not exist from that series on."""

    name: str
    file: str
    names: tuple[tuple[str, str | None], ...]

    @property
    def module(self) -> str:
        """The module that the function is linked into: kvm, kvm_amd, irqbypass or kernel."""
        if self.file.startswith("arch/x86/kvm/svm/"):
            return "kvm_amd"
        if self.file == "virt/lib/irqbypass.c":
            return "irqbypass"
        return "kvm" if self.file.startswith(("arch/x86/kvm/", "virt/kvm/", "include/linux/kvm")) else "kernel"


FUNCTIONS: dict[CodeType, KernelFunction] = {}
BOUNDARIES: set[CodeType] = set()


def kernel(
    file: str, *, since: str | None = None, until: str | None = None, was: Mapping[str, str | None] | None = None
) -> Callable[[F], F]:
    """Mark a function as the model of a kernel function of the same name in ``file``.

    ``since`` and ``until`` are the series that have it (in others its frame is not shown); ``was`` gives other names,
    each with the series from which it holds, None where there is no such function.
    """

    def register(function: F) -> F:
        name: str = function.__name__
        names: dict[str, str | None] = dict(was or {})
        if since:
            names = {"0.0": None, since: name} | names
        if until:
            names[until] = None
        code: CodeType = function.__code__
        FUNCTIONS[code] = KernelFunction(name, file, tuple(sorted(names.items(), key=lambda n: version(n[0]))))
        return function

    return register


def boundary(function: F) -> F:
    """Mark a function of the machine at which a kernel stack ends, though Python's goes on."""
    BOUNDARIES.add(function.__code__)
    return function


@cache
def name_in(function: KernelFunction, kernel: Kernel) -> str | None:
    """What the release calls the function, None if it has no such function."""
    name: str | None = function.name
    for since, other in function.names:
        if version(kernel.series) >= version(since):
            name = other
    return name


def walk(frame: FrameType | None) -> tuple[KernelFunction, ...]:
    """The kernel functions on a Python stack, innermost first."""
    found = []
    while frame is not None and frame.f_code not in BOUNDARIES:
        function = FUNCTIONS.get(frame.f_code)
        if function is not None:
            found.append(function)
        frame = frame.f_back
    return tuple(found)


def here(depth: int = 1) -> tuple[KernelFunction, ...]:
    """The kernel stack of the caller."""
    return walk(sys._getframe(depth))
