"""The table of the page "The life of an IPI": what each way to send one costs, counted in runs on every release."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

from kvmmodel.events import ClearIsr, Event, HostIpi, KvmApicIpi, SetIrr, SetMode, VmExit, VmRun
from kvmmodel.facts.releases import series
from kvmmodel.kvm.names import KernelFunction
from kvmmodel.machine.host import Host
from kvmmodel.scenarios.run import built_in, run
from kvmmodel.trace.telling import REASONS
from kvmmodel.trace.telling_ipi import FAST_PATH, under
from kvmmodel.widgets.ipi import FORMS, ipi_run
from kvmmodel.widgets.page import Html
from kvmmodel.widgets.svg import el

NAMES = ("IPI", "kernels", "sender", "fast path", "host IPIs", "targets")
ROWS = (*((label, form, "on") for label, form in FORMS), ("ICR, to one; nrips=0", "one", "off"))


def ipi_costs() -> Html:
    """For each form: the exits of the sender and of the targets, all of them in the guest, from the write to the EOIs.
    Kernels with the same counts share a row. Zero is printed as 0."""
    rows = []
    for label, form, nrips in ROWS:
        found: dict[tuple[str, ...], list[str]] = {}
        for kernel in series():
            found.setdefault(counted(form, kernel, nrips), []).append(kernel)
        for counts, kernels in found.items():
            cells = [el("td", text) for text in (ranges(kernels), *counts)]
            rows.append(el("tr", el("th", label, scope="row"), *cells))
    head = el("tr", *(el("th", name, scope="col") for name in NAMES))
    return Html(el("table", el("thead", head), el("tbody", *rows), class_="km-table km-six"))


def counted(form: str, kernel: str, nrips: str = "on") -> tuple[str, str, str, str]:
    """Exits of the sender, vCPU 0; whether the fast path took the write; host IPIs; exits of the targets."""
    records = sorted(ipi_run(form, "in-guest", kernel, nrips).trace.records, key=lambda record: record.t)
    events = [record.event for record in records]
    requested = [(i, event.vcpu_id) for i, event in enumerate(events) if isinstance(event, SetIrr)]
    first, last = requested[0][0], requested[-1][0]
    path = "no"
    if under(records[first].stack, FAST_PATH):
        path = "yes, enters at once" if _at_once(events[last:]) else "yes"
    sender = _exits(events[:first], 0)
    targets = [reason for i, vcpu in requested for reason in _exits(events[i : _eoi(events, vcpu)], vcpu)]
    return _tally(sender), path, str(sum(isinstance(event, HostIpi) for event in events)), _tally(targets)


def _exits(events: Sequence[Event], vcpu: int) -> list[str]:
    return [REASONS[event.reason] for event in events if isinstance(event, VmExit) and event.vcpu_id == vcpu]


def _eoi(events: Sequence[Event], vcpu: int) -> int:
    return next(i for i, event in enumerate(events) if isinstance(event, ClearIsr) and event.vcpu_id == vcpu)


def _at_once(events: Sequence[Event]) -> bool:
    """Whether the sender enters again without having left the entry loop."""
    moves = (event for event in events if isinstance(event, VmRun | SetMode) and event.vcpu_id == 0)
    return isinstance(next(moves), VmRun)


def _tally(reasons: Sequence[str]) -> str:
    return ", ".join(f"{reasons.count(reason)}\N{NO-BREAK SPACE}{reason}" for reason in dict.fromkeys(reasons)) or "0"


def ranges(kernels: Sequence[str]) -> str:
    """Series that follow one another are joined: "5.10 to 6.1, 6.12"."""
    order = {kernel: i for i, kernel in enumerate(series())}
    cuts = [i for i, (a, b) in enumerate(pairwise(kernels), 1) if order[b] != order[a] + 1]
    parts = [kernels[a:b] for a, b in pairwise([0, *cuts, len(kernels)])]
    return ", ".join(part[0] if len(part) == 1 else f"{part[0]} to {part[-1]}" for part in parts)


WAYS = ("ICR, fast path", "ICR, handler", "SELF_IPI", "xAPIC page")


def ipi_ways(scenario: str, kernel: str, nrips: bool = True) -> dict[str, int]:
    """How many IPIs of a scenario went through which door, by the stacks at kvm_apic_ipi."""
    vm = run(built_in(scenario), Host(kernel=kernel, avic=False, nrips=nrips))
    found = dict.fromkeys(WAYS, 0)
    for record in vm.trace.records:
        if isinstance(record.event, KvmApicIpi):
            found[_way(record.stack)] += 1
    return found


def _way(stack: tuple[KernelFunction, ...]) -> str:
    if under(stack, "__kvm_x2apic_icr_write"):
        return WAYS[0] if under(stack, FAST_PATH) else WAYS[1]
    return WAYS[3] if under(stack, "apic_mmio_write") else WAYS[2]


def ipi_ways_table(scenario: str, recorded: Mapping[str, Sequence[int]]) -> Html:
    """By kernel and door: how many IPIs were recorded, in the order of WAYS, beside those of the model's own run."""
    columns = [numbers for kernel in recorded for numbers in (recorded[kernel], ipi_ways(scenario, kernel).values())]
    rows = []
    for way, *numbers in zip(WAYS, *columns, strict=True):
        rows.append(el("tr", el("th", way, scope="row"), *(el("td", str(number)) for number in numbers)))
    names = ("door", *(name for kernel in recorded for name in (f"{kernel}, recorded", "model")))
    head = el("tr", *(el("th", name, scope="col") for name in names))
    return Html(el("table", el("thead", head), el("tbody", *rows), class_="km-table km-six"))
