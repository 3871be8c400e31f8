"""The explorer of the page on x2APIC and x2AVIC: the guest's APIC mode, the processor, the kernel, and one access."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from kvmmodel.events import Instruction
from kvmmodel.machine.host import Host
from kvmmodel.machine.record import Record
from kvmmodel.machine.vm import Vm
from kvmmodel.silicon import apic as hw
from kvmmodel.trace.access import access
from kvmmodel.trace.steps import access_story, story
from kvmmodel.trace.story import BROKEN, Badge, Story
from kvmmodel.trace.telling_ipi import IPI_TELLERS
from kvmmodel.widgets.stepper import Choice, Stepper, stepper

APICS = (("x2APIC", "x2"), ("xAPIC", "x"))
CPUS = (("Zen 4, x2AVIC", "zen4"), ("Zen 2, no x2AVIC", "zen2"))
KERNELS = (("5.15", "5.15"), ("6.1", "6.1"), ("6.12", "6.12"), ("6.18", "6.18"), ("7.3", "7.3"))
ACTIONS = (
    ("IPI", "ipi"),
    ("SELF_IPI", "self"),
    ("EOI, level", "eoi"),
    ("TPR", "tpr"),
    ("read IRR", "read"),
    ("start timer", "timer"),
)
IPI, SELF, LEVEL = 0x43, 0x42, 0x61
MODES = {"off": "AVIC off", "xavic": "xAVIC", "x2avic": "x2AVIC", "hybrid": "hybrid AVIC"}
TITLES = {
    "ipi": "An IPI to a vCPU in guest mode",
    "self": "An IPI to oneself",
    "eoi": "The EOI of a level interrupt",
    "tpr": "A write to the TPR",
    "read": "A read of an IRR word",
    "timer": "A write that starts the timer",
}
KNOWN = (Badge("source", "6.1, 6.12, 7.2, 7.3"), Badge("manual", "AMD APM 15.29"))
INSIDE = "No exit, and no KVM code: the processor did it all in the vCPU's own page of registers."


@dataclass(frozen=True, slots=True)
class Act:
    """What vCPU 0 does: an access by register offset, and the value of a write, None for a read."""

    offset: int
    value: int | None


ACTS = {
    "ipi": Act(hw.APIC_ICR, IPI),
    "self": Act(hw.APIC_SELF_IPI, SELF),
    "eoi": Act(hw.APIC_EOI, 0),
    "tpr": Act(hw.APIC_TASKPRI, 0x30),
    "read": Act(hw.APIC_IRR + 0x20, None),
    "timer": Act(hw.APIC_TMICT, 100_000_000),
}


def x2avic_run(apic: str, cpu: str, kernel: str, action: str, broken: bool = False) -> tuple[Vm, list[Record]]:
    """The VM, and what happened from the access on. ``broken``: AVIC was active, then a PIT inhibited it, and the MSRs
    that x2AVIC had opened stayed open."""
    host, x2apic = Host(cpu, kernel, avic=True), apic == "x2"
    vm = host.create_vm(2, x2apic=x2apic, boot=True, pcpus=[2, 5], broken=("no-msr-intercept",) if broken else ())
    vm.run()
    if broken:
        vm.create_pit2()
        vm.run()
    if action == "eoi":
        vm.world.bodies["later"] = ()  # a handler that leaves the EOI to what interrupted it
        vm.world.idt.setdefault(0, {})[LEVEL] = "later"
        vm.signal_msi(hw.APIC_DEFAULT_PHYS_BASE | 0 << 12, 0xC000 | LEVEL)
        vm.run()
    begin = len(vm.trace)
    _act(vm, ACTS[action], x2apic)
    vm.run()
    return vm, vm.trace.records[begin:]


def _act(vm: Vm, act: Act, x2apic: bool) -> None:
    guest = vm.vcpus[0].guest
    address, msr = hw.APIC_DEFAULT_PHYS_BASE | act.offset, hw.APIC_BASE_MSR + (act.offset >> 4)
    if act.value is None:
        guest.rdmsr(msr) if x2apic else guest.mmio_read(address)
    elif act.offset == hw.APIC_SELF_IPI and not x2apic:
        guest.mmio_write(hw.APIC_DEFAULT_PHYS_BASE | hw.APIC_ICR, hw.APIC_DEST_SELF | act.value)
    elif x2apic:
        guest.wrmsr(msr, 1 << 32 | act.value if act.offset == hw.APIC_ICR else act.value)
    else:
        if act.offset == hw.APIC_ICR:
            guest.mmio_write(hw.APIC_DEFAULT_PHYS_BASE | hw.APIC_ICR2, 1 << 24)
        guest.mmio_write(address, act.value)


def x2avic_story(
    apic: str = "x2", cpu: str = "zen4", kernel: str = "7.3", action: str = "ipi", broken: bool = False
) -> Story:
    """One access, told. All four are values of the choices."""
    vm, records = x2avic_run(apic, cpu, kernel, action, broken)
    made = vm.host
    title = TITLES[action] + (", by the ICR" if action == "self" and apic == "x" else "")
    setup, known = _setup(vm, apic), (BROKEN,) if broken else KNOWN
    if action in ("ipi", "self"):
        vector, target = (IPI, 1) if action == "ipi" else (SELF, 0)
        told = story(
            records, made.kernel, "ipi", vector, target, title=title, setup=setup, badges=known, tellers=IPI_TELLERS
        )
    else:
        found = access(records, 0, _first(records))
        told = access_story(found.records, made.kernel, title=title, setup=setup, badges=known)
    inside = all(step.kind != "exit" for step in told.steps)
    told = replace(told, counted=True, verdict=told.verdict or (INSIDE if inside else None))
    if not broken:
        return told
    rule = "`avic_deactivate_vmcb` does not intercept the x2APIC's MSRs again"
    return replace(told, broken=rule, verdict=_verdict(told))


def _first(records: Sequence[Record]) -> str:
    return next(r.event.text for r in records if isinstance(r.event, Instruction) and r.event.vcpu_id == 0)


def _setup(vm: Vm, apic: str) -> str:
    mode = vm.vcpus[0].avic_mode
    reasons = f" by {', '.join(f'`{name}`' for name in sorted(vm.inhibits))}" if mode == "off" else ""
    guest = "x2APIC" if apic == "x2" else "xAPIC"
    ipiv = ", `enable_ipiv=N`" if vm.host.params.get("enable_ipiv") is False and mode == "xavic" else ""
    what = f"{MODES[mode]}{reasons}{ipiv}"
    return f"Kernel {vm.host.kernel.release}, {vm.host.processor.title}, `avic=1`, {guest} guest: {what}"


def _verdict(told: Story) -> str:
    """Whether anything left the VM."""
    leaks = [step for step in told.steps if step.label.endswith("of the host's APIC")]
    if not leaks:
        return "Nothing got out. x2AVIC has not opened this register here, so the access exits as it should."
    return (
        "Out of the VM: the guest has accessed the APIC of the host's CPU, and its own knows nothing of it. "
        "It could send interrupts to the host, raise its task priority, or end an interrupt that is not its own."
    )


def x2avic_explorer(kernel: str = "7.3") -> Stepper:
    """The widget."""
    choices = (
        Choice("apic", "Guest's APIC", APICS),
        Choice("cpu", "Processor", CPUS),
        Choice("kernel", "Kernel", KERNELS, kernel),
        Choice("action", "vCPU 0", ACTIONS),
    )
    return stepper(x2avic_story, choices, break_it="leave the MSRs open when AVIC goes off")
