"""A VM made step by step, as QEMU makes one, and the inhibits after each step: what the inhibit board shows.

The guest stays in xAPIC mode on its first vCPU, so that it can do what only an xAPIC's owner can.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from kvmmodel.events import Event, KvmApicvInhibitChanged, KvmApicvUpdateRequest
from kvmmodel.facts.inhibits import Reason, reasons
from kvmmodel.machine.host import Host
from kvmmodel.machine.record import Record
from kvmmodel.machine.vm import Vm
from kvmmodel.trace.stacks import names

EFER, SVME, APIC_BASE, XAPIC = 0xC0000080, 0x1000, 0x1B, 0xFEE00000
SINT2, AUTO_EOI = 0x40000092, 1 << 17
ID, LDR, SVR = 0x20, 0xD0, 0xF0
HELPERS = {  # on the way; who calls them counts
    "set_or_clear_apicv_inhibit",
    "__kvm_set_or_clear_apicv_inhibit",
    "kvm_set_or_clear_apicv_inhibit",
    "kvm_inc_or_dec_irq_window_inhibit",
    "__kvm_request_apicv_update",
    "kvm_request_apicv_update",
}


@dataclass(frozen=True, slots=True)
class Switch:
    """Something that a reader turns on. ``act`` does it in the running VM; None: an option of the VM or the host."""

    key: str
    label: str
    on: bool = False
    act: Callable[[Vm], None] | None = None
    step: str = ""  # what the step is called in the story


@dataclass(frozen=True, slots=True)
class Moment:
    """After a step: the VM's reasons, by id, the kernel function that changed them last, and vCPU 0's own reasons."""

    label: str
    inhibits: frozenset[str]
    by: str
    own: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Board:
    """What became of a VM. ``own``: vCPU 0's own reasons, which are in no mask."""

    host: Host
    reasons: tuple[Reason, ...]
    inhibits: frozenset[str]
    own: frozenset[str]
    moments: tuple[Moment, ...]

    @property
    def mask(self) -> int:
        return sum(1 << one.bit for one in self.reasons if one.id in self.inhibits)


def _extint(vm: Vm) -> None:
    """The 8259 gets its four words and all lines but IRQ 0 masked; that one rises, and the guest's IF is clear."""
    for port, value in ((0x20, 0x11), (0x21, 0x20), (0x21, 4), (0x21, 1), (0x21, 0xFE)):
        vm.vcpus[0].guest.outb(port, value)
    vm.irq_line(0, True)
    vm.run()


def _autoeoi(vm: Vm) -> None:
    vm.vcpus[0].guest.wrmsr(SINT2, AUTO_EOI | 0x50)


def _new_id(vm: Vm) -> None:
    vm.vcpus[0].guest.mmio_write(XAPIC + ID, 7 << 24)


def _same_id(vm: Vm) -> None:
    vm.vcpus[0].guest.mmio_write(XAPIC + ID, 1 << 24)


def _two_bits(vm: Vm) -> None:
    vm.vcpus[0].guest.mmio_write(XAPIC + SVR, 0x1FF)
    vm.vcpus[0].guest.mmio_write(XAPIC + LDR, 3 << 24)


def _moved(vm: Vm) -> None:
    vm.vcpus[0].guest.wrmsr(APIC_BASE, 0xFEF00900)


def _debugger(vm: Vm) -> None:
    vm.vcpus[1].set_guest_debug(blockirq=True)


def _l2(vm: Vm) -> None:
    vm.vcpus[0].guest.wrmsr(EFER, SVME)
    vm.vcpus[0].guest.vmrun("interrupt")
    vm.run()


SWITCHES = (
    Switch("off", "avic=N"),
    Switch("pit", "KVM's PIT, as QEMU makes it", True),
    Switch("x2apic", "X2APIC in CPUID, QEMU's default", True),
    Switch("sev", "encrypted guest (SEV)"),
    Switch("extint", "an 8259 interrupt, IF clear", act=_extint, step="ExtINT waits"),
    Switch("autoeoi", "AutoEOI (Hyper-V)", act=_autoeoi, step="SINT with AutoEOI"),
    Switch("id", "xAPIC ID written: a free one", act=_new_id, step="guest writes ID"),
    Switch("alias", "xAPIC ID written: vCPU 1's", act=_same_id, step="guest writes ID"),
    Switch("ldr", "LDR with two bits", act=_two_bits, step="guest writes LDR"),
    Switch("base", "APIC base moved", act=_moved, step="guest moves APIC"),
    Switch("blockirq", "debugger blocks interrupts", act=_debugger, step="SET_GUEST_DEBUG"),
    Switch("l2", "SVM in CPUID, L2 runs", act=_l2, step="L2 runs"),
)
BY_KEY = {switch.key: switch for switch in SWITCHES}


def board(kernel: str = "6.18", cpu: str = "zen4", **on: bool) -> Board:
    """Run it with these switches on, or off; others as they are by default. KeyError for one that there is not."""
    for key in on:
        BY_KEY[key]
    chosen = {switch.key: on.get(switch.key, switch.on) for switch in SWITCHES}
    host = Host(cpu, kernel, avic=not chosen["off"])
    vm = host.create_vm(2, x2apic=chosen["x2apic"], svm=chosen["l2"], sev=chosen["sev"], hyperv_synic=chosen["autoeoi"])
    moments = creation(vm)
    if chosen["pit"]:
        moments.append(step(vm, "create PIT", lambda made: made.create_pit2()))
    for switch in SWITCHES:
        if chosen[switch.key] and switch.act is not None and _known(switch, host):
            moments.append(step(vm, switch.step, switch.act))
    return Board(host, reasons(host.kernel), vm.inhibits, own_reasons(vm), tuple(moments))


def _known(switch: Switch, host: Host) -> bool:
    """The model has no KVM_GUESTDBG_BLOCKIRQ before 6.1."""
    return switch.key != "blockirq" or any(one.id == "BLOCKIRQ" for one in reasons(host.kernel))


def step(vm: Vm, label: str, act: Callable[[Vm], None]) -> Moment:
    """Do one thing, and see what it changed."""
    before, start = vm.inhibits, len(vm.trace.records)
    act(vm)
    by = _who(vm, vm.trace.records[start:]) if vm.inhibits != before else ""
    return Moment(label, vm.inhibits, by, own_reasons(vm))


def own_reasons(vm: Vm) -> frozenset[str]:
    l2 = vm.vcpus[0].kvm_vcpu.guest_mode
    return frozenset(one.id for one in reasons(vm.host.kernel) if one.scope == "vCPU" and l2)


def creation(vm: Vm) -> list[Moment]:
    """What KVM_CREATE_VM, the irqchip and the vCPUs did, from the trace; before 6.1 it tells less."""
    moments = [Moment("create VM", frozenset(), "")]
    records = [r for r in vm.trace.records if isinstance(r.event, KvmApicvInhibitChanged)]
    known = {one.bit: one.id for one in reasons(vm.host.kernel)}
    for record in records:
        event = record.event
        assert isinstance(event, KvmApicvInhibitChanged)
        mask = frozenset(known[bit] for bit in known if event.inhibits >> bit & 1)
        by, now = _caller(vm, record), moments[-1].inhibits
        if event.set and "kvm_apicv_init" in {frame.name for frame in record.stack}:
            moments[0] = Moment("create VM", mask, by)
        elif mask != now:
            sev = "KVM_SEV_INIT" if "SEV" in mask - now else "create vCPUs"
            moments.append(Moment("create irqchip" if now - mask == {"ABSENT"} else sev, mask, by))
    if "DISABLED" in vm.inhibits - moments[-1].inhibits:
        return [Moment("create VM", vm.inhibits, "kvm_apicv_init")]
    if moments[-1].inhibits != vm.inhibits:
        moments.append(Moment("create vCPUs", vm.inhibits, _who(vm, vm.trace.records)))
    return moments


def _who(vm: Vm, records: list[Record]) -> str:
    """Who changed the inhibits, by the last event that says so."""
    telling: tuple[type[Event], ...] = (KvmApicvInhibitChanged, KvmApicvUpdateRequest)
    found = [r for r in records if isinstance(r.event, telling) and _changes(r.event)]
    return _caller(vm, found[-1]) if found else ""


def _changes(event: Event) -> bool:
    return isinstance(event, KvmApicvUpdateRequest) or (isinstance(event, KvmApicvInhibitChanged) and event.set)


def _caller(vm: Vm, record: Record) -> str:
    """The innermost function that is no helper of the inhibits themselves."""
    shown = names(record.stack, vm.host.kernel)
    return next((name for name in shown if name not in HELPERS), "")
