"""Machine code of the guest: one step per vCPU, in real mode, with 4 GiB behind DS. What it read is in EAX at the end.

The last instruction is an OUT to STEP_PORT. The one before is an OUT as well: this vendor's module emulates on after
what the guest did, and what that asked for happens on the next way into the guest. Each vector's handler tells its
number, and returns; the one of #GP ends the step.
"""

from __future__ import annotations

import struct
from functools import cache
from typing import Any

from tests.oracle.real_guest import (
    CLI,
    HANDLERS,
    IN_AL_DX,
    IRET,
    OUT_DX_AL,
    POP_AX,
    PUSH_AX,
    STI,
    jump,
    mov_al,
    mov_dx,
    out_port,
)

MEMORY, CODE, CELLS, STACK = 0x10000, 0x2000, 0x8000, 0xF000
STEP, HIGH, PAUSE, NOP = b"\x66\xe7\xe1", b"\x66\xe7\xe2", b"\x66\xe7\xe4", b"\x90"  # OUTs of EAX
LOOP = b"\xb9" + struct.pack("<H", 5000) + b"\xe2\xfe"  # MOV CX; LOOP
SWAP_EAX_EDX, RDMSR, WRMSR = b"\x66\x92", b"\x0f\x32", b"\x0f\x30"
VECTOR_PORT, GP_VECTOR, AFTER_FAULT = 0xE3, 13, 0x1800
WINDOWS = 4  # exits with IF=1: this vendor's module injects on the way back, one at a time


def code_at(v: int) -> int:
    return CODE + 0x100 * v


@cache
def image() -> bytes:
    """The memory: the table of vectors, and their handlers."""
    memory = bytearray(MEMORY)
    for vector in range(256):
        at = HANDLERS + 8 * vector
        memory[4 * vector : 4 * vector + 4] = struct.pack("<HH", at, 0)
        handler = PUSH_AX + mov_al(vector) + out_port(VECTOR_PORT) + POP_AX + IRET
        if vector == GP_VECTOR:
            handler = mov_al(vector) + out_port(VECTOR_PORT)
            handler += jump(at + len(handler), AFTER_FAULT)
        memory[at : at + len(handler)] = handler
    memory[AFTER_FAULT : AFTER_FAULT + len(PAUSE + STEP)] = PAUSE + STEP
    return bytes(memory)


def store(address: int, value: int) -> bytes:
    """MOV of 32 bits."""
    return b"\x66\x67\xc7\x05" + struct.pack("<II", address, value)


def msr(index: int, value: int = 0) -> bytes:
    """ECX, EAX, EDX."""
    low, high = value & 0xFFFFFFFF, value >> 32
    return struct.pack("<2sI2sI2sI", b"\x66\xb9", index, b"\x66\xb8", low, b"\x66\xba", high)


@cache
def assemble(instruction: tuple[Any, ...], settled: bool = False) -> bytes:
    """``settled``: with a loop before and after that takes some milliseconds."""
    name, *args = instruction
    if name == "write":
        code = store(*args)
    elif name == "read":
        code = b"\x66\x67\xa1" + struct.pack("<I", args[0])
    elif name == "ipi":
        code = store(0xFEE00310, args[1]) + store(0xFEE00300, args[0])
    elif name == "wrmsr":
        code = msr(*args) + WRMSR
    elif name == "rdmsr":
        code = msr(*args) + RDMSR + SWAP_EAX_EDX + HIGH + SWAP_EAX_EDX
    elif name == "out":
        code = mov_dx(args[0]) + mov_al(args[1]) + OUT_DX_AL
    elif name == "in":
        code = mov_dx(args[0]) + IN_AL_DX
    elif name == "open":
        code = STI + NOP + PAUSE * WINDOWS + NOP + CLI
    else:
        code = NOP
    return LOOP + code + LOOP + PAUSE + STEP if settled else code + PAUSE + STEP
