"""The explorer of the page "What is the CR8 intercept computed for?": what the TPR does while a vector waits."""

from __future__ import annotations

from dataclasses import dataclass, replace

from kvmmodel.machine.host import Host
from kvmmodel.scenarios.run import built_in, run
from kvmmodel.trace.steps import program_story
from kvmmodel.trace.story import BROKEN, Badge, Story
from kvmmodel.widgets.page import Html
from kvmmodel.widgets.stepper import Choice, Stepper, stepper
from kvmmodel.widgets.svg import el

KERNELS = (("6.12.95", "6.12.95"), ("7.3.4", "7.3.4"))
TPRS = (
    ("below the vector", "above"),
    ("masks it", "held"),
    ("raised later", "raised"),
    ("lowered in a handler", "handler"),
)


@dataclass(frozen=True, slots=True)
class Case:
    """The vectors that a scenario's story follows, and the instruction that it begins with."""

    vectors: tuple[int, ...]
    since: str = ""


CASES = {
    "above": Case((0x51,)),
    "held": Case((0x51,)),
    "raised": Case((0x51,), "WRMSR 0x808"),
    "handler": Case((0x61, 0x41), "WRMSR 0x83f = 0x41"),
}
NEEDLESS = {
    "above": "Nothing lost. The TPR never held `0x51` back, so KVM had no CR8 write to wait for.",
    "raised": "Nothing lost. An IRQ window was asked for before the TPR rose, and its exit found `0x51`.",
    "handler": "Nothing lost. It was `0x61` in service that held `0x41` back, and its EOI is an exit.",
}


def cr8_story(tpr: str, kernel: str = "6.12.95", broken: bool = False) -> Story:
    """One run: ``tpr`` above, held, raised or handler; ``broken``: KVM never intercepts CR8 writes."""
    scenario, case = built_in(f"cr8-{tpr}"), CASES[tpr]
    host = Host(kernel=kernel, avic=False)
    vm = run(scenario, host, broken=("no-cr8-intercept",) if broken else ())
    told = program_story(
        vm.trace.records,
        host.kernel,
        case.vectors,
        title=scenario.title,
        setup=f"Kernel {host.kernel.release}, {host.processor.title}, `avic=0`, x2APIC guest",
        since=case.since,
        badges=(BROKEN,) if broken else tuple(Badge(how, what) for how, what in scenario.known.items()),
        broken="CR8 writes are never intercepted" if broken else None,
    )
    return replace(told, verdict=_verdict(told, tpr)) if broken else told


def _verdict(told: Story, tpr: str) -> str:
    """What became of the vector without the intercept."""
    irr = told.steps[-1].states[-1].irr
    late = [f"`{vector:#x}`" for vector in CASES[tpr].vectors if irr >> vector & 1]
    if not late:
        return NEEDLESS[tpr]
    return (
        f"Late: CR8 is 0, but IRR {' '.join(late)} waits and KVM's TPR is still `{told.steps[-1].states[-1].tpr:#x}`. "
        "Only the next exit, whatever its reason, brings the new TPR to KVM."
    )


def cr8_explorer(kernel: str = "6.12.95") -> Stepper:
    """The widget."""
    choices = (Choice("tpr", "The TPR", TPRS, "held"), Choice("kernel", "Kernel", KERNELS, kernel))
    return stepper(cr8_story, choices, break_it="never intercept CR8 writes")


def cr8_costs() -> Html:
    """For each case and kernel: CR8 writes, how many of them exit, and the exits in all. Zero is printed as 0."""
    head = el("tr", *(el("th", h, scope="col") for h in ("TPR", "kernel", "CR8 writes", "of these exit", "all exits")))
    rows = []
    for label, tpr in TPRS:
        for _, kernel in KERNELS:
            steps = cr8_story(tpr, kernel).steps
            exits = [step.label for step in steps if step.kind == "exit"]
            writes = sum(step.label.startswith("`MOV CR8") for step in steps)
            counts = (writes, sum("WRITE_CR8" in exit for exit in exits), len(exits))
            cells = [el("td", text) for text in (kernel, *map(str, counts))]
            rows.append(el("tr", el("th", label, scope="row"), *cells))
    return Html(el("table", el("thead", head), el("tbody", *rows), class_="km-table"))
