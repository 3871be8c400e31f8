"""The explorer of the page "What is the IRQ window for?": a vector for a guest that can or cannot take it."""

from __future__ import annotations

from dataclasses import replace

from kvmmodel.machine.host import Host
from kvmmodel.scenarios.run import built_in, run
from kvmmodel.trace.steps import program_story
from kvmmodel.trace.story import BROKEN, Badge, Story
from kvmmodel.widgets.page import Html
from kvmmodel.widgets.stepper import Choice, Stepper, stepper
from kvmmodel.widgets.svg import el

FLAGS = (("clear", "clear"), ("set", "set"))
SECONDS = (("none", "none"), ("higher, 0x51", "higher"), ("lower, 0x31", "lower"))
FIRST = 0x41
VECTORS = {"none": (FIRST,), "higher": (FIRST, 0x51), "lower": (FIRST, 0x31)}


def window_story(flag: str, second: str, kernel: str = "6.12", broken: bool = False) -> Story:
    """One run: IF ``flag`` clear or set when 0x41 is asked for; a ``second`` vector none, higher or lower.

    ``broken``: svm_enable_irq_window does nothing.
    """
    scenario = built_in(f"window-{flag}-{second}")
    host = Host(kernel=kernel, avic=False)
    vm = run(scenario, host, broken=("no-window",) if broken else ())
    told = program_story(
        vm.trace.records,
        host.kernel,
        VECTORS[second],
        title=scenario.title,
        setup=f"Kernel {host.kernel.release}, {host.processor.title}, `avic=0`, x2APIC guest",
        badges=(BROKEN,) if broken else tuple(Badge(how, what) for how, what in scenario.known.items()),
        broken="KVM asks for no IRQ window" if broken else None,
    )
    return replace(told, verdict=_verdict(told, second)) if broken else told


def _verdict(told: Story, second: str) -> str:
    """What became of the vectors without the window."""
    irr = told.steps[-1].states[-1].irr
    lost = [f"`{vector:#x}`" for vector in VECTORS[second] if irr >> vector & 1]
    if not lost:
        return "Nothing lost. IF was set, so the vector went in at once and no window was needed."
    return (
        f"Lost: the guest runs on with IF set, and IRR still holds {' and '.join(lost)}. "
        "Another exit does not help by itself: somebody must request an event pass."
    )


def window_explorer(kernel: str = "6.12") -> Stepper:
    """The widget."""

    def build(flag: str, second: str, broken: bool) -> Story:
        return window_story(flag, second, kernel, broken)

    choices = (Choice("flag", "IF", FLAGS), Choice("second", "Second vector", SECONDS))
    return stepper(build, choices, break_it="ask for no IRQ window")


def window_costs(kernel: str = "6.12") -> Html:
    """For each case: windows asked for, VINTR exits, all exits, and the order of the handlers. Zero is printed as 0."""
    names = ("IF", "second vector", "windows", "VINTR exits", "all exits", "handlers, in order")
    rows = []
    for flag, _ in FLAGS:
        for label, second in SECONDS:
            steps = window_story(flag, second, kernel).steps
            exits = [step.label for step in steps if step.kind == "exit"]
            vintr = sum("VINTR" in exit for exit in exits)
            ran = " ".join(step.label.split("`")[1] for step in steps if step.kind == "handler")
            counts = (sum(step.kind == "window" for step in steps), vintr, len(exits))
            cells = [el("td", text) for text in (label, *map(str, counts), ran)]
            rows.append(el("tr", el("th", flag, scope="row"), *cells))
    head = el("tr", *(el("th", name, scope="col") for name in names))
    return Html(el("table", el("thead", head), el("tbody", *rows), class_="km-table"))
