"""A virtual CPU from the inside: a stack of programs and handlers, and what one instruction does.

Each level of the stack is a generator of instructions; an interrupt pushes its handler, the handler's end is IRET.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from kvmmodel.events import (
    Event,
    Fault,
    HandlerEnter,
    HandlerLeave,
    VmExit,
)
from kvmmodel.guest.insn import Code, Insn
from kvmmodel.silicon import avic
from kvmmodel.silicon import vmcb as hw
from kvmmodel.silicon.apic import MSR_IA32_APICBASE, X2APIC_ENABLE

NMI_VECTOR, UD_VECTOR, GP_VECTOR = 2, 6, 13


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
    stack_mapped: bool = True  # else the next delivery through the IDT exits with a nested page fault
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


def avic_unit(guest: GuestCpu) -> avic.AvicUnit | None:
    """The AVIC unit, if the VMCB that runs switches it on."""
    if guest.avic is None or not (guest.vmcb.avic_enable or guest.vmcb.x2apic_mode):
        return None
    guest.avic.vmcb = guest.vmcb
    return guest.avic


def leave(guest: GuestCpu, code: int, info1: int = 0, info2: int = 0) -> int:
    """#VMEXIT with this code."""
    vmcb = guest.vmcb
    vmcb.exit_code, vmcb.exit_info_1, vmcb.exit_info_2 = code, info1, info2
    vmcb.exit_int_info = 0
    vmcb.next_rip_saved = guest.nrips
    guest.emit(VmExit(guest.ident, hw.EXIT_NAMES[code], code))
    return code
