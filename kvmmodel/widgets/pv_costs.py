"""The table of the page "PV IPI and PV kick": what reaching several vCPUs costs, by way and number, counted in runs."""

from __future__ import annotations

from dataclasses import dataclass

from kvmmodel.events import Event, HostIpi, KvmHypercall, VmExit, WakeUp
from kvmmodel.machine.host import Host
from kvmmodel.scenarios.run import built_in, run
from kvmmodel.widgets.page import Html
from kvmmodel.widgets.pv import VECTOR, WAITS, send
from kvmmodel.widgets.svg import el

NAMES = ("targets", "way", "sender's exits", "hypercalls", "host IPIs", "wake-ups")
COUNTS = (1, 4, 32)
WAYS = (("one by one", "each"), ("by cluster", "cluster"), ("all but self", "others"), ("PV IPI", "pv"))


@dataclass(frozen=True, slots=True)
class Cost:
    """Of one sending, from its first exit until every target has handled it."""

    exits: int = 0
    hypercalls: int = 0
    host_ipis: int = 0
    wake_ups: int = 0


def cost(way: str, count: int, kernel: str = "7.3", avic: bool = False) -> Cost:
    """To ``count`` others, every second of them asleep and the rest in the guest."""
    vm = Host("zen4", kernel, avic).create_vm(vcpus=count + 1, boot=True, trace=False)
    seen = list[Event]()
    vm.trace.listeners.append(seen.append)
    targets = range(1, count + 1)
    for vcpu in targets:
        vm.execute(vcpu, (WAITS["in-guest" if vcpu % 2 else "halted"],))
    vm.execute(0, ("spin 20000", send(way, targets)))
    vm.run()
    if [vcpu.guest.handled.get(VECTOR, 0) for vcpu in vm.vcpus] != [0, *(1 for _ in targets)]:
        raise ValueError(f"{way} did not reach each of {count} vCPUs once")
    return _count(seen)


def kick_cost(kernel: str = "7.3", avic: bool = False) -> Cost:
    """Of a kick to a waiter that sleeps."""
    return _count(run(built_in("pv-kick-halted"), Host("zen4", kernel, avic)).trace.events)


def _count(seen: list[Event]) -> Cost:
    return Cost(
        sum(isinstance(event, VmExit) and event.vcpu_id == 0 for event in seen),
        sum(isinstance(event, KvmHypercall) for event in seen),
        sum(isinstance(event, HostIpi) for event in seen),
        sum(isinstance(event, WakeUp) for event in seen),
    )


def pv_costs(kernel: str = "7.3", avic: bool = False) -> Html:
    """A row for each number and way, and one for the kick, on Zen 4: x2AVIC if ``avic``. Zero is printed as 0."""
    found = [
        (str(count), label, cost(way, count, kernel, avic))
        for count in COUNTS
        for label, way in WAYS
        if count > 1 or way in ("each", "pv")  # to one, the others are the same as the first
    ]
    found.append(("1", "PV kick", kick_cost(kernel, avic)))
    rows = []
    for count, label, c in found:
        cells = (label, *map(str, (c.exits, c.hypercalls, c.host_ipis, c.wake_ups)))
        rows.append(el("tr", el("th", count, scope="row"), *(el("td", cell) for cell in cells)))
    head = el("tr", *(el("th", name, scope="col") for name in NAMES))
    return Html(el("table", el("thead", head), el("tbody", *rows), class_="km-table km-six"))
