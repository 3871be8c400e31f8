"""The explorer of the page "Why does one ExtINT switch AVIC off?", and what it costs the VM's other vCPUs."""

from __future__ import annotations

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
    if avic == "off" and flag == "set":
        return "Delivered. It could go in at once, so no window was needed."
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


COUNTED = ("AVIC changes", "update requests", "host IPIs", "exits, vCPU 0", "exits, vCPU 1")
RUNS = (("on", "clear"), ("on", "set"), ("off", "clear"))


def extint_costs(kernels: tuple[str, ...] = ("6.1", "6.12", "7.3")) -> Html:
    """What one ExtINT costs vCPU 0, which takes it, and vCPU 1, which only computes, from the rise of the line on.
    A group of rows for each kernel. Zero is printed as 0."""
    bodies = []
    for kernel in kernels:
        over = el("th", f"Kernel {kernel}", scope="rowgroup", colspan=str(1 + len(COUNTED)), class_="km-over")
        rows = [el("tr", over)]
        for avic, flag in RUNS:
            counts = counted(flag, kernel, avic)
            name = f"AVIC {avic}, IF {flag}"
            rows.append(el("tr", el("th", name, scope="row"), *(el("td", str(count)) for count in counts)))
        bodies.append(el("tbody", *rows))
    head = el("tr", *(el("th", name, scope="col") for name in ("run", *COUNTED)))
    return Html(el("table", el("thead", head), *bodies, class_="km-table km-six"))


def counted(flag: str, kernel: str, avic: str) -> tuple[int, int, int, int, int]:
    """VMCBs changed; update requests; host IPIs; exits of vCPU 0 and of vCPU 1: from the rise of the line on."""
    events = extint_run(flag, kernel, avic).trace.events
    part = events[next(i for i, event in enumerate(events) if isinstance(event, ev.PicLine)) :]
    return (
        sum(isinstance(event, ev.AvicMode) for event in part),
        sum(isinstance(event, ev.MakeRequest) and event.request == "APICV_UPDATE" for event in part),
        sum(isinstance(event, ev.HostIpi) for event in part),
        sum(isinstance(event, ev.VmExit) and event.vcpu_id == 0 for event in part),
        sum(isinstance(event, ev.VmExit) and event.vcpu_id == 1 for event in part),
    )
