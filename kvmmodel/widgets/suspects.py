"""Who could have inhibited AVIC in a VM that used PV EOI: each reason, run, and what a set of stacks says about it.

The workload is that of the scenario inhibits-none. The question to each run: is there a stack in which
kvm_lapic_sync_from_vapic calls apic_set_eoi?
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from kvmmodel.facts.inhibits import reason, reasons
from kvmmodel.facts.releases import kernel as release
from kvmmodel.machine.host import Host
from kvmmodel.machine.vm import Vm
from kvmmodel.scenarios.run import built_in, run
from kvmmodel.trace.probe import probe
from kvmmodel.widgets.page import Html
from kvmmodel.widgets.svg import el, rich

NOTES_KERNEL = "6.12"
EFER, SVME, APIC_BASE, PV_EOI_EN, X2APIC_LVT0 = 0xC0000080, 0x1000, 0x1B, 0x4B564D04, 0x835
SINT2, AUTO_EOI, MSI = 0x40000092, 1 << 17, 0xFEE00000
CELL = 0x5000  # where the guest has its PV EOI bit
PV_EOI_BY_KVM = {"apic_set_eoi", "kvm_lapic_sync_from_vapic"}


@dataclass(frozen=True, slots=True)
class Way:
    """How a run comes to have a reason: options of create_vm, what is done before the workload, and in words."""

    words: str
    options: dict[str, Any] = field(default_factory=dict)
    prepare: Callable[[Vm], None] | None = None
    avic: bool = True


def _autoeoi(vm: Vm) -> None:
    vm.vcpus[1].set_msr(SINT2, AUTO_EOI | 0x50)


def _blockirq(vm: Vm) -> None:
    vm.vcpus[1].set_guest_debug(blockirq=True)


def _moved(vm: Vm) -> None:
    vm.vcpus[1].set_msr(APIC_BASE, 0xFEF00000 | vm.vcpus[1].get_msr(APIC_BASE) & 0xFFF)


def _extint(vm: Vm) -> None:
    vm.vcpus[1].guest.cli()
    vm.vcpus[1].guest.wrmsr(X2APIC_LVT0, 0x700)
    vm.vcpus[1].interrupt(0x20)
    vm.run()


WAYS = {
    "DISABLED": Way("`avic=N`", avic=False),
    "HYPERV": Way("vCPU 1 has a SINT with AutoEOI", {"hyperv_synic": True}, _autoeoi),
    "BLOCKIRQ": Way("a debugger holds back vCPU 1's interrupts", {}, _blockirq),
    "APIC_BASE_MODIFIED": Way("vCPU 1's APIC is moved", {}, _moved),
    "IRQWIN": Way("an ExtINT waits on vCPU 1, all the time", {"irqchip": "split", "pit": None}, _extint),
    "PIT_REINJ": Way("a PIT in reinject mode", {"pit": "reinject"}),
    "SEV": Way("an encrypted guest", {"sev": True}),
}
# Reasons that a guest in x2APIC mode on all vCPUs cannot give.
XAPIC_ONLY = ("PHYSICAL_ID_ALIASED", "APIC_ID_MODIFIED", "LOGICAL_ID_ALIASED")

# What the engineer's notes say of a reason: whether they exclude it, and why, or what would tell.
NOTES = {
    "DISABLED": (
        False,
        "They say that AVIC was switched on, not what `/sys/module/kvm_amd/parameters/avic` showed then. "
        "If N, this is it.",
    ),
    "HYPERV": (False, "PV EOI is a Linux guest's, and Linux as KVM's guest uses no SynIC (inferred)."),
    "ABSENT": (True, "Without an irqchip in the kernel there are no `apic_*` frames."),
    "BLOCKIRQ": (False, "No debugger is mentioned."),
    "PHYSICAL_ID_ALIASED": (True, "`kvm_x2apic_icr_write` is on their stacks: an x2APIC guest, if it is the same one."),
    "APIC_ID_MODIFIED": (True, "The same: an x2APIC's ID cannot be written."),
    "APIC_BASE_MODIFIED": (False, "A guest has to do it; that no ordinary one does is recalled."),
    "NESTED": (True, "Only while L2 runs, and only if L1 lets interrupts through. KVM as L1 does not (source)."),
    "IRQWIN": (False, "It ends with the wait. For 124 stacks something would have to wait again and again (inferred)."),
    "PIT_REINJ": (False, "QEMU's default, and nobody has to say a word about it (source)."),
    "SEV": (False, "Nothing says that the guest is encrypted, or that it is not."),
    "LOGICAL_ID_ALIASED": (True, "An x2APIC's logical ID follows from its ID."),
    "PHYSICAL_ID_TOO_BIG": (False, "It would take a vCPU ID above 254 without x2AVIC, or above 511 with it."),
    "X2APIC": (True, "Their source has `avic_hardware_setup`, which 5.15 has not."),
}


@dataclass(frozen=True, slots=True)
class Suspect:
    """``seen``: the stack came in the run; None: there was no run. ``out``: the notes exclude it."""

    name: str
    words: str
    seen: bool | None
    out: bool
    because: str


CR8_SYNC = {"kvm_set_cr8", "svm_vcpu_run"}


def stacks_seen(pit: str, kernel: str = NOTES_KERNEL, cpu: str = "zen4") -> dict[str, bool]:
    """Which of the two stacks under apic_update_ppr a run has, with avic=Y and a PIT that reinjects or discards."""
    with probe() as seen:
        run(built_in("inhibits-pit"), Host(cpu, kernel, avic=True), pit=pit)
    under = [{f.name for f in stack} for stack in seen.stacks if stack[0].name == "apic_update_ppr"]
    return {
        "kvm_lapic_sync_from_vapic": any(names >= PV_EOI_BY_KVM for names in under),
        "kvm_set_cr8": any(names >= CR8_SYNC for names in under),
    }


def shows_pv_eoi(work: Callable[[], object]) -> bool:
    """Whether KVM carries out a PV EOI in a run."""
    with probe() as seen:
        work()
    return any({frame.name for frame in stack} >= PV_EOI_BY_KVM for stack in seen.stacks)


@cache
def suspects(kernel: str = NOTES_KERNEL) -> tuple[Suspect, ...]:
    """All reasons of the release, in the order of their bits."""
    found = []
    for one in reasons(release(kernel)):
        if one.id == "NESTED":
            words, seen = "L2 on vCPU 0, L1 intercepts interrupts", nested(kernel, "interrupt")
        elif one.id in WAYS:
            words, seen = WAYS[one.id].words, _run(kernel, one.id)
        else:
            words, seen = "not for an x2APIC guest" if one.id in XAPIC_ONLY else "not run", None
        found.append(Suspect(one.name, words, seen, *NOTES[one.id]))
    return tuple(found)


def _run(kernel: str, ident: str) -> bool:
    way = WAYS[ident]
    host = Host(kernel=kernel, avic=way.avic)

    def prepare(vm: Vm) -> None:
        if way.prepare is not None:
            way.prepare(vm)
        if ident not in vm.inhibits:
            raise ValueError(f"the run for {reason(host.kernel, ident).name} did not set it: {sorted(vm.inhibits)}")

    return shows_pv_eoi(lambda: run(built_in("inhibits-none"), host, prepare=prepare, **way.options))


def nested(kernel: str, *intercepts: str) -> bool:
    """vCPU 0 of an L1 with PV EOI runs L2 while a vector arrives; ``intercepts``: what ends L2."""

    def work() -> None:
        vm = Host(kernel=kernel, avic=True).create_vm(1, boot=True, svm=True)
        guest = vm.vcpus[0].guest
        vm.world.pv_eoi[0] = CELL
        vm.world.idt[0] = {0x41: "pv_eoi"}
        guest.wrmsr(PV_EOI_EN, CELL | 1)
        guest.wrmsr(EFER, SVME)
        guest.vmrun(*intercepts)
        for _ in range(2):
            vm.signal_msi(MSI, 0x41)
            vm.run()
        if intercepts:
            guest.stgi()
            vm.run()
            guest.rdmsr(APIC_BASE)

    return shows_pv_eoi(work)


def suspects_table(kernel: str = NOTES_KERNEL) -> Html:
    """For each reason: the run, whether the stack came, and what the notes say."""
    names = ("reason", "the run", "stack", "the notes")
    rows = []
    for one in suspects(kernel):
        seen = "no run" if one.seen is None else "yes" if one.seen else "no"
        told = ("**out.** " if one.out else "") + one.because
        cells = (el("td", rich(one.words)), el("td", seen), el("td", _told(told)))
        rows.append(el("tr", el("th", rich(f"`{one.name}`"), scope="row"), *cells))
    head = el("tr", *(el("th", name, scope="col") for name in names))
    return Html(el("table", el("thead", head), el("tbody", *rows), class_="km-table km-tight"))


def _told(text: str) -> str:
    bold, rest = ("Out. ", text.removeprefix("**out.** ")) if text.startswith("**") else ("", text)
    return (el("b", bold) if bold else "") + rich(rest)
