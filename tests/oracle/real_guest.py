"""A real-mode guest in a RealVm that does one thing at a time, with interrupts off in between.

("out", port, value), ("in", port), and ("open",): sleep until an interrupt came. Each vector's handler tells its number
through a port, and returns. A step's code is written before it runs; between two steps the guest is in a stub.
"""

from __future__ import annotations

import ctypes
import fcntl
import mmap
import signal
import struct
from collections.abc import Iterator
from typing import Any

from tests.oracle.kvm_ioctl import RealVm, call

GET_VCPU_MMAP_SIZE, RUN, SET_MEMORY = 0xAE04, 0xAE80, 0x4020AE46
SET_REGS, GET_SREGS, SET_SREGS = 0x4090AE82, 0x8138AE83, 0x4138AE84
MEMORY, HANDLERS, CODE, STUB, STACK = 0x10000, 0x800, 0x1000, 0x1100, 0xF000
EXIT_IO, PATIENCE_S = 2, 5
STEP_PORT, VECTOR_PORT = 0xE1, 0xE3

HLT, CLI, STI, PUSH_AX, POP_AX, IRET = b"\xf4", b"\xfa", b"\xfb", b"\x50", b"\x58", b"\xcf"
OUT_DX_AL, IN_AL_DX = b"\xee", b"\xec"


def mov_al(value: int) -> bytes:
    return bytes((0xB0, value))


def mov_dx(value: int) -> bytes:
    return b"\xba" + struct.pack("<H", value)


def out_port(port: int) -> bytes:
    return bytes((0xE6, port))


def jump(at: int, to: int) -> bytes:
    return b"\xe9" + struct.pack("<h", to - at - 3)


def assemble(step: tuple[Any, ...]) -> bytes:
    """The code of a step. What it reads is in AL."""
    name, *args = step
    code = b""
    if name == "out":
        code = mov_dx(args[0]) + mov_al(args[1]) + OUT_DX_AL
    elif name == "in":
        code = mov_dx(args[0]) + IN_AL_DX
    elif name == "open":
        code = STI + HLT + CLI
    return code + jump(CODE + len(code), STUB)


def _too_long(*_: object) -> None:
    raise TimeoutError


class RealGuest:
    """vCPU 0 of the VM, interrupts off."""

    def __init__(self, vm: RealVm) -> None:
        self.fd = vm.vcpus[0].fd
        self.memory = mmap.mmap(-1, MEMORY)
        address = ctypes.addressof(ctypes.c_char.from_buffer(self.memory))
        self._ioctl(vm.fd, SET_MEMORY, struct.pack("<IIQQQ", 0, 0, 0, MEMORY, address))
        for vector in range(256):
            at = HANDLERS + 8 * vector
            self.memory[4 * vector : 4 * vector + 4] = struct.pack("<HH", at, 0)
            handler = PUSH_AX + mov_al(vector) + out_port(VECTOR_PORT) + POP_AX + IRET
            self.memory[at : at + len(handler)] = handler
        stub = out_port(STEP_PORT)
        stub += jump(STUB + len(stub), CODE)
        self.memory[STUB : STUB + len(stub)] = stub
        self.run = mmap.mmap(self.fd, fcntl.ioctl(vm.kvm, GET_VCPU_MMAP_SIZE, 0))
        sregs = bytearray(self._ioctl(self.fd, GET_SREGS, bytes(0x138)))
        struct.pack_into("<QIH", sregs, 0, 0, 0xFFFF, 0)  # CS: base, limit, selector
        self._ioctl(self.fd, SET_SREGS, bytes(sregs))
        regs = [0] * 18
        regs[6], regs[16], regs[17] = STACK, CODE, 2
        self._ioctl(self.fd, SET_REGS, struct.pack("<18Q", *regs))

    def step(self, *step: Any) -> tuple[int, list[int]]:
        """Do a step: AL at its end, and the vectors that came meanwhile. TimeoutError if it does not end."""
        code = assemble(step)
        self.memory[CODE : CODE + len(code)] = code
        before = signal.signal(signal.SIGALRM, _too_long)
        signal.alarm(PATIENCE_S)
        try:
            *taken, last = self._until_step()
        finally:
            signal.alarm(0)
            signal.signal(signal.SIGALRM, before)
        return last, taken

    def _until_step(self) -> Iterator[int]:
        while True:
            fcntl.ioctl(self.fd, RUN, 0)
            (reason,) = struct.unpack_from("<I", self.run, 8)
            _, _, port, _, offset = struct.unpack_from("<BBHIQ", self.run, 32)
            if reason != EXIT_IO or port not in (STEP_PORT, VECTOR_PORT):
                raise AssertionError(f"unexpected exit {reason}, port {port:#x}")
            yield self.run[offset]
            if port == STEP_PORT:
                return

    def _ioctl(self, fd: int, request: int, data: bytes) -> bytes:
        result, after = call(fd, request, data)
        if result < 0:
            raise OSError(ctypes.get_errno(), f"ioctl {request:#x}")
        return after
