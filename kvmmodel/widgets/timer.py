"""The explorer of the page "The life of a timer interrupt": a mode, and where the vCPU is when the timer expires."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from kvmmodel import events as ev
from kvmmodel.machine.host import Host
from kvmmodel.machine.record import Record
from kvmmodel.scenarios.run import built_in, run
from kvmmodel.trace.steps import story
from kvmmodel.trace.story import BROKEN, Badge, Story
from kvmmodel.trace.telling import REASONS
from kvmmodel.widgets.inject import TARGETS as PLACES
from kvmmodel.widgets.page import Html
from kvmmodel.widgets.stepper import Choice, Stepper, stepper
from kvmmodel.widgets.svg import el

MODES = (("TSC-deadline", "deadline"), ("one-shot", "oneshot"), ("periodic", "periodic"))
KERNELS = (("6.12.95", "6.12.95"), ("7.3.4", "7.3.4"))  # without and with a fast path for the deadline
VECTORS = {"deadline": 0xE1, "oneshot": 0xE2, "periodic": 0xE2}
TELL_NOBODY = ("no-timer-request", "no-timer-kick")
LIMIT_NS = 1_500_000  # a periodic timer that nobody delivers never comes to rest
IRQS = {"reschedule": "IPI"}  # a short word for a table
ARMING = ("WRMSR 0x6e0", "WRMSR 0x838")  # TSC_DEADLINE and TMICT
WHY = {
    "in-guest": "Nothing lost. The host timer's interrupt was an exit by itself, and after it the loop looks at the "
    "timer.",
    "in-host": "Nothing lost. The vCPU was out of the guest, and before it enters again the loop looks at the timer.",
    "halted": "Only the kick wakes its thread.",
    "preempted": "Its thread had looked at the timer before it lost the CPU, and goes on into the guest: the request "
    "would have turned it back. Now the tick has to wait for the next exit.",
}


def scenario_of(mode: str, place: str) -> str:
    """The scenario's name. Those of the TSC-deadline timer that other pages tell, too, have no mode in it."""
    named = mode != "deadline" or place == "in-host"
    return f"timer-{mode}-{place}" if named else f"timer-{place}"


def timer_story(mode: str, place: str, kernel: str = "6.12.95", broken: bool = False) -> Story:
    """One run: ``mode`` deadline, oneshot or periodic; ``place`` in-guest, halted, in-host or preempted.

    ``broken``: apic_timer_expired only notes that the timer is pending. It makes no request and does not kick.
    """
    scenario = built_in(scenario_of(mode, place))
    host = Host(kernel=kernel, avic=False)
    vm = run(scenario, host, broken=TELL_NOBODY if broken else (), limit_ns=LIMIT_NS)
    told = story(
        vm.trace.records,
        host.kernel,
        "timer",
        VECTORS[mode],
        0,
        title=scenario.title,
        setup=f"Kernel {host.kernel.release}, {host.processor.title}, `avic=0`, x2APIC guest",
        badges=(BROKEN,) if broken else tuple(Badge(how, what) for how, what in scenario.known.items()),
        broken="the expired timer is noted, and nobody is told" if broken else None,
    )
    return replace(told, verdict=_verdict(told, place)) if broken else told


def _verdict(told: Story, place: str) -> str:
    """What became of the tick when nobody was told."""
    if told.verdict:
        return f"{told.verdict} {WHY[place]}"
    return f"Late. {WHY[place]}" if place == "preempted" else WHY[place]


def timer_explorer(kernel: str = "6.12.95") -> Stepper:
    """The widget."""
    choices = (
        Choice("mode", "Timer", MODES),
        Choice("place", "The vCPU when it expires", PLACES),
        Choice("kernel", "Kernel", KERNELS, kernel),
    )
    return stepper(timer_story, choices, break_it="note the expiry, tell nobody")


@dataclass(slots=True)
class Tick:
    """What one tick took: exits by reason, interrupts of the host on the vCPU's CPU by name, passes to the entry."""

    exits: Counter[str] = field(default_factory=Counter)
    host: Counter[str] = field(default_factory=Counter)
    passes: int = 0


def tick(mode: str, place: str, kernel: str) -> Tick:
    """Counted from the write that arms the timer (periodic: from the entry after it) to the EOI."""
    vm = run(built_in(scenario_of(mode, place)), Host(kernel=kernel, avic=False))
    return count(sorted(vm.trace.records, key=lambda r: r.t), vm.vcpus[0].kvm_vcpu.cpu, periodic=mode == "periodic")


def count(records: Sequence[Record], cpu: int, *, periodic: bool) -> Tick:
    """The first tick of vCPU 0 in a run."""
    found = Tick()
    armed = counting = False
    for record in records:
        event = record.event
        match event:
            case ev.Instruction() if not armed:
                armed = event.text.startswith(ARMING)
                counting = armed and not periodic
            case ev.VmRun() if armed:
                counting = True
            case ev.ClearIsr() if counting:
                break
            case ev.VmExit() if counting:
                found.exits[REASONS.get(event.reason, event.reason)] += 1
            case ev.HostIrq() if counting and record.cpu == cpu:
                found.host[IRQS.get(event.name, event.name)] += 1
            case ev.SetMode() if counting and event.mode == "IN_GUEST_MODE":
                found.passes += 1
    return found


def timer_rules() -> Html:
    """What arrives of one TSC-deadline tick if apic_timer_expired leaves out one of the two things."""
    cases = [(label, scenario_of("deadline", place)) for label, place in PLACES]
    cases.append(("already due", "timer-in-host"))
    names = ("the vCPU", "without the kick", *(f"without the request, {label}" for label, _ in KERNELS))
    rows = []
    for label, name in cases:
        runs = [(KERNELS[0][1], "no-timer-kick"), *((kernel, "no-timer-request") for _, kernel in KERNELS)]
        cells = [el("td", "arrives" if _arrives(name, *broken) else "does not") for broken in runs]
        rows.append(el("tr", el("th", label, scope="row"), *cells))
    head = el("tr", *(el("th", name, scope="col") for name in names))
    return Html(el("table", el("thead", head), el("tbody", *rows), class_="km-table"))


def _arrives(name: str, kernel: str, rule: str) -> bool:
    vm = run(built_in(name), Host(kernel=kernel, avic=False), broken=(rule,))
    return any(isinstance(record.event, ev.HandlerEnter) for record in vm.trace.records)


def timer_costs() -> Html:
    """Per mode and place: exits, host interrupts, passes; by kernel where that differs. Zero is printed as 0."""
    names = ("the vCPU", "exits", "host IRQs", "passes")
    bodies = []
    for label, mode in MODES:
        rows = [el("tr", el("th", el("b", label), scope="rowgroup", colspan=str(len(names))))]
        for where, place in PLACES:
            ticks = [tick(mode, place, kernel) for _, kernel in KERNELS]
            texts = [(_counts(t.exits), _counts(t.host), str(t.passes)) for t in ticks]
            cells = [el("td", _once(column)) for column in zip(*texts, strict=True)]
            rows.append(el("tr", el("th", where, scope="row"), *cells))
        bodies.append(el("tbody", *rows))
    head = el("tr", *(el("th", name, scope="col") for name in names))
    return Html(el("table", el("thead", head), *bodies, class_="km-table"))


def _counts(counter: Counter[str]) -> str:
    return ", ".join(f"{n}\N{NO-BREAK SPACE}{name}" for name, n in counter.items()) or "0"


def _once(texts: Sequence[str]) -> str:
    """One text if the kernels agree, else each of them with its kernel."""
    if len(set(texts)) == 1:
        return texts[0]
    each = (f"{text} on {label}" for (label, _), text in zip(KERNELS, texts, strict=True))
    return ", ".join(text.replace(" ", "\N{NO-BREAK SPACE}") for text in each)
