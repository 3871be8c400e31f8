"""The explorer of the page on devices: where the vCPU is, whether its interrupts are posted, on which kernel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from kvmmodel import events as ev
from kvmmodel.facts.releases import series
from kvmmodel.machine.host import Host
from kvmmodel.machine.vm import Vm
from kvmmodel.scenarios.run import built_in, run
from kvmmodel.trace.device import device_story
from kvmmodel.trace.stacks import names
from kvmmodel.trace.story import BROKEN, Badge, Story
from kvmmodel.trace.text import tracepoint
from kvmmodel.widgets.cells import Text
from kvmmodel.widgets.ipi_costs import ranges
from kvmmodel.widgets.page import Html
from kvmmodel.widgets.stepper import Choice, Stepper, stepper
from kvmmodel.widgets.svg import el

VECTOR, HOST_CPU, GSI = 0x63, 6, 24
STATES = (("in guest", "in-guest"), ("halted", "halted"), ("preempted", "preempted"))
POSTING = (("on", "on"), ("inhibited", "inhibited"), ("off", "off"))
KERNELS = (("6.12", "6.12"), ("6.18", "6.18"), ("7.3", "7.3"))
HOSTS = {
    "on": "`avic=1`, `amd_iommu_intr=vapic`",
    "inhibited": "`avic=1`, `amd_iommu_intr=vapic`, AVIC inhibited by the PIT",
    "off": "`avic=1`, `amd_iommu_intr=legacy`",
}
LIMIT_NS = 200_000  # a broken run waits for ever


def device_run(state: str, posting: str, kernel: str = "7.3", broken: bool = False) -> Vm:
    """The run that a story tells and the table counts. Inhibited: the VM has a PIT as QEMU makes it by default."""
    host = Host(kernel=kernel, avic=True, iommu="legacy" if posting == "off" else "vapic")
    more: dict[str, Any] = {"pit": "reinject"} if posting == "inhibited" else {}
    rules = ("no-ga-log",) if broken else ()
    return run(built_in(f"device-{state}"), host, broken=rules, limit_ns=LIMIT_NS, **more)


def device_explained(state: str, posting: str, kernel: str = "7.3", broken: bool = False) -> Story:
    """One run, told. ``broken``: no entry ever has GALogIntr."""
    vm, scenario = device_run(state, posting, kernel, broken), built_in(f"device-{state}")
    told = device_story(
        vm.trace.records,
        vm.host.kernel,
        HOST_CPU,
        VECTOR,
        title=scenario.title,
        setup=f"Kernel {vm.host.kernel.release}, {vm.host.processor.title}, {HOSTS[posting]}, x2APIC guest",
        badges=(BROKEN,) if broken else tuple(Badge(how, what) for how, what in scenario.known.items()),
        broken="KVM never sets GALogIntr" if broken else None,
    )
    return replace(told, verdict=_verdict(told, state, posting)) if broken else told


def _verdict(told: Story, state: str, posting: str) -> str:
    last = told.steps[-1].states[-1]
    if last.irr >> VECTOR & 1:
        return (
            f"Lost wake-up: IRR `{VECTOR:#x}` is set, and vCPU {last.vcpu} sleeps. The IOMMU has told nobody, "
            "and no code of the host knows that there is something to look at."
        )
    if posting != "on":
        return "Nothing lost. The entry interrupts the host, which does not need the log."
    if state == "halted":
        return "Nothing lost."
    why = "`is_run` was set, so the doorbell went out" if state == "in-guest" else "the next `VMRUN` looks into the IRR"
    return f"Nothing lost: {why}. The log is for vCPUs that sleep."


def device_explorer(kernel: str = "7.3") -> Stepper:
    """The widget."""
    choices = (
        Choice("state", "vCPU 0", STATES),
        Choice("posting", "Posting", POSTING),
        Choice("kernel", "Kernel", KERNELS, kernel),
    )
    return stepper(device_explained, choices, break_it="no GALogIntr")


COUNTED = ("host IRQs", "wake-ups", "host IPIs", "doorbells", "exits")


def device_costs() -> Html:
    """For each state and each kind of posting, from the message to the EOI. Kernels with the same counts share a row;
    from 6.1 on, as earlier ones inhibit AVIC for an x2APIC guest. Zero is printed as 0."""
    bodies = []
    for label, state in STATES:
        rows = [el("tr", el("th", f"vCPU {label}", scope="rowgroup", colspan=str(1 + len(COUNTED)), class_="km-over"))]
        for how, posting in POSTING:
            found: dict[tuple[int, ...], list[str]] = {}
            for kernel in series()[2:]:
                found.setdefault(counted(state, posting, kernel), []).append(kernel)
            for counts, kernels in found.items():
                name = how if len(found) == 1 else f"{how}, {ranges(kernels)}"
                rows.append(el("tr", el("th", name, scope="row"), *(el("td", str(count)) for count in counts)))
        bodies.append(el("tbody", *rows))
    head = el("tr", *(el("th", name, scope="col") for name in ("posting", *COUNTED)))
    return Html(el("table", el("thead", head), *bodies, class_="km-table km-six"))


def counted(state: str, posting: str, kernel: str) -> tuple[int, int, int, int, int]:
    """Interrupts of the device or the IOMMU that the host took; wake-ups of vCPU 0; host IPIs; doorbells; exits."""
    records = sorted(device_run(state, posting, kernel).trace.records, key=lambda record: record.t)
    events = [record.event for record in records]
    first = next(i for i, event in enumerate(events) if isinstance(event, ev.DeviceMsi))
    ends = (i for i, event in enumerate(events) if isinstance(event, ev.ClearIsr | ev.AvicClearIsr) and i > first)
    part = events[first : next(ends) + 1]
    return (
        sum(isinstance(event, ev.HostIrq) and event.name.startswith(("vfio", "AMD-Vi")) for event in part),
        sum(isinstance(event, ev.WakeUp) and event.vcpu_id == 0 for event in part),
        sum(isinstance(event, ev.HostIpi) for event in part),
        sum(isinstance(event, ev.AvicDoorbell) for event in part),
        sum(isinstance(event, ev.VmExit) for event in part),
    )


def device_tracepoints(state: str, posting: str, kernel: str = "7.3", only: Sequence[str] = ()) -> Text:
    """The run's tracepoints in the kernel's words, in order of time, each after its thread; ``only`` keeps those."""
    vm = device_run(state, posting, kernel)
    records = sorted(vm.trace.records, key=lambda record: record.t)
    kept = [r for r in records if r.event.tracepoint and (not only or r.event.tracepoint in only)]
    return Text("\n".join(f"{r.task}  {r.event.tracepoint}: {tracepoint(r.event, vm.host.kernel)}" for r in kept))


def device_stack(state: str, posting: str, event: type[ev.Event], kernel: str = "7.3") -> Text:
    """The model's stack of the first such event after the device's message, innermost frame first.

    ValueError if there is none.
    """
    vm = device_run(state, posting, kernel)
    records = sorted(vm.trace.records, key=lambda record: record.t)
    sent = next(i for i, record in enumerate(records) if isinstance(record.event, ev.DeviceMsi))
    for record in records[sent:]:
        if isinstance(record.event, event):
            return Text("\n".join(names(record.stack, vm.host.kernel)))
    raise ValueError(f"nothing in this run is {event.__name__} after the message")
