"""What one instruction of a guest does, and whether it exits."""

from __future__ import annotations

from kvmmodel.events import Instruction, PvEoiByGuest, VirtualGif
from kvmmodel.guest import virtual_apic
from kvmmodel.guest.cpu import GP_VECTOR, UD_VECTOR, GuestCpu, avic_unit, leave, raise_fault
from kvmmodel.guest.insn import Insn
from kvmmodel.guest.taking import avic_due, vnmi, window
from kvmmodel.silicon import avic
from kvmmodel.silicon import vmcb as hw

# EXITINFO1 below the port: size, and IN
IOIO = {"out": 4 << 4, "outb": 1 << 4, "inb": 1 << 4 | hw.SVM_IOIO_TYPE_IN}


def execute(guest: GuestCpu, insn: Insn) -> int | None:
    """Execute one instruction. Returns the exit code if it has to exit (it then stays), None when it is done."""
    vmcb, regs = guest.vmcb, guest.regs
    if insn.show:
        guest.emit(Instruction(guest.ident, str(insn)))
    op, level = insn.op, guest.levels[-1]
    outcome = virtual_apic.access(guest, insn)
    if outcome is not None:
        return _take_outcome(guest, insn, outcome)
    if op in ("wrmsr", "rdmsr"):
        regs.ecx, regs.value = insn.a, insn.b
        return leave(guest, hw.SVM_EXIT_MSR, int(op == "wrmsr"), 0)
    if op in ("mmio_write", "mmio_read"):
        regs.gpa, regs.value, regs.write = insn.a, insn.b, op == "mmio_write"
        return leave(guest, hw.SVM_EXIT_NPF, 0xF if regs.write else 0xD, insn.a)
    if op in IOIO:
        regs.value = insn.b
        return leave(guest, hw.SVM_EXIT_IOIO, insn.a << 16 | IOIO[op], regs.rip + regs.length)
    if op == "hlt":
        return halt(guest)
    if op == "vmrun":
        return leave(guest, hw.SVM_EXIT_VMRUN)
    if op == "vmmcall":
        if hw.SVM_EXIT_VMMCALL not in vmcb.intercepts:
            raise_fault(guest, UD_VECTOR, None)
            return None
        regs.args = (insn.a, *insn.args)
        return leave(guest, hw.SVM_EXIT_VMMCALL)
    if op == "write_cr8":
        if insn.a > 0xF:
            raise_fault(guest, GP_VECTOR, 0)
            return None
        regs.value = insn.a
        if hw.SVM_EXIT_WRITE_CR8 in vmcb.intercepts:
            return leave(guest, hw.SVM_EXIT_WRITE_CR8, 0, 0)
        vmcb.v_tpr = insn.a & 0xF
        unit = avic_unit(guest)
        if unit is not None:
            avic.write_tpr(unit, insn.a << 4)
    elif op == "read_cr8":
        level.result = vmcb.v_tpr & 0xF
    elif op == "btr":
        level.result = guest.memory.get(insn.a, 0) & 1
        guest.memory[insn.a] = guest.memory.get(insn.a, 0) & ~1
        if level.result:
            guest.emit(PvEoiByGuest(guest.ident))
    elif op in ("stgi", "clgi"):
        code = hw.SVM_EXIT_STGI if op == "stgi" else hw.SVM_EXIT_CLGI
        if code in vmcb.intercepts:
            return leave(guest, code)
        vmcb.v_gif = op == "stgi"
        guest.emit(VirtualGif(guest.ident, vmcb.v_gif))
    shadow = op == "sti" and not vmcb.rflags_if
    if op in ("sti", "cli"):
        vmcb.rflags_if = op == "sti"
    vmcb.int_state = shadow
    regs.rip += regs.length
    level.insn = None
    return leave(guest, hw.SVM_EXIT_DB) if vmcb.single_step else None


def halt(guest: GuestCpu) -> int | None:
    """HLT. The idle intercept exits only if no virtual interrupt is pending; else the guest waits in HLT for it."""
    vmcb, unit = guest.vmcb, avic_unit(guest)
    if hw.SVM_EXIT_IDLE_HLT not in vmcb.intercepts:
        return leave(guest, hw.SVM_EXIT_HLT)
    in_page = unit is not None and unit.request and unit.open["idle_hlt_counts_avic_irr"] == "counted"
    if not (in_page or vmcb.v_irq or (vmcb.v_nmi_enable and vmcb.v_nmi_pending)):
        return leave(guest, hw.SVM_EXIT_IDLE_HLT)
    vmcb.int_state = False
    if avic_due(guest) or vnmi(guest) or window(guest):
        guest.regs.rip += guest.regs.length
        guest.levels[-1].insn = None
    return None


def _take_outcome(guest: GuestCpu, insn: Insn, outcome: virtual_apic.Outcome) -> int | None:
    """What AVIC made of an access to the local APIC."""
    regs, level = guest.regs, guest.levels[-1]
    if outcome.gp:
        raise_fault(guest, GP_VECTOR, 0)
        return None
    if outcome.done:
        level.result, level.insn = outcome.result, None
        regs.rip += regs.length
        guest.vmcb.int_state = False
    else:
        regs.msr_access = insn.op in ("wrmsr", "rdmsr")
        regs.ecx = regs.gpa = insn.a
        regs.value, regs.write = insn.b, insn.op in ("wrmsr", "mmio_write")
    if outcome.exit is not None:
        return leave(guest, *outcome.exit)
    return leave(guest, hw.SVM_EXIT_DB) if guest.vmcb.single_step else None
