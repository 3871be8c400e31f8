"""The explorer of the page on level interrupts: who listens to the EOI of a pin, and what becomes of the line."""

from __future__ import annotations

from dataclasses import replace

from kvmmodel import events as ev
from kvmmodel.kvm.ioapic import RTE_LEVEL, RTE_REMOTE_IRR
from kvmmodel.machine.host import Host
from kvmmodel.machine.vm import Vm
from kvmmodel.scenarios.format import Scenario
from kvmmodel.scenarios.run import built_in, run
from kvmmodel.trace.line import line_story
from kvmmodel.trace.story import BROKEN, Badge, Story
from kvmmodel.widgets.page import Html
from kvmmodel.widgets.stepper import Choice, Stepper, stepper
from kvmmodel.widgets.svg import el

PIN, VECTORS = 20, (0x62, 0x72)
SOURCES = (
    ("one device", "one"),
    ("two devices", "shared"),
    ("resampling irqfd", "assigned"),
    ("edge-triggered", "edge"),
)
EOIS = (("by register", "register"), ("PV EOI enabled", "paravirtual"))
ENTRIES = (("stays", "stays"), ("new vector", "vector"), ("new vector, explicit EOI", "explicit"))


def level_run(
    source: str, eoi: str = "register", entry: str = "stays", kernel: str = "6.12", broken: bool = False
) -> Vm:
    """The run: a scenario of one pin, with PV EOI or without, whose first handler rewrites the ``entry`` or not.

    ``broken``: kvm_ioapic_send_eoi does nothing.
    """
    scenario = _variant(built_in(f"level-{source}"), source, eoi, entry)
    return run(scenario, Host(kernel=kernel, avic=False), broken=("no-ioapic-eoi",) if broken else ())


def _variant(scenario: Scenario, source: str, eoi: str, entry: str) -> Scenario:
    new = (0 if source == "edge" else RTE_LEVEL) | VECTORS[1]
    values = {"stays": (), "vector": (new,), "explicit": (new, 0x10000 | VECTORS[1], new)}[entry]
    first = scenario.idt[0]["0x62-0x72"]
    *body, end = scenario.handlers[first]
    lines = (*body, *(f"mmio_write 0xfec00010 {value:#x}" for value in values), end)
    enable = ("pv_eoi_on 0x5000",) if eoi == "paravirtual" else ()
    return replace(
        scenario,
        handlers=scenario.handlers | {first: lines},
        programs={0: (*enable, *scenario.programs[0])},
    )


def level_story(
    source: str, eoi: str = "register", entry: str = "stays", kernel: str = "6.12", broken: bool = False
) -> Story:
    """Tell such a run until the pin has sent its second message, or to the end if it never does."""
    vm = level_run(source, eoi, entry, kernel, broken)
    scenario, host = built_in(f"level-{source}"), vm.host
    known = dict(scenario.known)
    if eoi != "register" or entry != "stays":
        known.pop("recorded", None)  # no recording has these
    told = line_story(
        vm.trace.records,
        host.kernel,
        PIN,
        VECTORS,
        title=scenario.title,
        setup=f"Kernel {host.kernel.release}, {host.processor.title}, `avic=0`, x2APIC guest, pin {PIN}",
        accepted=2,
        paravirtual=eoi == "paravirtual",
        badges=(BROKEN,) if broken else tuple(Badge(how, what) for how, what in known.items()),
        broken="`kvm_ioapic_send_eoi` does nothing" if broken else None,
    )
    verdict = _verdict(told, entry)
    return replace(told, verdict=verdict, lost=verdict is not None and not broken) if verdict or broken else told


def _verdict(told: Story, entry: str) -> str | None:
    """What became of the line, where its second message never came; and what a broken run did not need."""
    if sum(step.kind == "msi" for step in told.steps) > 1:
        return None if told.broken is None else _spared(told, entry)
    pin = told.steps[-1].pin
    assert pin is not None
    if pin.entry & RTE_REMOTE_IRR:
        who = " Nobody has lowered source 1, whose owner waits to be asked." if 1 in pin.sources else ""
        return f"Dead line: remote IRR is set, and its EOI is over. The pin sends nothing any more.{who}"
    return (
        "Lost: the line is up and remote IRR is clear, but the pin has forgotten it. "
        "Unmasking asked the resampling irqfd's owner, whose device is quiet; source 0 was not asked."
    )


def _spared(told: Story, entry: str) -> str:
    if told.pin is not None and not told.pin.entry & RTE_LEVEL:
        return "Nothing lost. An edge pin sends at every rising edge, and needs nobody to listen to the EOI."
    return "Nothing lost. The guest wrote the entry as edge and back, which cleared remote IRR without any EOI."


def level_explorer(kernel: str = "6.12") -> Stepper:
    """The widget."""

    def build(source: str, eoi: str, entry: str, broken: bool) -> Story:
        return level_story(source, eoi, entry, kernel, broken)

    choices = (
        Choice("source", "Line", SOURCES),
        Choice("eoi", "EOI", EOIS),
        Choice("entry", "Entry meanwhile", ENTRIES),
    )
    return stepper(build, choices, break_it="do not pass the EOI on to the I/O APIC")


def level_counts(kernel: str = "6.12") -> Html:
    """For each line and each EOI, to the end of the run: messages, EOIs, who heard of them, exits. Zero is printed."""
    names = ("line", "EOI", "messages", "EOI exits", "passed on", "all exits")
    rows = []
    for label, source in SOURCES:
        for how, eoi in EOIS:
            found = [str(n) for n in counted(source, eoi, kernel)]
            rows.append(el("tr", el("th", label, scope="row"), *(el("td", text) for text in (how, *found))))
    head = el("tr", *(el("th", name, scope="col") for name in names))
    return Html(el("table", el("thead", head), el("tbody", *rows), class_="km-table km-six"))


def counted(source: str, eoi: str, kernel: str = "6.12") -> tuple[int, int, int, int]:
    """Messages of the pin; EOIs written to the register; EOIs that the pin heard of; all exits, from the first
    message on."""
    records = sorted(level_run(source, eoi, kernel=kernel).trace.records, key=lambda record: record.t)
    first = next(i for i, record in enumerate(records) if isinstance(record.event, ev.IoapicMessage))
    events = [record.event for record in records[first:]]
    return (
        sum(isinstance(event, ev.IoapicMessage) for event in events),
        sum(isinstance(event, ev.Instruction) and event.text.startswith("WRMSR 0x80b") for event in events),
        sum(isinstance(event, ev.KvmAckIrq) for event in events),
        sum(isinstance(event, ev.VmExit) for event in events),
    )
