"""What the model emits on one kernel: stacks at the entry of every modelled function, one run after the other.

A run is a built-in scenario on a host. The order is fixed, the longest programs first, as they show most; each on hosts
that differ in what a stack shows. So whatever was run before, the same run is the first to emit a stack.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cache, partial

from kvmmodel.facts.releases import kernel as release_of
from kvmmodel.kvm.names import FUNCTIONS, KernelFunction, name_in
from kvmmodel.machine.host import Host
from kvmmodel.scenarios.run import built_in, names, run
from kvmmodel.trace.probe import Node, Probe, path, probe

# (CPU, avic). One processor that saves the next RIP and one that does not: without it there is no fast path.
AVIC_OFF: tuple[tuple[str, bool], ...] = (("zen4", False), ("tcg", False))
# One with x2AVIC, and one without: there x2APIC guests have the hybrid, and a memory slot goes.
AVIC_ON: tuple[tuple[str, bool], ...] = (("zen4", True), ("zen2", True))


@dataclass(frozen=True, slots=True)
class Run:
    """A built-in scenario on a host. ``host`` makes it, when it is first run: most runs are never asked for."""

    scenario: str
    host: Callable[[], Host]

    def go(self) -> object:
        """Run it. Whoever probes keeps what is returned until the probe ends."""
        host = self.host()
        hangs = bool(host.params["avic"]) and "avic" not in host.processor.features
        limit = _lasts(host, self.scenario) if hangs else None
        return run(built_in(self.scenario), host, trace=False, limit_ns=limit)


@dataclass(slots=True)
class Emitted:
    """A distinct stack under its release's names, innermost first, and the run that was first to have it."""

    names: tuple[str, ...]
    node: Node
    run: Run

    def functions(self) -> tuple[KernelFunction, ...]:
        return path(self.node)


@dataclass(slots=True)
class Runs:
    """The runs on one kernel. ``stacks``: what the first ``done`` of them emitted, in the order in which it came."""

    kernel: str
    todo: tuple[Run, ...]
    done: int = 0
    stacks: list[Emitted] = field(default_factory=list)
    having: dict[str, list[int]] = field(default_factory=dict)  # by function, ascending
    _probe: Probe = field(default_factory=Probe)
    _names: dict[int, tuple[str, ...]] = field(default_factory=dict)
    _seen: set[tuple[str, ...]] = field(default_factory=set)

    @property
    def left(self) -> int:
        return len(self.todo) - self.done

    def more(self) -> Run:
        """Do the next run. IndexError if there is none."""
        one = self.todo[self.done]
        with probe(go_on=self._probe) as seen:
            kept = one.go()
        del kept
        self.done += 1
        release = release_of(self.kernel)
        for node in seen.new:
            outer = self._names.get(id(node.outer), ())
            name = name_in(node.function, release) if node.function is not None else None
            stack = self._names[id(node)] = outer if name is None else (name, *outer)
            if stack and stack not in self._seen:
                self._seen.add(stack)
                for function in set(stack):
                    self.having.setdefault(function, []).append(len(self.stacks))
                self.stacks.append(Emitted(stack, node, one))
        seen.new.clear()
        return one


@cache
def in_order() -> tuple[str, ...]:
    """The scenarios, those with the longest programs first: one that does most shows most."""

    def length(name: str) -> int:
        scenario = built_in(name)
        return sum(map(len, (*scenario.programs.values(), *scenario.handlers.values())))

    return tuple(sorted(names(), key=lambda name: (-length(name), name)))


@cache
def _host(cpu: str, kernel: str, avic: bool) -> Host:
    return Host(cpu, kernel, avic)


@cache
def runs_on(kernel: str) -> Runs:
    """All runs on a modelled release; what they emitted is kept for the next question."""
    hosts = [partial(_host, cpu, kernel, avic) for cpu, avic in AVIC_OFF + AVIC_ON]
    return Runs(kernel, tuple(Run(name, host) for name in in_order() for host in hosts))


def runs_of(host: Host) -> Runs:
    """All runs on one host: a recording's own."""
    return Runs(host.kernel.release, tuple(Run(name, lambda: host) for name in in_order()))


@cache
def functions_of(kernel: str) -> frozenset[str]:
    """What a stack of the model can have in it at all, on that release."""
    release = release_of(kernel)
    return frozenset(name for one in FUNCTIONS.values() if (name := name_in(one, release)) is not None)


def emitted(host: Host, scenarios: Iterable[str]) -> frozenset[tuple[str, ...]]:
    """The distinct stacks of some scenarios on one host, innermost first, under its release's names."""
    made = Runs(host.kernel.release, tuple(Run(name, lambda: host) for name in scenarios))
    while made.left:
        made.more()
    return frozenset(one.names for one in made.stacks)


def _lasts(host: Host, scenario: str) -> int:
    """How long a scenario takes (ns) where interrupts arrive: long enough for a guest that waits for one in vain."""
    works = Host(host.processor, host.kernel.release, avic=False)
    return run(built_in(scenario), works, trace=False).machine.now
