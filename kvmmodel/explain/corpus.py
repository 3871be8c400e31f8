"""What the model emits: the kernel stacks of every built-in scenario, at the entry of every modelled function.

On which hosts: the one that the text tells of, if it has an own record of its module parameters; else on some that
differ in what a stack shows, with AVIC off, and with it on where the text has a stack that those did not emit.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence

from kvmmodel.explain.match import MATCHED, Corpus
from kvmmodel.explain.report import Report, explain
from kvmmodel.explain.system import System
from kvmmodel.facts import releases
from kvmmodel.machine.host import Host
from kvmmodel.scenarios.run import built_in, names, run
from kvmmodel.trace.probe import probe
from kvmmodel.trace.stacks import names as stack_names

# One processor that saves the next RIP and one that does not: without it there is no fast path.
AVIC_OFF: tuple[tuple[str, bool], ...] = (("zen4", False), ("tcg", False))
# One with x2AVIC, and one without: there x2APIC guests have the hybrid, and a memory slot goes.
AVIC_ON: tuple[tuple[str, bool], ...] = (("zen4", True), ("zen2", True))


def corpus(
    kernels: Iterable[str],
    scenarios: Iterable[str] | None = None,
    hosts: Sequence[tuple[str, bool]] = AVIC_OFF + AVIC_ON,
) -> Corpus:
    """Run scenarios (by default all that are built in) on these kernels and hosts (CPU, avic); the distinct stacks."""
    chosen = names() if scenarios is None else list(scenarios)
    return {
        kernel: frozenset().union(*(emitted(Host(cpu, kernel, avic), chosen) for cpu, avic in hosts))
        for kernel in kernels
    }


def corpus_for(
    kernel: str | None,
    system: System | None = None,
    *,
    hosts: Sequence[tuple[str, bool]] = AVIC_OFF + AVIC_ON,
    tell: Callable[[str], None] = lambda text: None,
) -> Corpus:
    """The corpus to compare a recording of ``kernel`` with: that release if it is modelled, else every series.

    ``system``: what the recording tells of its host, which then is the only one.
    """
    try:
        wanted: tuple[str, ...] = (releases.kernel(kernel).release,) if kernel is not None else releases.series()
    except ValueError:
        wanted = releases.series()
    found: dict[str, frozenset[tuple[str, ...]]] = {}
    for number, name in enumerate(wanted, 1):
        tell(f"running the scenarios on kernel {name:8} {number}/{len(wanted)}")
        if system is not None and system.processor.features:
            found[name] = emitted(system.host(name), names())
        else:
            found |= corpus([name], hosts=hosts)
    return found


def explain_by_runs(text: str, kernel: str | None, system: System | None = None, progress: bool = False) -> Report:
    """Explain a text by the model's runs. ExplainError if there is nothing in it to explain."""

    def tell(line: str) -> None:
        if progress:
            print(f"\r{line:60}", end="\r" * (not line), file=sys.stderr, flush=True)

    ran: list[Corpus] = []

    def first() -> Corpus:
        ran.append(corpus_for(kernel, system, hosts=AVIC_OFF, tell=tell))
        return ran[0]

    report = explain(text, first, kernel)
    if system is None and not _all_matched(report):
        more = corpus_for(kernel, hosts=AVIC_ON, tell=tell)
        report = explain(text, {name: ran[0][name] | more[name] for name in more}, kernel)
    tell("")
    return report


def _all_matched(report: Report) -> bool:
    stacks, graphs = report.verdicts(), [graph.verdicts for graph in report.graphs]
    return all(sum(found.values()) == found[MATCHED] for found in (stacks, *graphs))


def emitted(host: Host, scenarios: Iterable[str]) -> frozenset[tuple[str, ...]]:
    """The distinct stacks of some scenarios on one host, innermost first, under its release's names."""
    with probe() as seen:
        kept = [run(built_in(scenario), host, trace=False) for scenario in scenarios]
    del kept  # kept until here, as the probe wants it
    return frozenset(stack_names(stack, host.kernel) for stack in seen.stacks)
