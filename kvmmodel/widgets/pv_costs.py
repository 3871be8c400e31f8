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


def cost(way: str, count: int, kernel: str = "7.3", avic: bool = False, asleep: str = "second") -> Cost:
    """To ``count`` others, of which those ``asleep`` sleep and the rest are in the guest: all, every second, none."""
    vm = Host(kernel=kernel, avic=avic).create_vm(vcpus=count + 1, boot=True, trace=False)
    seen = list[Event]()
    vm.trace.listeners.append(seen.append)
    targets = range(1, count + 1)
    for vcpu in targets:
        sleeps = {"all": True, "second": vcpu % 2 == 0, "none": False}[asleep]
        vm.execute(vcpu, (WAITS["halted" if sleeps else "in-guest"],))
    vm.execute(0, ("spin 20000", send(way, targets)))
    vm.run()
    if [vcpu.guest.handled.get(VECTOR, 0) for vcpu in vm.vcpus] != [0, *(1 for _ in targets)]:
        raise ValueError(f"{way} did not reach each of {count} vCPUs once")
    return _count(seen)


def kick_cost(kernel: str = "7.3") -> Cost:
    """Of a kick to a waiter that sleeps."""
    return _count(run(built_in("pv-kick-halted"), Host(kernel=kernel, avic=False)).trace.events)


def _count(seen: list[Event]) -> Cost:
    return Cost(
        sum(isinstance(event, VmExit) and event.vcpu_id == 0 for event in seen),
        sum(isinstance(event, KvmHypercall) for event in seen),
        sum(isinstance(event, HostIpi) for event in seen),
        sum(isinstance(event, WakeUp) for event in seen),
    )


def pv_costs(kernel: str = "7.3") -> Html:
    """A row for each number and way, and one for the kick. Zero is printed as 0."""
    found = [
        (str(count), label, cost(way, count, kernel))
        for count in COUNTS
        for label, way in WAYS
        if count > 1 or way in ("each", "pv")  # to one, the others are the same as the first
    ]
    found.append(("1", "PV kick", kick_cost(kernel)))
    return _table(found)


def pv_costs_avic(kernel: str = "7.3", count: int = 4) -> Html:
    """With AVIC on: a row for each way, to ``count`` targets that are all in the guest, then to as many that sleep."""
    return _table(
        [
            (f"{count} {where}", label, cost(way, count, kernel, True, asleep))
            for where, asleep in (("in guest", "none"), ("asleep", "all"))
            for label, way in WAYS
        ]
    )


def _table(found: list[tuple[str, str, Cost]]) -> Html:
    rows = []
    for targets, label, c in found:
        cells = (label, *map(str, (c.exits, c.hypercalls, c.host_ipis, c.wake_ups)))
        rows.append(el("tr", el("th", targets, scope="row"), *(el("td", cell) for cell in cells)))
    head = el("tr", *(el("th", name, scope="col") for name in NAMES))
    return Html(el("table", el("thead", head), el("tbody", *rows), class_="km-table km-six"))
