"""VMs on hosts with AVIC, and what happened in them, for the tests of AVIC."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kvmmodel import Host, Vm
from kvmmodel.events import Event, VmExit
from kvmmodel.facts.releases import kernel, series
from kvmmodel.silicon.avic_tables import PHYSICAL_IS_RUNNING

SERIES = series()
X2AVIC = tuple(k for k in SERIES if kernel(k).has("x2avic"))
BEFORE_X2AVIC = tuple(k for k in SERIES if k not in X2AVIC)
IPIV = tuple(k for k in SERIES if kernel(k).has("enable_ipiv"))  # that know the workaround of erratum 1235
NO_X2AVIC = "zen3,+avic"  # AVIC, no x2AVIC, and not of the families of erratum 1235
MSI, PAGE = 0xFEE00000, 0xFEE00000
ID, TPR, EOI, LDR, DFR, SVR, ESR, ICR, ICR2, TMICT = 0x20, 0x80, 0xB0, 0xD0, 0xE0, 0xF0, 0x280, 0x300, 0x310, 0x380
SELF_IPI = 0x3F0
LOGICAL, SELF, ALL, ALLBUT = 0x800, 0x40000, 0x80000, 0xC0000
INCOMPLETE, NOACCEL, MSR, NPF = "avic_incomplete_ipi", "avic_unaccelerated_access", "msr", "npf"


def vm(vcpus: int = 2, kernel: str = "7.3", *, cpu: str = "zen4", x2apic: bool | None = None, **options: Any) -> Vm:
    """A booted VM, whose vCPUs spin in the guest, and whose first access to the xAPIC's page is behind them.

    ``x2apic``: by default where the release has x2AVIC. ``options``: the VM's; with host=..., the host's.
    """
    host = Host(cpu, kernel, avic=True, **options.pop("host", {}))
    made = host.create_vm(vcpus, kernel in X2AVIC if x2apic is None else x2apic, boot=True, **options)
    made.run()
    clear(made)
    return made


def clear(made: Vm) -> None:
    made.trace.clear(made.machine.now)


def events(made: Vm, *kinds: type[Event]) -> list[Any]:
    return [event for event in made.trace.events if not kinds or isinstance(event, kinds)]


def exits(made: Vm, vcpu: int | None = None) -> list[str]:
    """Reasons of the #VMEXITs, of one vCPU or of all, but for those that a host interrupt forced."""
    found = [e for e in events(made, VmExit) if vcpu in (None, e.vcpu_id)]
    return [e.reason for e in found if e.reason != "interrupt"]


def order(made: Vm, *kinds: type[Event]) -> list[str]:
    """The names of these events as they came."""
    return [type(event).__name__ for event in events(made, *kinds)]


def block(made: Vm, *vcpus: int) -> None:
    """HLT; they sleep when this returns, and the trace is empty."""
    for index in vcpus:
        made.execute(index, ("hlt",))
    assert made.run(lambda: all(made.vcpus[i].kvm_vcpu.task.state == "blocked" for i in vcpus))
    clear(made)


def icr(made: Vm, low: int, dest: int = 0, sender: int = 0) -> None:
    """The guest writes the ICR as its mode wants it, and everything that follows happens."""
    guest = made.vcpus[sender].guest
    if made.vcpus[sender].inside.x2apic:
        guest.wrmsr(0x800 + (ICR >> 4), dest << 32 | low)
    else:
        guest.mmio_write(PAGE + ICR2, dest << 24)
        guest.mmio_write(PAGE + ICR, low)
    made.run()


def write(made: Vm, vcpu: int, register: int, value: int) -> None:
    guest = made.vcpus[vcpu].guest
    if made.vcpus[vcpu].inside.x2apic:
        guest.wrmsr(0x800 + (register >> 4), value)
    else:
        guest.mmio_write(PAGE + register, value)
    made.run()


def read(made: Vm, vcpu: int, register: int) -> int:
    guest = made.vcpus[vcpu].guest
    x2apic = made.vcpus[vcpu].inside.x2apic
    return guest.rdmsr(0x800 + (register >> 4)) if x2apic else guest.mmio_read(PAGE + register)


def handled(made: Vm) -> list[dict[int, int]]:
    return [vcpu.guest.handled for vcpu in made.vcpus]


def table(made: Vm) -> dict[int, int]:
    """The physical APIC ID table, as the processors read it."""
    kvm = made.machine.kvm
    return kvm.host.memory.tables[kvm.avic_physical_id_table]


def running(made: Vm, vcpu: int) -> tuple[bool, bool]:
    """IsRunning in KVM's own copy, and in the table."""
    kvm_vcpu = made.vcpus[vcpu].kvm_vcpu
    own, seen = kvm_vcpu.avic_physical_id_entry, table(made)[kvm_vcpu.vcpu_id]
    return own & PHYSICAL_IS_RUNNING != 0, seen & PHYSICAL_IS_RUNNING != 0


def at(made: Vm, kind: type[Event], call: Callable[[], object], always: bool = False) -> None:
    """In the middle of the first such event, or of all, do this."""
    done = list[bool]()

    def listen(event: Event) -> None:
        if isinstance(event, kind) and (always or not done):
            done.append(True)
            call()

    made.trace.listeners.append(listen)
