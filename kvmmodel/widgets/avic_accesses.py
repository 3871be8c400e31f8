"""The registers of a guest's local APIC under AVIC, one by one: the accesses, and what a run or the tables say of each.

An outcome is a word of the manual's table, allowed, accelerated, trap or fault; or what KVM's intercepts make of it,
MSR; or, without AVIC, MSR or NPF; or #GP, in the guest and without an exit.
"""

from __future__ import annotations

from dataclasses import dataclass

from kvmmodel import events as ev
from kvmmodel.kvm.host_types import HostKernel
from kvmmodel.kvm.svm.avic.mode import passed_msrs
from kvmmodel.machine.host import Host
from kvmmodel.machine.record import Record
from kvmmodel.machine.vm import Vm
from kvmmodel.silicon import apic as hw
from kvmmodel.silicon.avic_access import ACCELERATED, ALLOWED, FAULT, GP, TRAP, classify_read, classify_write

CPU = "zen4"
EDGE, LEVEL, SELF, IPI = 0x51, 0x61, 0x42, 0x43
MSR, NPF, NONE = "MSR", "NPF", "—"
NO_EXIT = (ALLOWED, ACCELERATED, GP, NONE)
LIMIT_NS = 300_000


@dataclass(frozen=True, slots=True)
class Register:
    """``value``: what a write puts there, in xAPIC and in x2APIC mode. ``serves``: in service before."""

    label: str
    offset: int
    xapic: int
    x2apic: int
    serves: int = 0
    last: int = 0  # of a range, the last offset


REGISTERS: dict[str, Register] = {
    "id": Register("ID", hw.APIC_ID, 7 << 24, 7),
    "version": Register("Version", hw.APIC_LVR, 5, 5),
    "tpr": Register("TPR", hw.APIC_TASKPRI, 0x30, 0x30),
    "apr": Register("APR", hw.APIC_ARBPRI, 0x30, 0x30),
    "ppr": Register("PPR", hw.APIC_PROCPRI, 0x30, 0x30),
    "eoi": Register("EOI, edge", hw.APIC_EOI, 0, 0, EDGE),
    "eoi-level": Register("EOI, level", hw.APIC_EOI, 0, 0, LEVEL),
    "rrr": Register("Remote Read", hw.APIC_RRR, 1, 1),
    "ldr": Register("LDR", hw.APIC_LDR, 1 << 24, 1),
    "dfr": Register("DFR", hw.APIC_DFR, 0x0FFFFFFF, 1),
    "svr": Register("SVR", hw.APIC_SPIV, 0x1FF, 0x1FF),
    "isr": Register("ISR", hw.APIC_ISR + 0x20, 1, 1, last=hw.APIC_ISR + 0x70),
    "tmr": Register("TMR", hw.APIC_TMR + 0x20, 1, 1, last=hw.APIC_TMR + 0x70),
    "irr": Register("IRR", hw.APIC_IRR + 0x20, 1, 1, last=hw.APIC_IRR + 0x70),
    "esr": Register("ESR", hw.APIC_ESR, 0, 0),
    "icr": Register("ICR", hw.APIC_ICR, IPI, 1 << 32 | IPI),
    "icr2": Register("ICR2", hw.APIC_ICR2, 1 << 24, 1),
    "lvtt": Register("LVT timer", hw.APIC_LVTT, 0xE1, 0xE1),
    "lvt0": Register("LVT, others", hw.APIC_LVT0, 0x10000, 0x10000, last=hw.APIC_LVTERR),
    "tmict": Register("timer count", hw.APIC_TMICT, 100_000_000, 100_000_000),
    "tmcct": Register("its count now", hw.APIC_TMCCT, 5, 5),
    "tdcr": Register("timer divisor", hw.APIC_TDCR, 0xB, 0xB),
    "self": Register("SELF_IPI", hw.APIC_SELF_IPI, SELF, SELF),
}


def host(kernel: str) -> Host:
    return Host(CPU, kernel, avic=True)


def prepared(kernel: str, x2apic: bool, register: Register) -> Vm:
    """Two vCPUs in the guest, AVIC active if the release allows; a vector in service where the register wants one."""
    vm = host(kernel).create_vm(2, x2apic=x2apic, boot=True, pcpus=[2, 5])
    vm.run()
    if register.serves:
        vm.world.bodies["later"] = ()  # a handler that leaves the EOI to what interrupted it
        vm.world.idt.setdefault(0, {})[register.serves] = "later"
        vm.signal_msi(hw.APIC_DEFAULT_PHYS_BASE, register.serves | (0xC000 if register.serves == LEVEL else 0))
        vm.run()
    if register.offset == hw.APIC_ICR and not x2apic:
        vm.vcpus[0].guest.mmio_write(hw.APIC_DEFAULT_PHYS_BASE | hw.APIC_ICR2, 1 << 24)
    return vm


def accessed(vm: Vm, x2apic: bool, register: Register, write: bool) -> list[Record]:
    """Run one access of vCPU 0; the records since."""
    begin = len(vm.trace)
    msr, address = hw.APIC_BASE_MSR + (register.offset >> 4), hw.APIC_DEFAULT_PHYS_BASE | register.offset
    if x2apic:
        line = f"wrmsr {msr:#x} {register.x2apic:#x}" if write else f"rdmsr {msr:#x}"
    else:
        line = f"mmio_write {address:#x} {register.xapic:#x}" if write else f"mmio_read {address:#x}"
    vm.execute(0, (line,))
    vm.run(limit_ns=LIMIT_NS)
    return vm.trace.records[begin:]


def outcome(kernel: str, x2apic: bool, register: Register, write: bool) -> str:
    """By the manual's table, KVM's intercepts and the mode, without a run."""
    made = host(kernel).start([0, 1])
    if not x2apic:
        return _by_table(made, False, register, write)
    if not made.kernel.has("x2avic"):
        return MSR
    passed = passed_msrs(made)[1 if write else 0]
    if hw.APIC_BASE_MSR + (register.offset >> 4) not in passed:
        return MSR
    return _by_table(made, True, register, write)


def _by_table(made: HostKernel, x2apic: bool, register: Register, write: bool) -> str:
    if write and register.serves == LEVEL:
        return TRAP
    return (classify_write if write else classify_read)(register.offset, x2apic, made.open_points)


def seen(records: list[Record]) -> str | None:
    """The same from a run, as far as it tells: trap or fault as KVM takes it, MSR, NPF, #GP; None for none of them."""
    ours = [r.event for r in records if r.vcpu == 0]
    reasons = [e.reason for e in ours if isinstance(e, ev.VmExit)]
    if not reasons or reasons[0] not in ("msr", "npf", "avic_unaccelerated_access", "avic_incomplete_ipi"):
        return GP if any(isinstance(e, ev.Fault) for e in ours) else None
    if reasons[0] in ("msr", "npf"):
        return reasons[0].upper()
    return TRAP if next(e for e in ours if isinstance(e, ev.KvmAvicUnacceleratedAccess)).trap else FAULT
