"""The explorer of the page on PV EOI: who ends an interrupt, with AVIC off, inhibited, on, and on without x2AVIC."""

from __future__ import annotations

from dataclasses import replace

from kvmmodel import events as ev
from kvmmodel.machine.host import Host
from kvmmodel.machine.vm import Vm
from kvmmodel.scenarios.format import Scenario
from kvmmodel.scenarios.run import built_in, run
from kvmmodel.silicon.apic import APIC_EOI
from kvmmodel.trace.line import line_story
from kvmmodel.trace.steps import STORY_TELLERS, program_story, story
from kvmmodel.trace.story import BROKEN, Badge, Story
from kvmmodel.trace.telling_program import PROGRAM_TELLERS
from kvmmodel.trace.telling_pv_eoi import tellers
from kvmmodel.widgets.page import Html
from kvmmodel.widgets.stepper import Choice, Stepper, stepper
from kvmmodel.widgets.svg import el

AVICS = (("off", "off"), ("inhibited", "inhibited"), ("on", "on"), ("hybrid", "hybrid"))
WAYS = (("PV EOI offered", "paravirtual"), ("not offered", "register"))
VECTORS = (
    ("edge, an MSI", "edge"),
    ("edge, the handler exits", "exits"),
    ("two at once", "two"),
    ("level, pin 20", "level"),
)
PIN, CELL = 20, 0x5000
FOLLOWED = {"edge": (0x41,), "exits": (0x41,), "two": (0x51, 0x41), "level": (0x62,)}


def _scenario(vector: str, way: str) -> Scenario:
    """``way`` paravirtual: the guest enables PV EOI first, as it does where CPUID has the feature."""
    scenario = built_in(f"pv-eoi-{vector}")
    if way == "register":
        return scenario
    return replace(scenario, programs={0: (f"pv_eoi_on {CELL:#x}", *scenario.programs[0])})


def pv_eoi_run(vector: str, avic: str, way: str, kernel: str = "6.12", broken: bool = False) -> Vm:
    """The run. ``avic`` inhibited: by a PIT with reinjection, as QEMU has it; hybrid: on a processor without x2AVIC,
    which the x2APIC guest would need. ``broken``: PV EOI is armed though another vector waits."""
    host = Host(cpu="zen2" if avic == "hybrid" else "zen4", kernel=kernel, avic=avic != "off")
    rules = ("pv-eoi-always-armed",) if broken else ()
    if avic == "inhibited":
        return run(_scenario(vector, way), host, broken=rules, pit="reinject")
    return run(_scenario(vector, way), host, broken=rules)


def pv_eoi_story(
    vector: str = "edge", avic: str = "on", way: str = "paravirtual", kernel: str = "6.12", broken: bool = False
) -> Story:
    """Tell such a run: from the device's message or line to the EOI; of two vectors, from the guest's STI on."""
    scenario, vm = _scenario(vector, way), pv_eoi_run(vector, avic, way, kernel, broken)
    title, pv, release, records = scenario.title, way == "paravirtual", vm.host.kernel, vm.trace.records
    badges = (BROKEN,) if broken else tuple(Badge(how, what) for how, what in scenario.known.items())
    what = "PV EOI is armed though another vector waits" if broken else None
    setup = f"Kernel {release.release}, {vm.host.processor.title}, {_avic(vm, avic)}, x2APIC guest"
    if vector == "two":
        told = program_story(
            records, release, FOLLOWED[vector], title=title, setup=setup, since="STI", badges=badges, broken=what,
            tellers=tellers(PROGRAM_TELLERS, pv),
        )  # fmt: skip
    elif vector == "level":
        told = line_story(
            records, release, PIN, FOLLOWED[vector], title=title, setup=setup, badges=badges, broken=what,
            paravirtual=pv,
        )  # fmt: skip
    else:
        told = story(
            records, release, "msi", FOLLOWED[vector][0], 0, title=title, setup=setup, badges=badges, broken=what,
            tellers=tellers(STORY_TELLERS, pv),
        )  # fmt: skip
    return replace(told, verdict=_verdict(told, vector, way, avic)) if broken else told


def _avic(vm: Vm, avic: str) -> str:
    reasons = ", ".join(f"`{reason}`" for reason in sorted(vm.inhibits))
    active = {"off": "`avic=0`", "on": "`avic=1`", "hybrid": "`avic=1`, no x2AVIC"}
    return active.get(avic, f"`avic=1`, inhibited by {reasons}")


def _verdict(told: Story, vector: str, way: str, avic: str) -> str:
    """What became of the vector that waited while the bit was set."""
    irr = told.steps[-1].states[-1].irr
    late = [f"`{waits:#x}`" for waits in FOLLOWED[vector] if irr >> waits & 1]
    if late:
        return (
            f"Late: the handler of `{FOLLOWED[vector][0]:#x}` is over, but IRR {late[0]} waits with IF set. "
            "Its EOI was no exit, so KVM does not know of it; the next exit, whatever its reason, brings both."
        )
    if way == "register":
        return "Nothing lost. The guest was not offered PV EOI, so there is no bit to arm."
    if avic in ("on", "hybrid"):
        return "Nothing lost. With AVIC active the ISR's cached top is unknown as well, which is enough to refuse."
    if vector == "level":
        return "Nothing lost. The vector is the I/O APIC's, which is enough to refuse."
    return "Nothing lost. No other vector waited here, so the bit was rightly set."


def pv_eoi_explorer(kernel: str = "6.12") -> Stepper:
    """The widget."""

    def build(avic: str, way: str, vector: str, broken: bool) -> Story:
        return pv_eoi_story(vector, avic, way, kernel, broken)

    choices = (
        Choice("avic", "AVIC", AVICS, "on"),
        Choice("way", "EOI", WAYS),
        Choice("vector", "Vector", VECTORS),
    )
    return stepper(build, choices, break_it="arm PV EOI though another vector waits")


def ended(vector: str, avic: str, way: str, kernel: str = "6.12") -> tuple[int, int, int, int]:
    """How many interrupts the bit ended, KVM's emulation of the register, hardware; and how often the bit was tested.

    The bit's are counted where the guest clears it, not where KVM finds out.
    """
    events = pv_eoi_run(vector, avic, way, kernel).trace.events
    cleared = sum(isinstance(event, ev.ClearIsr) for event in events)
    found = sum(isinstance(event, ev.KvmPvEoi) for event in events)
    return (
        sum(isinstance(event, ev.PvEoiByGuest) for event in events),
        cleared - found,
        sum(isinstance(event, ev.AvicClearIsr) for event in events),
        sum(isinstance(event, ev.Instruction) and event.text.startswith("BTR") for event in events),
    )


def pv_eoi_ends(kernel: str = "6.12") -> Html:
    """For each vector and way: who ends it with AVIC off, inhibited, on and hybrid, and whether that takes an exit."""
    names = ("vector", "PV EOI", *(label for label, _ in AVICS))
    rows = []
    for label, vector in VECTORS:
        for _, way in WAYS:
            how = "yes" if way == "paravirtual" else "no"
            cells = [el("td", _who(*ended(vector, avic, way, kernel)[:3])) for _, avic in AVICS]
            rows.append(el("tr", el("th", label, scope="row"), el("td", how), *cells))
    head = el("tr", *(el("th", name, scope="col") for name in names))
    return Html(el("table", el("thead", head), el("tbody", *rows), class_="km-table km-six"))


def _who(bit: int, kvm: int, hardware: int) -> str:
    """In the order of cost; "×" where it is more than one."""
    kinds = (("KVM, an exit", kvm), ("the bit", bit), ("hardware", hardware))
    return "; ".join(f"{name}{f' ×{count}' if count > 1 else ''}" for name, count in kinds if count)


def pv_eoi_traces(kernel: str = "6.12") -> Html:
    """What guest and host show of each run in which PV EOI is offered. Zero is printed as 0."""
    names = ("vector", "AVIC", "bit tested", "kvm_eoi", "kvm_pv_eoi", "EOI trap")
    rows = []
    for label, vector in VECTORS:
        if vector == "two":
            continue  # its last EOI has no exit after it, so KVM never hears of it
        for _, avic in (choice for choice in AVICS if choice[1] != "inhibited"):
            events = pv_eoi_run(vector, avic, "paravirtual", kernel).trace.events
            traps = [event for event in events if isinstance(event, ev.KvmAvicUnacceleratedAccess)]
            counts = (
                ended(vector, avic, "paravirtual", kernel)[3],
                sum(isinstance(event, ev.KvmEoi) for event in events),
                sum(isinstance(event, ev.KvmPvEoi) for event in events),
                sum(event.offset == APIC_EOI for event in traps),
            )
            cells = [el("td", text) for text in (avic, *map(str, counts))]
            rows.append(el("tr", el("th", label, scope="row"), *cells))
    head = el("tr", *(el("th", name, scope="col") for name in names))
    return Html(el("table", el("thead", head), el("tbody", *rows), class_="km-table"))


def pv_eoi_toggled(kernel: str = "6.12") -> Html:
    """One guest with PV EOI takes an MSI with AVIC active, then inhibited, then active again: who ended each."""
    vm = Host(kernel=kernel, avic=True).create_vm(vcpus=1, boot=True, pit="discard")
    vm.execute(0, (f"pv_eoi_on {CELL:#x}",))
    vm.world.idt[0] = {0x41: "pv_eoi"}
    vm.run()
    rows = []
    for label, reinject in (("active", False), ("inhibited", True), ("active again", False)):
        vm.reinject_control(reinject)
        vm.vcpus[0].guest.vmmcall(1, 0, 0, 0, 0)  # some exit, after which the vCPU follows
        before = len(vm.trace)
        vm.signal_msi(0xFEE00000, 0x41)
        vm.run()
        events = vm.trace.events[before:]
        who = (
            sum(isinstance(event, ev.PvEoiByGuest) for event in events),
            sum(isinstance(event, ev.ClearIsr) for event in events),
            sum(isinstance(event, ev.AvicClearIsr) for event in events),
        )
        rows.append(el("tr", el("th", label, scope="row"), el("td", _who(*who))))
    head = el("tr", el("th", "AVIC", scope="col"), el("th", "ends the interrupt", scope="col"))
    return Html(el("table", el("thead", head), el("tbody", *rows), class_="km-table"))
