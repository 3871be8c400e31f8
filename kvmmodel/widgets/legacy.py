"""The explorer of the page "How do the 8259 and the PIT still get an interrupt into a guest?", and late ticks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from kvmmodel import events as ev
from kvmmodel.kvm.types import KvmVcpu
from kvmmodel.machine.host import Host
from kvmmodel.machine.record import Record
from kvmmodel.machine.vm import Vm
from kvmmodel.scenarios.format import Scenario, read
from kvmmodel.scenarios.run import built_in, run
from kvmmodel.trace.cast import PIT_THREAD
from kvmmodel.trace.steps import extint_story
from kvmmodel.trace.story import BROKEN, Badge, Story
from kvmmodel.widgets.page import Html
from kvmmodel.widgets.stepper import Choice, Stepper, stepper
from kvmmodel.widgets.svg import el

KERNEL = "7.3.4"
SOURCES = (("line 5, primary", "line5"), ("line 10, secondary", "line10"), ("PIT", "pit"))
GUESTS = (("IF set", "set"), ("IF clear", "clear"), ("IF set, CR8 15", "tpr"), ("IF clear, 0xf1 waits", "both"))
GONE = (("stays up", "no"), ("falls before KVM looks", "early"), ("falls in the acknowledge", "late"))
LINES = {"line5": 5, "line10": 10}
PIT = ("outb 0x43 0x34", "outb 0x40 0xa9", "outb 0x40 4")  # 1193 clocks: a tick each millisecond
TITLES = {
    "line5": "A level line of the primary 8259",
    "line10": "A level line of the secondary 8259",
    "pit": "A tick of the PIT, and the next",
}
PROGRAMS = {
    "set": ("nop", "spin {late}"),
    "clear": ("cli", "spin {first}", "sti", "spin {late}"),
    "tpr": ("write_cr8 15", "spin {late}"),
    "both": ("cli", "wrmsr SELF_IPI 0xf1", "spin {first}", "sti", "spin {late}"),
}
RACE = """
[[userspace]]
when = {{ vcpu = 0, event = "pic_output" }}
do = ["irq_line {line} 0"]
[[race]]
at = {{ vcpu = 0, event = "pic_output" }}
run = "userspace"
until = "pic_line"
"""
SERVED = """
[[userspace]]
when = {{ mark = "served" }}
do = ["irq_line {line} 0"]
"""


def scenario_of(source: str, guest: str, gone: str) -> Scenario:
    """A scenario that goes on from a PC's firmware: an interrupt's ``source``, how it finds the ``guest``, and whether
    its line is ``gone``: no, early (before KVM looks) or late (in the acknowledge). For the PIT that is all the same.
    """
    ticks = source == "pit"
    waits = {"first": 1_050_000 if ticks else 6_000, "late": 1_100_000 if ticks else 20_000}
    program = [*(PIT if ticks else ()), *(row.format(**waits) for row in PROGRAMS[guest])]
    text = [
        f'title = "{TITLES[source]}"',
        'page = "book/legacy.html"\nknown = { source = "6.1 to 7.3" }\nafter = "pc-ready"\nlimit_ns = 2_200_000',
        f"[vcpu.0]\nprogram = {program}",
    ]
    if not ticks:
        line = LINES[source]
        raised = [f"irq_line {line} {level}" for level in ((1, 0) if gone == "early" else (1,))]
        text.append(f"[[userspace]]\nwhen = {{ event = 'instruction' }}\ndo = {raised}")
        text.append((RACE if gone == "late" else SERVED).format(line=line))
    return read(f"legacy-{source}-{guest}-{gone}", "\n".join(text))


def legacy_run(source: str, guest: str, gone: str, kernel: str = KERNEL, broken: bool = False) -> Vm:
    """The VM after such a run. ``broken``: the PIT does not hear of the acknowledge."""
    rules = ("no-pit-ack",) if broken else ()
    return run(scenario_of(source, guest, gone), Host(kernel=kernel, avic=False), broken=rules)


def legacy_story(source: str, guest: str, gone: str, kernel: str = KERNEL, broken: bool = False) -> Story:
    """One run, told."""
    scenario, vm = scenario_of(source, guest, gone), legacy_run(source, guest, gone, kernel, broken)
    release, processor = vm.host.kernel, vm.host.processor
    records = sorted(vm.trace.records, key=lambda record: record.t)
    told = extint_story(
        _to_the_next_tick(records) if source == "pit" else records,
        release,
        PIT_THREAD if source == "pit" else "vmm",
        title=scenario.title,
        setup=f"Kernel {release.release}, {processor.title}, `avic=0`, IRQ 0 is vector `0x30`, IRQ 8 is `0x38`",
        badges=(BROKEN,) if broken else tuple(Badge(how, what) for how, what in scenario.known.items()),
        broken="the PIT is not told of the acknowledge" if broken else None,
    )
    return replace(told, verdict=_verdict(vm, source, guest, gone, broken))


def _to_the_next_tick(records: Sequence[Record]) -> Sequence[Record]:
    """Up to what becomes of the second tick: its pulse, or none."""
    second = [i for i, record in enumerate(records) if isinstance(record.event, ev.PitTick)][1]
    ends = (i for i, record in enumerate(records) if i > second and _pulse_is_over(record.event))
    return records[: next(ends) + 1]


def _pulse_is_over(event: ev.Event) -> bool:
    return isinstance(event, ev.PitWaits) or (isinstance(event, ev.PicLine) and not event.sources)


def _verdict(vm: Vm, source: str, guest: str, gone: str, broken: bool) -> str | None:
    """What came of it, where that needs words."""
    acks = [event for event in vm.trace.events if isinstance(event, ev.PicAck)]
    if broken and source != "pit":
        return "Nothing changes. Nobody but the PIT registers for an acknowledge here."
    if broken:
        return "One tick, then no other. The PIT waits for an acknowledge of which it never hears, and owes ever more."
    if source == "pit" and gone != "no":
        return "Nothing to withdraw. The pulse was over at once, and the edge stayed latched in the 8259's IRR."
    if not acks:
        return "Nothing comes. A level takes its request along, and KVM looked at the output only then."
    if acks[0].spurious and source == "line5":
        return "Spurious. The handler of IRQ 7 finds bit 7 of the ISR clear: nothing is in service, so it sends no EOI."
    if acks[0].spurious:
        return "Spurious. The primary has line 2 in service and needs an EOI; the secondary, asked for its ISR, none."
    if guest == "tpr":
        return "It came with CR8 at 15. The task priority is the local APIC's, and the 8259 does not know it."
    if guest == "both":
        return "The 8259's vector went first. KVM asks the local APIC, where `0xf1` waited, only if there is no ExtINT."
    return None


def legacy_explorer(kernel: str = KERNEL) -> Stepper:
    """The widget."""

    def build(source: str, guest: str, gone: str, broken: bool) -> Story:
        return legacy_story(source, guest, gone, kernel, broken)

    choices = (
        Choice("source", "Interrupt", SOURCES),
        Choice("guest", "The guest", GUESTS),
        Choice("gone", "Its line", GONE),
    )
    return stepper(build, choices, break_it="do not tell the PIT of the acknowledge")


def userspace_extint(kernel: str = KERNEL) -> dict[str, object]:
    """A split irqchip: userspace asks for a window and injects two vectors while IF is clear; then the guest sets IF.

    What KVM_INTERRUPT answered to either, which handlers ran how often, and why KVM_RUN returned."""
    vm = Host(kernel=kernel, avic=False).create_vm(vcpus=1, irqchip="split", boot=True)
    vcpu, exits = vm.vcpus[0], list[str]()

    def on_exit(left: KvmVcpu) -> None:
        exits.append(left.exit[0])
        vcpu.request_interrupt_window(False)

    vm.user_exits.append(on_exit)
    vcpu.guest.cli()
    vcpu.request_interrupt_window()
    answers = [vcpu.interrupt(vector) for vector in (0x31, 0x32)]
    vcpu.guest.sti()
    vcpu.guest.nop()
    vm.run()
    handlers = {hex(vector): count for vector, count in vcpu.guest.handled.items()}
    return {"answers": answers, "handlers": handlers, "exits": exits}


@dataclass(frozen=True, slots=True)
class Period:
    """From one tick to the next: pulses of GSI 0, handlers that ran, ticks owed at its end."""

    pulses: int
    handled: int
    owed: int


def periods(pit: str, kernel: str = KERNEL) -> tuple[Period, ...]:
    """Of the scenario pit-late, with the PIT in that mode: reinject or discard."""
    vm = run(built_in("pit-late"), Host(kernel=kernel, avic=False), pit=pit)
    records = sorted(vm.trace.records, key=lambda record: record.t)
    ticks = [i for i, record in enumerate(records) if isinstance(record.event, ev.PitTick)]
    owed = 0
    found = []
    for first, end in pairwise(ticks):
        part = records[first:end]
        handled = sum(isinstance(record.event, ev.HandlerEnter) for record in part)
        owed = max(owed + (pit == "reinject") - _acknowledged(part), 0)
        found.append(Period(_pulses(part), handled, owed))
    return tuple(found)


def _pulses(records: Iterable[Record]) -> int:
    return sum(isinstance(r.event, ev.KvmSetIrq) and r.event.gsi == 0 and bool(r.event.level) for r in records)


def _acknowledged(records: Iterable[Record]) -> int:
    return sum(isinstance(r.event, ev.KvmAckIrq) and r.event.pin == 0 for r in records)


def late_ticks(kernel: str = KERNEL) -> Html:
    """A row for each tick of the scenario pit-late: what happens until the next one, in either mode."""
    kept, dropped = (periods(mode, kernel) for mode in ("reinject", "discard"))
    away = [i for i, period in enumerate(kept) if not period.handled]
    over = el("tr", el("td"), el("td"), el("th", "reinject", scope="colgroup", colspan="3"),
              el("th", "discard", scope="colgroup"))  # fmt: skip
    head = el("tr", *(el("th", name, scope="col") for name in ("tick", "guest", "sent", "taken", "owed", "taken")))
    rows = []
    for i, period in enumerate(kept):
        where = "away" if i in away else "back" if i - 1 in away else "runs"
        counts = (period.pulses, period.handled, period.owed, dropped[i].handled)
        rows.append(_row(str(i + 1), where, *counts))
    sums = (sum(p.pulses for p in kept), sum(p.handled for p in kept), kept[-1].owed, sum(p.handled for p in dropped))
    table = el("table", el("thead", over, head), el("tbody", *rows, _row("all", "", *sums)), class_="km-table km-six")
    return Html(table)


def _row(name: str, where: str, *counts: int) -> str:
    return el("tr", el("th", name, scope="row"), el("td", where), *(el("td", str(count)) for count in counts))
