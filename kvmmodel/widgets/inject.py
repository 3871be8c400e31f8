"""The explorer of the page "How is an interrupt injected at all?": a source, a target's state, and every step."""

from __future__ import annotations

from kvmmodel.machine.host import Host
from kvmmodel.scenarios.run import built_in, run
from kvmmodel.trace.steps import story
from kvmmodel.trace.story import BROKEN, Badge, Story
from kvmmodel.widgets.page import Html
from kvmmodel.widgets.stepper import Choice, Stepper, stepper
from kvmmodel.widgets.svg import el

SOURCES = (("IPI", "ipi"), ("timer", "timer"), ("MSI", "msi"))
TARGETS = (("in guest", "in-guest"), ("halted", "halted"), ("in host", "in-host"), ("preempted", "preempted"))
VECTORS = {"ipi": 0x43, "timer": 0xE1, "msi": 0x63}
TELL_NOBODY = ("no-request", "no-kick")
LIMIT_NS = 100_000  # a broken run may never come to rest


def inject_story(source: str, target: str, kernel: str = "6.12", broken: bool = False) -> Story:
    """One run: ``source`` ipi, timer or msi; ``target`` in-guest, halted, in-host or preempted."""
    scenario = built_in(f"{source}-{target}")
    host = Host(kernel=kernel, avic=False)
    vm = run(scenario, host, broken=TELL_NOBODY if broken else (), limit_ns=LIMIT_NS)
    return story(
        vm.trace.records,
        host.kernel,
        source,
        VECTORS[source],
        len(vm.vcpus) - 1,
        title=scenario.title,
        setup=f"Kernel {host.kernel.release}, {host.processor.title}, `avic=0`, x2APIC guest",
        badges=(BROKEN,) if broken else tuple(Badge(how, what) for how, what in scenario.known.items()),
        broken="IRR is set, and nobody is told" if broken else None,
    )


def inject_explorer(kernel: str = "6.12") -> Stepper:
    """The widget."""

    def build(source: str, target: str, broken: bool) -> Story:
        return inject_story(source, target, kernel, broken)

    choices = (Choice("source", "Source", SOURCES), Choice("target", "Target", TARGETS, "halted"))
    return stepper(build, choices, break_it="set IRR, tell nobody")


def inject_costs(source: str = "ipi", kernel: str = "6.12") -> Html:
    """What one interrupt takes from its cause to its EOI, for each state of the target. Zero is printed as 0."""
    counted = {"exits": "exit", "host IPIs": "kick", "wake-ups": "wake", "handlers": "handler"}
    head = el("tr", *(el("th", h, scope="col") for h in ("target", *counted)))
    rows = []
    for label, target in TARGETS:
        kinds = [step.kind for step in inject_story(source, target, kernel).steps]
        cells = [el("td", str(kinds.count(kind))) for kind in counted.values()]
        rows.append(el("tr", el("th", label, scope="row"), *cells))
    return Html(el("table", el("thead", head), el("tbody", *rows), class_="km-table"))
