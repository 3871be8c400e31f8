"""The explorer of the page on apic_update_ppr: what KVM does about the priority after each exit, AVIC off and on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from kvmmodel import events as ev
from kvmmodel.machine.host import Host
from kvmmodel.machine.record import Record
from kvmmodel.machine.vm import Vm
from kvmmodel.scenarios.run import built_in, run
from kvmmodel.silicon.apic import APIC_TASKPRI
from kvmmodel.trace.steps import program_story
from kvmmodel.trace.story import BROKEN, Badge, Story
from kvmmodel.trace.telling_ppr import PPR_AVIC_TELLERS, PPR_TELLERS, after_exit
from kvmmodel.widgets.page import Html
from kvmmodel.widgets.stepper import Choice, Stepper, stepper
from kvmmodel.widgets.svg import el, rich

AVICS = (("off", "off"), ("on", "on"))
GUESTS = (
    ("only exits", "exits"),
    ("raises CR8, a vector comes", "raises"),
    ("lowers CR8, a vector comes", "lowers"),
    ("TPR = 0x35", "nibble"),
)
KERNELS = (("6.6", "6.6"), ("6.12", "6.12"), ("7.3.4", "7.3.4"))
VECTORS = {"exits": 0x51, "raises": 0x51, "lowers": 0x51, "nibble": 0x41}
TPR_WRITES = ("WRMSR 0x808 = ", "MOV CR8 = ")
FIRST_TPR = 0x10  # as the guest's start-up code leaves it
WORKLOADS = (
    ("three exits, nothing else", "ppr-exits"),
    ("IPI to a running vCPU", "ipi-in-guest"),
    ("IPI to a sleeping vCPU", "ipi-halted"),
    ("MSI for a running vCPU", "msi-in-guest"),
    ("timer, set and fired", "timer-in-guest"),
    ("TPR = 0x35", "ppr-nibble"),
)


def ppr_run(does: str, avic: str = "on", kernel: str = "6.12", broken: bool = False) -> Vm:
    """The run that a story tells. ``broken``: sync_cr8_to_lapic does nothing."""
    host = Host(kernel=kernel, avic=avic == "on")
    return run(built_in(f"ppr-{does}"), host, broken=("no-cr8-sync",) if broken else ())


def ppr_story(does: str = "exits", avic: str = "on", kernel: str = "6.12", broken: bool = False) -> Story:
    """One run: what the guest ``does`` (exits, raises, lowers or nibble), with AVIC off or on."""
    scenario, vm = built_in(f"ppr-{does}"), ppr_run(does, avic, kernel, broken)
    told = program_story(
        vm.trace.records,
        vm.host.kernel,
        (VECTORS[does],),
        title=scenario.title,
        setup=f"Kernel {vm.host.kernel.release}, {vm.host.processor.title}, `avic={int(avic == 'on')}`, x2APIC guest",
        badges=(BROKEN,) if broken else tuple(Badge(how, what) for how, what in scenario.known.items()),
        broken="`sync_cr8_to_lapic` does nothing" if broken else None,
        tellers=PPR_AVIC_TELLERS if avic == "on" else PPR_TELLERS,
    )
    return replace(told, verdict=_verdict(vm.trace.records, avic)) if broken else told


def _verdict(records: Sequence[Record], avic: str) -> str:
    """Whether a vector went in above the task priority that the guest had set, or waits though it set none."""
    tpr = FIRST_TPR
    for record in sorted(records, key=lambda record: record.t):
        event = record.event
        if isinstance(event, ev.Instruction) and event.text.startswith(TPR_WRITES):
            value = int(event.text.rpartition(" = ")[2], 16)
            tpr = value << 4 if event.text.startswith("MOV CR8") else value
        if isinstance(event, ev.HandlerEnter) and event.vector >> 4 <= tpr >> 4:
            return (
                f"Let in wrongly: the handler of `{event.vector:#x}` ran although the guest had raised CR8 to "
                f"`{tpr >> 4:#x}`. KVM still took the TPR for `{FIRST_TPR:#04x}`, and loaded that into CR8 again."
            )
    last = records[-1].states[0]
    waiting = last.irr.bit_length() - 1
    if waiting >> 4 > tpr >> 4:
        return (
            f"Held back wrongly: the guest had lowered CR8 to `{tpr >> 4:#x}`, and IRR `{waiting:#x}` waits. "
            f"KVM still takes the TPR for `{last.tpr:#04x}`, and has loaded that into CR8 again."
        )
    if avic == "on":
        return "Nothing lost. With AVIC, hardware keeps TPR and PPR in the page that KVM reads: the copy is the same."
    return "Nothing lost. The guest left CR8 alone, so there was nothing to copy."


def ppr_explorer(kernel: str = "6.12") -> Stepper:
    """The widget."""
    choices = (
        Choice("avic", "AVIC", AVICS, "on"),
        Choice("does", "The guest", GUESTS),
        Choice("kernel", "Kernel", KERNELS, kernel),
    )
    return stepper(ppr_story, choices, break_it="do not copy `V_TPR` after exits")


def ppr_counts(kernel: str = "6.12") -> Html:
    """For each workload, AVIC off and on: exits, and calls of apic_update_ppr by who makes them. Zero is printed."""
    names = ("run", "AVIC", "exits", "after an exit", "other calls", "ISR searched", "PPR changed")
    rows = []
    for label, scenario in WORKLOADS:
        for _, avic in AVICS:
            found = [str(n) for n in counted(scenario, avic, kernel)]
            rows.append(el("tr", el("th", label, scope="row"), *(el("td", text) for text in (avic, *found))))
    head = el("tr", *(el("th", name, scope="col") for name in names))
    return Html(el("table", el("thead", head), el("tbody", *rows), class_="km-table km-six"))


def counted(scenario: str, avic: str, kernel: str = "6.12") -> tuple[int, int, int, int, int]:
    """Exits; calls of apic_update_ppr after exits, and from elsewhere; calls that searched the ISR; calls after exits
    that changed the PPR."""
    records = run(built_in(scenario), Host(kernel=kernel, avic=avic == "on")).trace.records
    calls = [(record.event, after_exit(record)) for record in records if isinstance(record.event, ev.ApicUpdatePpr)]
    return (
        sum(isinstance(record.event, ev.VmExit) for record in records),
        sum(after for _, after in calls),
        sum(not after for _, after in calls),
        sum(event.scan for event, _ in calls),
        sum(after and event.old != event.new for event, after in calls),
    )


def restored_tpr(kernel: str, tpr: int = 0x30) -> int:
    """What becomes of a TPR that userspace loads by KVM_SET_LAPIC with AVIC active: the TPR after the next exit."""
    vm = Host(kernel=kernel, avic=True).create_vm(vcpus=1, boot=True)
    vcpu = vm.vcpus[0]

    def restore(_: object) -> None:
        page = bytearray(vcpu.get_lapic())
        page[APIC_TASKPRI] = tpr
        vcpu.set_lapic(bytes(page))

    vm.user_exits.append(restore)  # while the vCPU is in userspace: KVM_SET_LAPIC waits until then
    vm.execute(0, ("mark restore",))
    vm.run()
    vm.user_exits.remove(restore)
    vcpu.guest.vmmcall(1, 0, 0, 0, 0)
    return vcpu.lapic.tpr


def dangling(kernel: str) -> tuple[bool, int, int]:
    """AVIC goes on while CR8 writes are intercepted, then the guest writes 0 to CR8.

    Whether that exits; what the guest reads back; and the TPR that KVM has.
    """
    vm = Host(kernel=kernel, avic=True).create_vm(vcpus=1, boot=True, pit="reinject")
    vcpu = vm.vcpus[0]
    guest = vcpu.guest
    guest.cli()
    guest.write_cr8(5)
    guest.wrmsr(0x83F, 0x51)  # waits behind the TPR, so CR8 writes are intercepted
    vm.reinject_control(False)  # the PIT's was the only inhibit
    guest.vmmcall(1, 0, 0, 0, 0)
    before = len(vm.trace)
    guest.write_cr8(0)
    exits = any(isinstance(event, ev.VmExit) for event in vm.trace.events[before:])
    return exits, guest.read_cr8(), vcpu.lapic.tpr


def tpr_releases(kernels: Sequence[str] = ("6.1.150", "6.6", "6.12.40", "6.12", "7.3")) -> Html:
    """By kernel, with AVIC active: whether a TPR that userspace loads is kept, and a CR8 intercept that was left on."""
    rows = []
    for kernel in kernels:
        kept, (exits, read, tpr) = restored_tpr(kernel), dangling(kernel)
        texts = (f"`{kept:#04x}`", "exits" if exits else "no exit", f"`{read:#x}`", f"`{tpr:#04x}`")
        rows.append(el("tr", el("th", kernel, scope="row"), *(el("td", rich(text)) for text in texts)))
    names = ("kernel", "TPR after restoring `0x30`", "`MOV CR8 = 0`", "CR8 reads", "KVM's TPR")
    head = el("tr", *(el("th", rich(name), scope="col") for name in names))
    return Html(el("table", el("thead", head), el("tbody", *rows), class_="km-table"))
