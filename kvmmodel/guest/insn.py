"""One machine instruction of a guest."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass


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

Code = Generator[Insn, int, None]
