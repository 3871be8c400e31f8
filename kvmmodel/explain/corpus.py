"""What the model emits: the kernel stacks of every built-in scenario, at the entry of every modelled function."""

from __future__ import annotations

import sys
from collections.abc import Iterable

from kvmmodel.explain.match import Corpus
from kvmmodel.facts import releases
from kvmmodel.machine.host import Host
from kvmmodel.scenarios.run import built_in, names, run
from kvmmodel.trace.probe import probe
from kvmmodel.trace.stacks import names as stack_names

# One processor that saves the next RIP and one that does not: without it there is no fast path.
PROCESSORS = ("zen4", "tcg")


def corpus(kernels: Iterable[str], scenarios: Iterable[str] | None = None) -> Corpus:
    """Run scenarios (by default all that are built in) on these kernels and keep the distinct stacks."""
    chosen = names() if scenarios is None else list(scenarios)
    return {
        kernel: frozenset().union(*(emitted(Host(cpu=name, kernel=kernel, avic=False), chosen) for name in PROCESSORS))
        for kernel in kernels
    }


def corpus_for(kernel: str | None, progress: bool = False) -> Corpus:
    """The corpus to compare a recording of ``kernel`` with: that release if it is modelled, else every series."""
    try:
        wanted: tuple[str, ...] = (releases.kernel(kernel).release,) if kernel is not None else releases.series()
    except ValueError:
        wanted = releases.series()
    found: dict[str, frozenset[tuple[str, ...]]] = {}
    for number, name in enumerate(wanted, 1):
        if progress:
            print(
                f"\rrunning the scenarios on kernel {name:8} {number}/{len(wanted)}",
                end="",
                file=sys.stderr,
                flush=True,
            )
        found.update(corpus([name]))
    if progress:
        print(f"\r{'':60}\r", end="", file=sys.stderr, flush=True)
    return found


def emitted(host: Host, scenarios: Iterable[str]) -> frozenset[tuple[str, ...]]:
    """The distinct stacks of some scenarios on one host, innermost first, under its release's names."""
    with probe() as seen:
        kept = [run(built_in(scenario), host, trace=False) for scenario in scenarios]
    del kept  # kept until here, as the probe wants it
    return frozenset(stack_names(stack, host.kernel) for stack in seen.stacks)
