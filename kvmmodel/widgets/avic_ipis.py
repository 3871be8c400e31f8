"""IPIs that AVIC carries out alone, or not: which exit 401h they end in, what is done by then, and what KVM does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from kvmmodel import events as ev
from kvmmodel.facts.releases import series
from kvmmodel.machine.record import Record
from kvmmodel.machine.vm import Vm
from kvmmodel.silicon import apic as hw
from kvmmodel.trace.steps import story
from kvmmodel.trace.story import BROKEN, Badge, Story
from kvmmodel.trace.telling_ipi import IPI_TELLERS
from kvmmodel.widgets.avic_accesses import host
from kvmmodel.widgets.avic_exits import APICS, KERNELS, RULE, setup
from kvmmodel.widgets.ipi_costs import ranges
from kvmmodel.widgets.page import Html
from kvmmodel.widgets.stepper import Choice, Stepper, stepper
from kvmmodel.widgets.svg import el, rich

VECTOR, NMI = 0x43, 2
NAMES = ("invalid type", "target not running", "invalid target", "invalid backing page", "invalid vector")


@dataclass(frozen=True, slots=True)
class Ipi:
    """The ICR's low half, its destination in xAPIC and x2APIC mode, and which of vCPUs 1 and 2 are meant."""

    label: str
    low: int
    xapic: int
    x2apic: int
    meant: tuple[int, ...]
    words: str


IPIS = {
    "one": Ipi("to vCPU 1", VECTOR, 1, 1, (1,), "Fixed, physical, to vCPU 1"),
    "two": Ipi("to 1 and 2", hw.APIC_DEST_LOGICAL | VECTOR, 0b110, 0b110, (1, 2), "Fixed, logical, to vCPUs 1 and 2"),
    "all": Ipi("all but self", hw.APIC_DEST_ALLBUT | VECTOR, 0, 0, (1, 2), "Fixed, all but self"),
    "hole": Ipi(
        "to 1 and nobody",
        hw.APIC_DEST_LOGICAL | VECTOR,
        0b1010,
        0b1010,
        (1,),
        "Fixed, logical, to vCPU 1 and a bit without one",
    ),
    "absent": Ipi("to nobody", VECTOR, 9, 9, (), "Fixed, physical, to an ID that no vCPU has"),
    "nmi": Ipi("NMI", hw.APIC_DM_NMI | NMI, 1, 1, (1,), "NMI, physical, to vCPU 1"),
    "low": Ipi("vector 5", 5, 1, 1, (), "Fixed, vector 5, to vCPU 1"),
}
STATES = (("in the guest", "guest"), ("asleep", "asleep"))


@dataclass(frozen=True, slots=True)
class Sent:
    """What a run shows. ``exit``: ID, EXITINFO1, EXITINFO2's index; None without exit 401h. ``irr``: whose bit was set
    before it. ``rung``: by the processor. ``kvm_rings``, ``kvm_wakes``: by KVM. ``emulated``: KVM sent it in software.
    ``took``: who has taken it in the end."""

    vm: Vm
    records: tuple[Record, ...]
    exit: tuple[int, int, int] | None
    irr: tuple[int, ...]
    rung: tuple[int, ...]
    kvm_rings: tuple[int, ...]
    kvm_wakes: tuple[int, ...]
    emulated: bool
    took: tuple[int, ...]


def send(ipi: str, state: str, kernel: str, apic: str, broken: bool = False) -> Sent:
    """vCPU 0 sends; vCPU 1 is in the guest or asleep, vCPU 2 in the guest."""
    made, x2apic = IPIS[ipi], apic == "x2"
    vm = host(kernel).create_vm(3, x2apic=x2apic, boot=True, pcpus=[2, 5, 7])
    vm.run()
    if not x2apic:
        for vcpu in vm.vcpus:  # flat logical IDs, as a guest OS sets them
            vcpu.guest.mmio_write(hw.APIC_DEFAULT_PHYS_BASE | hw.APIC_LDR, 1 << 24 + vcpu.id)
    if state == "asleep":
        vm.execute(1, ("hlt",))
    vm.run()
    if broken:
        vm.leave_out("no-avic-exits")
    begin = len(vm.trace)
    page = hw.APIC_DEFAULT_PHYS_BASE
    lines = [
        f"mmio_write {page | hw.APIC_ICR2:#x} {made.xapic << 24:#x}",
        f"mmio_write {page | hw.APIC_ICR:#x} {made.low:#x}",
    ]
    vm.execute(0, (f"wrmsr ICR {made.x2apic << 32 | made.low:#x}",) if x2apic else tuple(lines))
    vm.run()
    return _seen(vm, vm.trace.records[begin:], made)


def _seen(vm: Vm, records: list[Record], ipi: Ipi) -> Sent:
    events = [record.event for record in sorted(records, key=lambda record: record.t)]
    exits = [e for e in events if isinstance(e, ev.KvmAvicIncompleteIpi)]
    exit_ = (exits[0].id, exits[0].icrh << 32 | exits[0].icrl, exits[0].index) if exits else None
    vector = ipi.low & hw.APIC_VECTOR_MASK
    return Sent(
        vm,
        tuple(records),
        exit_,
        tuple(e.apic_id for e in events if isinstance(e, ev.AvicSetIrr) and e.vector == vector),
        tuple(e.apic_id for e in events if isinstance(e, ev.AvicRing)),
        tuple(e.vcpu_id for e in events if isinstance(e, ev.RingDoorbell)),
        tuple(e.vcpu_id for e in events if isinstance(e, ev.WakeUp) and e.vcpu_id),
        any(isinstance(e, ev.KvmApicIpi) for e in events),
        tuple(vcpu.id for vcpu in vm.vcpus if vcpu.guest.handled.get(vector)),
    )


def ipi_story(
    ipi: str = "two", state: str = "asleep", apic: str = "x", kernel: str = "7.3", broken: bool = False
) -> Story:
    """One IPI, told up to vCPU 1's EOI. All are values of the choices."""
    sent, made = send(ipi, state, kernel, apic, broken), IPIS[ipi]
    known = (BROKEN,) if broken else (Badge("manual", "AMD APM 15.29.6"), Badge("source", "5.10 to 7.3"))
    told = story(
        sent.records,
        sent.vm.host.kernel,
        "ipi",
        made.low & hw.APIC_VECTOR_MASK,
        1,
        title=made.words,
        setup=setup(sent.vm, apic),
        badges=known,
        broken=RULE if broken else None,
        tellers=IPI_TELLERS,
    )
    return replace(told, counted=len(made.meant) < 2, verdict=verdict(sent, made), lost=lost(sent, made))


def lost(sent: Sent, ipi: Ipi) -> bool:
    """Whether somebody who is meant has not got it."""
    return not set(ipi.meant) <= set(sent.took)


def verdict(sent: Sent, ipi: Ipi) -> str:
    """The exit, and what became of the IPI."""
    if sent.exit is None:
        first = "No exit 401h."
    else:
        ident, info1, index = sent.exit
        first = (
            f"Exit 401h, ID {ident}, {NAMES[ident]}. `EXITINFO1` `{info1:#x}`, `EXITINFO2` `{ident << 32 | index:#x}`."
        )
    if lost(sent, ipi):
        missing = [n for n in ipi.meant if n not in sent.took]
        asleep = [n for n in missing if n in sent.irr]
        stuck = f" The IRR bit of vCPU {_list(asleep)} is set, but nothing wakes it." if asleep else ""
        return f"{first} Lost for vCPU {_list(missing)}.{stuck}"
    return f"{first} Taken by {_vcpus(sent.took)}." if ipi.meant else f"{first} Nobody was to take it, and nobody has."


def _list(numbers: Sequence[int]) -> str:
    return " and ".join(map(str, numbers))


def _vcpus(numbers: Sequence[int]) -> str:
    return f"vCPU{'s' * (len(numbers) > 1)} {_list(numbers)}" if numbers else "nobody"


def ipi_explorer(kernel: str = "7.3") -> Stepper:
    """The widget."""
    choices = (
        Choice("ipi", "IPI", tuple((made.label, key) for key, made in IPIS.items()), "two"),
        Choice("state", "vCPU 1", STATES, "asleep"),
        Choice("apic", "Guest's APIC", APICS),
        Choice("kernel", "Kernel", KERNELS, kernel),
    )
    return stepper(ipi_story, choices, break_it="KVM ignores both exits")


def ipi_table(state: str = "asleep") -> Html:
    """Every IPI with vCPU 1 in a state and vCPU 2 in the guest: by release the ID, whose IRR bit is set by then, and
    what KVM does. A mode of the guest's APIC is named only where the modes differ, from 6.1 on."""
    heads = ("kernels", "ID", "IRR set", "then KVM", "taken by")
    bodies = []
    for key, made in IPIS.items():
        old, new = _by_kernel(key, state, "x", series()), _by_kernel(key, state, "x2", series()[2:])
        same = {row for row, kernels in old.items() if kernels[-1] in series()[2:]} == new.keys()
        for words, found in [("", old)] if same else [(", xAPIC", old), (", x2APIC", new)]:
            over = el("th", rich(made.words + words), scope="rowgroup", colspan=str(len(heads)), class_="km-over")
            rows = [
                el("tr", el("th", ranges(kernels), scope="row"), *(el("td", rich(text)) for text in row))
                for row, kernels in found.items()
            ]
            bodies.append(el("tbody", el("tr", over), *rows))
    head = el("tr", *(el("th", text, scope="col") for text in heads))
    return Html(el("table", el("thead", head), *bodies, class_="km-table km-tight"))


def _by_kernel(ipi: str, state: str, apic: str, kernels: Sequence[str]) -> dict[tuple[str, ...], list[str]]:
    found: dict[tuple[str, ...], list[str]] = {}
    for kernel in kernels:
        sent = send(ipi, state, kernel, apic)
        found.setdefault(_row(sent, IPIS[ipi]), []).append(kernel)
    return found


def _row(sent: Sent, ipi: Ipi) -> tuple[str, str, str, str]:
    ident = "no exit" if sent.exit is None else str(sent.exit[0])
    acts = ["sends it in software"] if sent.emulated else []
    acts += [f"wakes {_list(sent.kvm_wakes)}"] if sent.kvm_wakes and not sent.emulated else []
    acts += [f"rings {_list(sent.kvm_rings)}"] if sent.kvm_rings and not sent.emulated else []
    took = _list(sent.took) or ("nobody" if ipi.meant else "—")
    if sent.took and lost(sent, ipi):
        took += " only"
    return ident, _list(sent.irr) or "—", ", ".join(acts) or "nothing", took
