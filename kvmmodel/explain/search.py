"""Run the model until it is known which stacks of a text it takes, on which kernels, in which run.

Nothing is matched but by a run. Runs that cannot help are left out: a kernel without a function of the stack never
emits it, so it is not run for it; and a stack is settled on a kernel once a run has had it with all of its frames
outside KVM that the model has at all, as no other run can fit better.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from kvmmodel.explain.match import MATCHED, Match, is_subsequence, unmatched
from kvmmodel.explain.normalise import Part
from kvmmodel.explain.runs import Emitted, Runs, functions_of, runs_of, runs_on
from kvmmodel.explain.system import System
from kvmmodel.facts import releases


@dataclass(slots=True)
class _Look:
    """One stack on one kernel. ``reach``: its frames outside KVM that the model has. ``score``: how many of these the
    best fitting stack has, -1 if none fits. ``looked``: at so many of the kernel's stacks."""

    kvm: tuple[str, ...]
    reach: frozenset[str]
    best: Emitted | None = None
    score: int = -1
    looked: int = 0

    def at(self, runs: Runs) -> None:
        rarest = min((runs.having.get(name, []) for name in self.kvm), key=len)
        for number in rarest[bisect_left(rarest, self.looked) :]:
            stack = runs.stacks[number]
            common = len(self.reach.intersection(stack.names))
            if common > self.score and is_subsequence(self.kvm, stack.names):
                self.best, self.score = stack, common
        self.looked = len(runs.stacks)

    def settled(self, runs: Runs) -> bool:
        return self.score == len(self.reach) or (not runs.left and self.looked == len(runs.stacks))


class Search:
    """The search for some normalised stacks. ``step`` does one run; ``match`` says what is known by now."""

    def __init__(self, wanted: Iterable[tuple[Part, ...]], kernel: str | None, system: System | None = None):
        """``kernel``: the recording's, which then is the only one if it is modelled. ``system``: what the recording
        tells of its host, which then is the only one if it has a record of its features."""
        self._runs = {runs.kernel: runs for runs in _all_runs(kernel, system)}
        self._looks: dict[tuple[Part, ...], dict[str, _Look]] = {}
        for parts in wanted:
            if parts not in self._looks:
                self._looks[parts] = self._possible(parts)
        self._open: dict[str, list[tuple[tuple[Part, ...], _Look]]] = {name: [] for name in self._runs}
        for parts, looks in self._looks.items():
            for name, look in looks.items():
                self._open[name].append((parts, look))
        self.done = 0
        for runs in self._runs.values():
            self._look(runs)

    @property
    def kernels(self) -> tuple[str, ...]:
        """The releases compared with, oldest first."""
        return tuple(self._runs)

    @property
    def settled(self) -> bool:
        return not any(self._open.values())

    @property
    def open(self) -> frozenset[tuple[Part, ...]]:
        """The stacks of which another run may change what ``match`` says."""
        return frozenset(parts for looks in self._open.values() for parts, _ in looks)

    @property
    def left(self) -> int:
        """How many runs may still come."""
        return sum(self._runs[name].left for name, looks in self._open.items() if looks)

    @property
    def found(self) -> int:
        """How many stacks have been matched, counted on each kernel."""
        return sum(look.best is not None for looks in self._looks.values() for look in looks.values())

    @property
    def next(self) -> Runs:
        """Whose run is next: every kernel's first; then those of kernels that may have what none has. IndexError if
        the search is settled."""
        opened = [name for name, looks in self._open.items() if looks]
        wanting = [name for name in opened if any(self._best(parts) is None for parts, _ in self._open[name])]
        fresh = [name for name in opened if not self._runs[name].done]
        order = {name: number for number, name in enumerate(reversed(self._runs))}
        return self._runs[min(fresh or wanting or opened, key=lambda name: (self._runs[name].done, order[name]))]

    def step(self) -> None:
        """Do the next run. IndexError if the search is settled."""
        runs = self.next
        runs.more()
        self.done += 1
        self._look(runs)

    def match(self, parts: tuple[Part, ...]) -> Match:
        """As far as the search has come."""
        best = self._best(parts)
        if best is None:
            return unmatched(parts)
        kernel, look = best
        matched = tuple(name for name, one in self._looks[parts].items() if one.best is not None)
        names = look.best.names if look.best is not None else ()
        outside = tuple(part.name for part in parts if not part.kvm and part.name not in names)
        return Match(MATCHED, matched, (), outside, kernel, look.best)

    def _possible(self, parts: tuple[Part, ...]) -> dict[str, _Look]:
        """The kernels whose runs may have the stack: those that have all of its KVM functions."""
        kvm = tuple(part.name for part in parts if part.kvm)
        found = {}
        for name in self._runs if kvm else ():
            has = functions_of(name)
            if has.issuperset(kvm):
                found[name] = _Look(kvm, has.intersection(part.name for part in parts if not part.kvm))
        return found

    def _look(self, runs: Runs) -> None:
        looks = self._open[runs.kernel]
        for _, look in looks:
            look.at(runs)
        self._open[runs.kernel] = [(parts, look) for parts, look in looks if not look.settled(runs)]

    def _best(self, parts: tuple[Part, ...]) -> tuple[str, _Look] | None:
        """The kernel with the best fit, of equals the newest."""
        looks = [(name, look) for name, look in self._looks[parts].items() if look.best is not None]
        return max(reversed(looks), key=lambda pair: pair[1].score, default=None)


def _all_runs(kernel: str | None, system: System | None) -> Sequence[Runs]:
    wanted: tuple[str, ...] = releases.series()
    if kernel is not None:
        with suppress(ValueError):  # not modelled: none is nearer than the others
            wanted = (kernel if kernel in wanted else releases.kernel(kernel).release,)
    if system is not None and system.processor.features:
        return [runs_of(system.host(name)) for name in wanted]
    return [runs_on(name) for name in wanted]
