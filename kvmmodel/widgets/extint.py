"""The explorer of the page "Why does one ExtINT switch AVIC off?", and what it costs the VM's other vCPUs."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from kvmmodel import events as ev
from kvmmodel.machine.host import Host
from kvmmodel.machine.vm import Vm
from kvmmodel.scenarios.run import built_in, run
from kvmmodel.trace.steps import extint_story
from kvmmodel.trace.story import BROKEN, Badge, Story
from kvmmodel.widgets.page import Html
from kvmmodel.widgets.stepper import Choice, Stepper, stepper
from kvmmodel.widgets.svg import el

FLAGS = (("clear", "clear"), ("set", "set"))
KERNELS = (("6.12", "6.12"), ("7.3", "7.3"))
AVICS = (("on", "on"), ("off", "off"))
VECTOR = 0x35


def extint_run(flag: str, kernel: str = "6.12", avic: str = "on", broken: bool = False) -> Vm:
    """Line 5 of the 8259 rises while IF is ``flag``: clear or set. ``broken``: the window leaves AVIC on."""
    host = Host(kernel=kernel, avic=avic == "on")
    return run(built_in(f"extint-{flag}"), host, broken=("no-window-inhibit",) if broken else ())


def extint_avic_story(flag: str, kernel: str = "6.12", avic: str = "on", broken: bool = False) -> Story:
    """That run, told."""
    scenario, vm = built_in(f"extint-{flag}"), extint_run(flag, kernel, avic, broken)
    told = extint_story(
        sorted(vm.trace.records, key=lambda record: record.t),
        vm.host.kernel,
        "vmm",
        title=scenario.title if avic == "on" else scenario.title.replace("AVIC on", "AVIC off"),
        setup=f"Kernel {vm.host.kernel.release}, {vm.host.processor.title}, `avic={int(avic == 'on')}`, 2 vCPUs",
        badges=(BROKEN,) if broken else tuple(Badge(how, what) for how, what in scenario.known.items()),
        broken="the window leaves AVIC on" if broken else None,
    )
    return replace(told, verdict=_verdict(vm, flag, avic, broken))


def _verdict(vm: Vm, flag: str, avic: str, broken: bool) -> str | None:
    toggles = sum(isinstance(event, ev.AvicMode) for event in vm.trace.events)
    if broken and not vm.vcpus[0].guest.handled.get(VECTOR):
        return "Stuck: AVIC is on, so the processor ignores `V_IRQ`. IF is set, and no `VINTR` exit comes."
    if broken:
        return "Nothing changes: no window was needed, or AVIC was off." if not toggles else None
    if avic == "off":
        return "Delivered. With AVIC off a window costs its own vCPU one exit, and nobody else anything."
    if flag == "set":
        return "Delivered, and AVIC stayed on: what can go in at once goes in by `EVENTINJ`, no window is needed."
    return f"Delivered. AVIC changed {toggles} times, on both vCPUs, though one of them had no part in it."


def extint_explorer(kernel: str = "6.12") -> Stepper:
    """The widget; ``kernel`` is the release that it begins with."""

    def build(flag: str, release: str, avic: str, broken: bool) -> Story:
        return extint_avic_story(flag, release, avic, broken)

    kernels = tuple(sorted(KERNELS, key=lambda choice: choice[1] != kernel))
    choices = (Choice("flag", "IF", FLAGS), Choice("release", "Kernel", kernels), Choice("avic", "AVIC", AVICS))
    return stepper(build, choices, break_it="leave AVIC on for the window")


def extint_costs(kernels: tuple[str, ...] = ("6.1", "6.12", "7.3")) -> Html:
    """What one ExtINT costs vCPU 0, which takes it, and vCPU 1, which only computes, from the rise of the line on."""
    names = ("kernel", "AVIC", "IF", "AVIC changes", "update requests", "host IPIs", "exits, vCPU 0", "exits, vCPU 1")
    rows = []
    for kernel in kernels:
        for avic, flag in (("on", "clear"), ("on", "set"), ("off", "clear")):
            events = extint_run(flag, kernel, avic).trace.events
            events = events[next(i for i, event in enumerate(events) if isinstance(event, ev.PicLine)) :]
            count: Counter[str] = Counter()
            for event in events:
                if isinstance(event, ev.AvicMode):
                    count["modes"] += 1
                elif isinstance(event, ev.MakeRequest) and event.request == "APICV_UPDATE":
                    count["updates"] += 1
                elif isinstance(event, ev.HostIpi):
                    count["ipis"] += 1
                elif isinstance(event, ev.VmExit):
                    count[f"exits {event.vcpu_id}"] += 1
            cells = [count[name] for name in ("modes", "updates", "ipis", "exits 0", "exits 1")]
            texts = [avic, flag, *map(str, cells)]
            rows.append(el("tr", el("th", kernel, scope="row"), *(el("td", text) for text in texts)))
    head = el("tr", *(el("th", name, scope="col") for name in names))
    return Html(el("table", el("thead", head), el("tbody", *rows), class_="km-table"))
