"""Explain a text by the model's runs, as many as it takes; and all that some runs emit, for who wants it whole."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence

from kvmmodel.explain.match import Corpus
from kvmmodel.explain.report import Report, answer, ask
from kvmmodel.explain.runs import AVIC_OFF, AVIC_ON, emitted
from kvmmodel.explain.search import Search
from kvmmodel.explain.system import System
from kvmmodel.machine.host import Host
from kvmmodel.scenarios.run import names


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


def explain_by_runs(text: str, kernel: str | None, system: System | None = None, progress: bool = False) -> Report:
    """Explain a text by as many runs as it takes. ExplainError if there is nothing in it to explain."""
    asked = ask(text, kernel)
    search = Search(asked.wanted(), asked.kernel, system)
    while not search.settled:
        if progress:
            _tell(f"run {search.done + 1} of at most {search.done + search.left}, kernel {search.next.kernel}")
        search.step()
    if progress:
        _tell("")
    return answer(asked, search.match, search.kernels)


def _tell(line: str) -> None:
    print(f"\r{line:60}", end="\r" * (not line), file=sys.stderr, flush=True)
