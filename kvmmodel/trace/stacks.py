"""Kernel stacks of a run under the release's names, and counted as bpftrace prints them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from functools import cache

from kvmmodel.facts.functions import FUNCTIONS
from kvmmodel.facts.releases import Kernel, version
from kvmmodel.kvm.names import KernelFunction, name_in
from kvmmodel.machine.record import Record
from kvmmodel.trace.story import StackFrame

FAST_PATHS = ("handle_fastpath_set_msr_irqoff", "__handle_fastpath_wrmsr")


def names(stack: Iterable[KernelFunction], kernel: Kernel) -> tuple[str, ...]:
    """Function names innermost first, without those that this release does not have."""
    return tuple(name for function in stack if (name := name_in(function, kernel)) is not None)


def frames(stack: Iterable[KernelFunction], kernel: Kernel) -> tuple[StackFrame, ...]:
    """The same with modules, and marked where no recording of the nearest build shows the frame."""
    return tuple(
        StackFrame(name, function.module, folded(name, kernel))
        for function in stack
        if (name := name_in(function, kernel)) is not None
    )


@cache
def folded(name: str, kernel: Kernel) -> bool:
    """Whether the nearest recorded build, this or the next older one if there is, never shows the function.

    Nothing is known of files that its recordings never come to, as those of the 8259 and the PIT: False.
    """
    known = FUNCTIONS.get(name)
    build = nearest_build(kernel)
    return known is None or (build not in (*known.seen, *known.graph) and known.file in files(build))


@cache
def files(build: str) -> frozenset[str]:
    """The source files of which a recorded build shows a function."""
    return frozenset(known.file for known in FUNCTIONS.values() if build in (*known.seen, *known.graph))


@cache
def nearest_build(kernel: Kernel) -> str:
    """The recorded build that tells most about a release: the newest that is not newer, else the oldest.

    Of those recorded with the fast path, thus with NRIPS: the others lack its frames, whatever the compiler did.
    """
    builds = sorted({build for name in FAST_PATHS for build in FUNCTIONS[name].seen}, key=version)
    return ([b for b in builds if version(b) <= kernel.point] or builds[:1])[-1]


def histogram(records: Iterable[Record], kernel: Kernel) -> str:
    """Distinct stacks with their counts, rarest first, in the form of bpftrace's maps."""
    counts = Counter(names(record.stack, kernel) for record in records if record.stack)
    blocks = sorted(counts.items(), key=lambda item: (item[1], item[0]))
    return "".join("@[\n" + "".join(f"    {frame}\n" for frame in stack) + f"]: {count}\n" for stack, count in blocks)
