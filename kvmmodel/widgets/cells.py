"""What the pages' cells call: runs of scenarios as text, tables and evidence, a line or two each."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

from kvmmodel.explain import find
from kvmmodel.explain.match import is_subsequence
from kvmmodel.explain.normalise import normalise
from kvmmodel.explain.text import Stack
from kvmmodel.facts.functions import FUNCTIONS
from kvmmodel.kvm.names import KernelFunction
from kvmmodel.machine.host import Host
from kvmmodel.scenarios.run import built_in, run
from kvmmodel.trace import graph, stacks
from kvmmodel.trace.probe import probe
from kvmmodel.trace.text import tracepoint
from kvmmodel.widgets.evidence import draw
from kvmmodel.widgets.page import Html
from kvmmodel.widgets.parts import styled


class Text(str):
    """Text that a notebook shows as it is."""

    def __repr__(self) -> str:
        return str(self).rstrip("\n")


def tracepoints(
    scenario: str, kernel: str = "6.12", only: Sequence[str] = (), cpu: str = "zen4", avic: bool = False
) -> Text:
    """The run's tracepoints in the kernel's words, in order of time, each after its thread; ``only`` keeps those."""
    host = Host(cpu, kernel, avic=avic)
    records = sorted(run(built_in(scenario), host).trace.records, key=lambda record: record.t)
    kept = [r for r in records if (not only or r.event.tracepoint in only) and r.event.tracepoint]
    return Text("\n".join(f"{r.task}  {r.event.tracepoint}: {tracepoint(r.event, host.kernel)}" for r in kept))


def function_graph(scenario: str, kernel: str = "6.12", function: str = "svm_complete_interrupt_delivery") -> Text:
    """The function's graph in the run, as the function graph tracer draws it, without durations."""
    host = Host(kernel=kernel, avic=False)
    with probe(function) as seen:
        run(built_in(scenario), host, trace=False)
    return Text(graph.render(seen.graphs, host.kernel))


def evidence(
    recorded: str,
    scenario: str,
    kernel: str = "6.12",
    *,
    caption: str,
    cpu: str = "zen4",
    avic: bool = False,
    force: bool = False,
) -> Html:
    """A recorded stack beside the model's own, from a run of the scenario. ``force``: force_avic=1, too.

    ValueError if the text has no stack, or the run never has one that fits.
    """
    stack = next((found for found in find(recorded) if isinstance(found, Stack)), None)
    if stack is None:
        raise ValueError("no call stack in the text: paste one as bpftrace or ftrace prints it")
    parts = normalise(stack.frames)
    release = Host(kernel=kernel, avic=False).kernel
    wanted = [part.name for part in parts if part.kvm]
    fitting = [
        s for s in _emitted(scenario, kernel, cpu, avic, force) if is_subsequence(wanted, stacks.names(s, release))
    ]
    if not fitting:
        raise ValueError(f"no stack of {scenario} on {kernel} has these frames in this order")
    best = min(fitting, key=lambda s: (stacks.names(s, release)[0] != wanted[0], len(s)))
    outside = {name for name, f in FUNCTIONS.items() if not f.is_kvm}
    panel = draw(
        [part.name for part in parts],
        stacks.frames(best, release),
        caption,
        model_caption=f"kernel {release.release}, scenario `{scenario}`{', avic=Y' * avic}{', forced' * force}",
        outside=outside,
    )
    return Html(styled(panel))


@cache
def _emitted(
    scenario: str, kernel: str, cpu: str, avic: bool = False, force: bool = False
) -> tuple[tuple[KernelFunction, ...], ...]:
    """The distinct stacks of a run, in a fixed order."""
    host = Host(cpu, kernel, avic, force_avic=True) if force else Host(cpu, kernel, avic)
    with probe() as seen:
        run(built_in(scenario), host, trace=False)
    return tuple(sorted(seen.stacks, key=lambda stack: stacks.names(stack, host.kernel)))


def model_stack(scenario: str, function: str, kernel: str = "6.12", *, under: str = "", avic: bool = False) -> Text:
    """The model's own stack of a run in which the function is innermost, in bpftrace's form; ``under`` is on it, too.

    ValueError if the run never has one.
    """
    release = Host(kernel=kernel, avic=False).kernel
    found = [stacks.names(stack, release) for stack in _emitted(scenario, kernel, "zen4", avic)]
    fitting = [names for names in found if names and names[0] == function and (not under or under in names)]
    if not fitting:
        raise ValueError(f"no stack of {scenario} on {kernel} has {function} innermost")
    shortest: tuple[str, ...] = min(fitting, key=len)
    return Text("\n".join(shortest))
