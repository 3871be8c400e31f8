"""A guest's accesses to its local APIC's registers with AVIC: those that need no exit, and how the others leave."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from kvmmodel.events import HostApicAccess
from kvmmodel.silicon import apic as hw
from kvmmodel.silicon import avic
from kvmmodel.silicon.avic_access import ACCELERATED, FAULT, GP, TRAP, classify_read, classify_write
from kvmmodel.silicon.avic_tables import BackingPage
from kvmmodel.silicon.vmcb import SVM_EXIT_AVIC_INCOMPLETE_IPI, SVM_EXIT_AVIC_UNACCELERATED_ACCESS

if TYPE_CHECKING:
    from kvmmodel.guest.cpu import GuestCpu
    from kvmmodel.guest.insn import Insn

WRITE = 1 << 32  # in EXITINFO1


@dataclass(frozen=True, slots=True)
class Outcome:
    """``done``: the instruction is complete, with this ``result``. ``gp``: it takes a #GP instead.

    ``exit``: code, EXITINFO1, EXITINFO2; behind the instruction if it is done (a trap), else before it (a fault).
    """

    done: bool = True
    result: int = 0
    gp: bool = False
    exit: tuple[int, int, int] | None = None


def access(guest: GuestCpu, insn: Insn) -> Outcome | None:
    """None: it is not AVIC that decides about this instruction."""
    unit, vmcb = guest.avic, guest.vmcb
    if insn.op in ("wrmsr", "rdmsr"):
        passed = vmcb.msr_writes if insn.op == "wrmsr" else vmcb.msr_reads
        if unit is None or insn.a not in passed:
            return None
        if not (vmcb.avic_enable and vmcb.x2apic_mode):
            guest.emit(HostApicAccess(guest.ident, insn.a, insn.op == "wrmsr"))
            return Outcome()  # what the host's APIC makes of it is not modelled; a read gives 0
        offset = insn.a - hw.APIC_BASE_MSR << 4
    elif insn.op in ("mmio_write", "mmio_read"):
        if insn.a & ~0xFFF != hw.APIC_DEFAULT_PHYS_BASE or not guest.apic_page_mapped():
            return None
        if unit is None or not vmcb.avic_enable or vmcb.x2apic_mode:
            return _scratch_page(guest, insn)
        offset = insn.a & 0xFF0
    else:
        return None
    unit.vmcb = vmcb
    return _write(unit, insn.b, offset) if insn.op in ("wrmsr", "mmio_write") else _read(unit, offset)


def _scratch_page(guest: GuestCpu, insn: Insn) -> Outcome:
    """The page behind the xAPIC's address, as memory: for a vCPU whose APIC is not there, but others' are."""
    if insn.op == "mmio_write":
        guest.memory[insn.a] = insn.b
    return Outcome(result=guest.memory.get(insn.a, 0))


def _read(unit: avic.AvicUnit, offset: int) -> Outcome:
    x2apic = unit.vmcb.x2apic_mode
    how = classify_read(offset, x2apic, unit.open, unit.extended_lvt)
    if how == GP:
        return Outcome(False, gp=True)
    if how == FAULT:
        return Outcome(False, exit=(SVM_EXIT_AVIC_UNACCELERATED_ACCESS, offset, 0))
    return Outcome(result=read_page(avic.backing_page(unit), offset, x2apic))


def read_page(page: BackingPage, offset: int, x2apic: bool) -> int:
    """A register as the page has it; in x2APIC mode the ICR's two halves as one."""
    for base, bank in ((hw.APIC_ISR, page.isr), (hw.APIC_TMR, page.tmr), (hw.APIC_IRR, page.irr)):
        if base <= offset < base + 0x80:
            return bank >> (offset - base) * 2 & 0xFFFFFFFF
    high = page.regs.get(hw.APIC_ICR2, 0) << 32 if x2apic and offset == hw.APIC_ICR else 0
    return high | page.regs.get(offset, 0)


def _write(unit: avic.AvicUnit, value: int, offset: int) -> Outcome:
    x2apic = unit.vmcb.x2apic_mode
    how = classify_write(offset, x2apic, unit.open, unit.extended_lvt)
    reserved = x2apic and (value & hw.X2APIC_ICR_RESERVED if offset == hw.APIC_ICR else value >> 32)
    if how == GP or reserved:
        return Outcome(False, gp=True)
    if how == FAULT:
        return Outcome(False, exit=(SVM_EXIT_AVIC_UNACCELERATED_ACCESS, WRITE | offset, 0))
    if how == ACCELERATED:
        return _accelerated(unit, value, offset)
    avic.backing_page(unit).regs[offset] = value & 0xFFFFFFFF
    return Outcome(exit=(SVM_EXIT_AVIC_UNACCELERATED_ACCESS, WRITE | offset, 0) if how == TRAP else None)


def _accelerated(unit: avic.AvicUnit, value: int, offset: int) -> Outcome:
    """The write is complete in any case."""
    if offset == hw.APIC_TASKPRI:
        avic.write_tpr(unit, value)
        return Outcome()
    if offset == hw.APIC_EOI:
        vector = avic.write_eoi(unit)
        trap = vector is not None
        return Outcome(exit=(SVM_EXIT_AVIC_UNACCELERATED_ACCESS, WRITE | offset, vector or 0) if trap else None)
    if offset == hw.APIC_SELF_IPI:
        return _ipi(unit, hw.APIC_DEST_SELF | value & hw.APIC_VECTOR_MASK, 0)
    regs = avic.backing_page(unit).regs
    if unit.vmcb.x2apic_mode:
        regs[hw.APIC_ICR2] = value >> 32
    low = regs[hw.APIC_ICR] = value & 0xFFFFFFFF & ~hw.APIC_ICR_BUSY
    return _ipi(unit, low, regs.get(hw.APIC_ICR2, 0))


def _ipi(unit: avic.AvicUnit, low: int, high: int) -> Outcome:
    incomplete = avic.write_icr(unit, low, high)
    if incomplete is None:
        return Outcome()
    reason, index = incomplete
    return Outcome(exit=(SVM_EXIT_AVIC_INCOMPLETE_IPI, high << 32 | low, reason << 32 | index))
