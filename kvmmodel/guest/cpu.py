"""A virtual CPU from the inside: a stack of programs and handlers, and what one instruction does.

Each level of the stack is a generator of instructions; an interrupt pushes its handler, the handler's end is IRET.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Generator
from dataclasses import dataclass, field

from kvmmodel.events import (
    AvicDoorbell,
    Event,
    Fault,
    HandlerEnter,
    HandlerLeave,
    Instruction,
    PvEoiByGuest,
    TakeVnmi,
    VirtualGif,
    VmExit,
)
from kvmmodel.guest import virtual_apic
from kvmmodel.silicon import avic
from kvmmodel.silicon import vmcb as hw
from kvmmodel.silicon.apic import MSR_IA32_APICBASE, X2APIC_ENABLE

NMI_VECTOR, UD_VECTOR, GP_VECTOR = 2, 6, 13


@dataclass(frozen=True, slots=True)
class Insn:
    """One machine instruction: mnemonic and operands; ``show`` is whether it is worth an event.

    "pause" stands for a whole loop on PAUSE, until ``test`` holds or the time is ``end``. ``args`` are VMMCALL's.
    """

    op: str
    a: int = 0
    b: int = 0
    show: bool = True
    test: Callable[[], bool] | None = None
    end: int | None = None
    args: tuple[int, ...] = ()

    def __str__(self) -> str:
        form = FORMS.get(self.op, "{op}")
        return form.format(op=self.op, a=self.a, b=self.b, args=", ".join(map(hex, self.args)))


FORMS = {
    "wrmsr": "WRMSR {a:#x} = {b:#x}",
    "rdmsr": "RDMSR {a:#x}",
    "mmio_write": "MOV [{a:#x}] = {b:#x}",
    "mmio_read": "MOV r, [{a:#x}]",
    "write_cr8": "MOV CR8 = {a:#x}",
    "read_cr8": "MOV r, CR8",
    "out": "OUT {a:#x} = {b:#x}",
    "outb": "OUT {a:#x} = {b:#x}, a byte",
    "inb": "IN AL, {a:#x}",
    "hlt": "HLT",
    "vmmcall": "VMMCALL {a:#x} ({args})",
    "vmrun": "VMRUN",
    "sti": "STI",
    "cli": "CLI",
    "stgi": "STGI",
    "clgi": "CLGI",
    "nop": "NOP",
    "pause": "PAUSE",
    "btr": "BTR [{a:#x}], 0",
}

# EXITINFO1 below the port: size, and IN
IOIO = {"out": 4 << 4, "outb": 1 << 4, "inb": 1 << 4 | hw.SVM_IOIO_TYPE_IN}

Code = Generator[Insn, int, None]


def _nothing() -> Code:
    yield from ()


@dataclass(slots=True)
class Level:
    """A program (vector None) or a handler in progress, and what it interrupted had in IF."""

    code: Code
    vector: int | None = None
    saved_if: bool = False
    started: bool = False
    insn: Insn | None = None  # fetched, not yet done
    result: int = 0  # of the last instruction that read something
    smm: bool = False  # an SMI handler: it ends with RSM


@dataclass(slots=True)
class GuestCpu:
    """The inside of one vCPU. ``handler`` makes a handler's code for a vector; ``memory`` is shared with KVM."""

    ident: int
    vmcb: hw.Vmcb
    regs: hw.Regs
    memory: dict[int, int]
    nrips: bool
    handler: Callable[[GuestCpu, int], Code]
    emit: Callable[[Event], None]
    now: Callable[[], int]
    smi_handler: Callable[[], Code] = _nothing
    equal_priority_wins: bool = False  # an emulator's: V_IRQ is taken at a priority equal to V_TPR, too
    avic: avic.AvicUnit | None = None  # None: the processor has none, and ignores int_ctl's bit
    apic_page_mapped: Callable[[], bool] = lambda: (
        False
    )  # whether nested paging lets accesses to the xAPIC page through
    x2avic_ext: bool = False
    x2apic: bool = False  # the mode that the guest put its APIC into
    levels: list[Level] = field(default_factory=list)
    handled: Counter[int] = field(default_factory=Counter)
    faults: list[tuple[int, int | None]] = field(default_factory=list)


def fetch(guest: GuestCpu) -> Insn | None:
    """The next instruction; None when there is nothing to do, or when a handler's IRET is intercepted."""
    while guest.levels:
        level = guest.levels[-1]
        if level.insn is not None:
            return level.insn
        try:
            level.insn = level.code.send(level.result) if level.started else next(level.code)
            level.started = True
        except StopIteration:
            if level.smm:
                leave(guest, hw.SVM_EXIT_RSM)
                return None
            if level.vector is not None and not iret(guest, level):
                return None
            guest.levels.pop()
            if level.vector is not None and guest.vmcb.single_step:
                leave(guest, hw.SVM_EXIT_DB)
                return None
    return None


def iret(guest: GuestCpu, level: Level) -> bool:
    """A handler returns to what it interrupted. False: IRET is intercepted, and comes again after the exit."""
    assert level.vector is not None
    if level.vector == NMI_VECTOR and hw.SVM_EXIT_IRET in guest.vmcb.intercepts:
        leave(guest, hw.SVM_EXIT_IRET)
        return False
    guest.vmcb.rflags_if, guest.vmcb.int_state, guest.vmcb.v_nmi_blocking = level.saved_if, False, False
    guest.regs.rip += guest.regs.length
    guest.emit(HandlerLeave(guest.ident, level.vector))
    return True


def vmrun(guest: GuestCpu) -> None:
    """VMRUN. An event in EVENTINJ goes through the IDT before the first instruction."""
    vmcb = guest.vmcb
    info, vmcb.exit_code = vmcb.event_inj, 0
    unit = avic_unit(guest)
    if unit is not None:
        if avic.vmrun_refuses(vmcb, guest.x2avic_ext):
            leave(guest, hw.SVM_EXIT_ERR)
            return
        if unit.open["avic_vmrun_tpr"] == "v_tpr":
            avic.write_tpr(unit, vmcb.v_tpr << 4)
        avic.evaluate(unit)
    retire(guest)
    jump(guest)
    if not info & hw.SVM_EVTINJ_VALID:
        return
    vmcb.event_inj = 0
    vector, kind = info & hw.SVM_EVTINJ_VEC_MASK, info & hw.SVM_EVTINJ_TYPE_MASK
    if kind == hw.SVM_EVTINJ_TYPE_EXEPT:
        raise_fault(guest, vector, vmcb.event_inj_err if info & hw.SVM_EVTINJ_VALID_ERR else None)
        return
    if kind == hw.SVM_EVTINJ_TYPE_NMI:
        vector = NMI_VECTOR  # whatever EVENTINJ has there; KVM leaves it 0
        vmcb.v_nmi_blocking = vmcb.v_nmi_blocking or vmcb.v_nmi_enable
    enter_handler(guest, vector)


def enter_handler(guest: GuestCpu, vector: int) -> None:
    """Through the IDT, by an interrupt gate: IF is clear in the handler."""
    guest.emit(HandlerEnter(guest.ident, vector))
    guest.handled[vector] += 1
    guest.levels.append(Level(guest.handler(guest, vector), vector, guest.vmcb.rflags_if))
    guest.vmcb.rflags_if = guest.vmcb.int_state = False


def jump(guest: GuestCpu) -> None:
    """KVM put RIP to the SMI handler, or, for its RSM, back to where the SMI came."""
    where, guest.regs.jump = guest.regs.jump, ""
    if where == "smm":
        guest.levels.append(Level(guest.smi_handler(), smm=True))
    elif where == "rsm":
        guest.levels.pop()


def raise_fault(guest: GuestCpu, vector: int, error: int | None) -> None:
    """An exception. The model's guests do not restart what faulted: they note it and go on behind it."""
    guest.faults.append((vector, error))
    guest.emit(Fault(guest.ident, vector, error))
    guest.levels[-1].insn = None


def retire(guest: GuestCpu) -> None:
    """KVM emulated the instruction that exited: take its result and go on behind it."""
    if guest.regs.retired:
        guest.regs.retired = False
        insn = guest.levels[-1].insn
        if insn is not None and insn.op == "wrmsr" and insn.a == MSR_IA32_APICBASE:
            guest.x2apic = insn.b & X2APIC_ENABLE != 0
        guest.levels[-1].result = guest.regs.value
        guest.levels[-1].insn = None


def window(guest: GuestCpu) -> bool:
    """Whether the processor takes a virtual interrupt (V_IRQ) here. With AVIC it ignores it."""
    vmcb = guest.vmcb
    enough = vmcb.v_intr_prio + guest.equal_priority_wins > vmcb.v_tpr
    return vmcb.v_irq and not _masked(vmcb) and (vmcb.v_ign_tpr or enough) and avic_unit(guest) is None


def _masked(vmcb: hw.Vmcb) -> bool:
    return not vmcb.rflags_if or vmcb.int_state or (vmcb.v_gif_enable and not vmcb.v_gif)


def avic_unit(guest: GuestCpu) -> avic.AvicUnit | None:
    """The AVIC unit, if the VMCB that runs switches it on."""
    if guest.avic is None or not (guest.vmcb.avic_enable or guest.vmcb.x2apic_mode):
        return None
    guest.avic.vmcb = guest.vmcb
    return guest.avic


def avic_due(guest: GuestCpu) -> bool:
    """Whether the processor takes an interrupt from the backing page here."""
    unit = avic_unit(guest)
    return unit is not None and unit.request and not _masked(guest.vmcb)


def take_avic(guest: GuestCpu) -> None:
    unit = avic_unit(guest)
    vector = avic.take(unit) if unit is not None else None
    if vector is not None:
        enter_handler(guest, vector)


def doorbell(guest: GuestCpu, cpu: int) -> None:
    """One arrived while this guest runs."""
    unit = avic_unit(guest)
    guest.emit(AvicDoorbell(cpu, unit is not None))
    if unit is not None:
        avic.evaluate(unit)


def take_virq(guest: GuestCpu) -> None:
    """Unless it is intercepted, as KVM's own always is, the virtual interrupt goes through the IDT."""
    if hw.SVM_EXIT_VINTR in guest.vmcb.intercepts:
        leave(guest, hw.SVM_EXIT_VINTR)
        return
    guest.vmcb.v_irq = False
    enter_handler(guest, guest.vmcb.int_vector)


def vnmi(guest: GuestCpu) -> bool:
    """Whether the processor delivers a virtual NMI here, all by itself."""
    vmcb = guest.vmcb
    due = vmcb.v_nmi_enable and vmcb.v_nmi_pending and not vmcb.v_nmi_blocking
    return due and not vmcb.int_state and (vmcb.v_gif or not vmcb.v_gif_enable)


def take_vnmi(guest: GuestCpu) -> None:
    guest.vmcb.v_nmi_pending, guest.vmcb.v_nmi_blocking = False, True
    guest.emit(TakeVnmi(guest.ident))
    enter_handler(guest, NMI_VECTOR)


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
        return leave(guest, hw.SVM_EXIT_HLT, 0, 0)
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


def leave(guest: GuestCpu, code: int, info1: int = 0, info2: int = 0) -> int:
    """#VMEXIT with this code."""
    vmcb = guest.vmcb
    vmcb.exit_code, vmcb.exit_info_1, vmcb.exit_info_2 = code, info1, info2
    vmcb.exit_int_info = 0
    vmcb.next_rip_saved = guest.nrips
    guest.emit(VmExit(guest.ident, hw.EXIT_NAMES[code], code))
    return code
