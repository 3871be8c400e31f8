"""The kernel's side of a case: a VM of /dev/kvm, and the operations on it.

Errors are -errno. Buffers are kept, as this runs hundreds of thousands of times.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import mmap
import os
import struct
from collections.abc import Sequence

from tests.oracle import kvm_ioctl as k
from tests.oracle.fuzz.case import Case, Op, State, in_order
from tests.oracle.fuzz.code import GP_VECTOR, MEMORY, STACK, assemble, code_at, image
from tests.oracle.real_guest import GET_SREGS, GET_VCPU_MMAP_SIZE, RUN, SET_MEMORY, SET_REGS, SET_SREGS

GET_MP_STATE, SET_MP_STATE, INTERRUPT, NMI = 0x8004AE98, 0x4004AE99, 0x4004AE86, 0xAE9A
CREATE_PIT2, GET_PIT2, SET_PIT2 = 0x4040AE77, 0x8070AE9F, 0x4070AEA0
REINJECT_CONTROL, SPEAKER = 0xAE71, 1
IA32_TSC = 0x10
CAP_SPLIT_IRQCHIP, IOAPIC_PINS = 121, 24
EXIT_IO, EXIT_MMIO, EXIT_IOAPIC_EOI = 2, 6, 26
STEP_PORT, HIGH_PORT, VECTOR_PORT, PAUSE_PORT = 0xE1, 0xE2, 0xE3, 0xE4
READING = ("read", "rdmsr", "in")
IOAPIC_FIELDS = {"ioregsel": (8, "<I"), "id": (12, "<I"), "irr": (16, "<I")}


def edited(state: bytes, changes: Sequence[tuple[int | str, int]]) -> bytes:
    """A struct kvm_ioapic_state with other fields."""
    made = bytearray(state)
    for index, value in changes:
        at, form = IOAPIC_FIELDS[index] if isinstance(index, str) else (24 + 8 * index, "<Q")
        struct.pack_into(form, made, at, value)
    return bytes(made)


def words(page: bytes, changes: Sequence[tuple[int, int]]) -> bytes:
    """A local APIC's page with other 32-bit words."""
    made = bytearray(page)
    for offset, value in changes:
        struct.pack_into("<I", made, offset, value)
    return bytes(made)


def acknowledged(page: bytes) -> bytes:
    """A local APIC's page with the highest vector of IRR, if there is one, in ISR instead."""
    for vector in reversed(range(256)):
        at, mask = (vector >> 5) * 16, 1 << (vector & 31)
        irr, isr = (int(struct.unpack_from("<I", page, base + at)[0]) for base in (0x200, 0x100))
        if irr & mask:
            return words(page, ((0x200 + at, irr & ~mask), (0x100 + at, isr | mask)))
    return page


class Kernel:
    """A VM with 64 KiB of memory in which each vCPU executes what a step says."""

    def __init__(self, case: Case) -> None:
        self.case = case
        self.dev = os.open("/dev/kvm", os.O_RDWR | os.O_CLOEXEC)
        self.vm = fcntl.ioctl(self.dev, k.CREATE_VM, 0)
        self.run_size = fcntl.ioctl(self.dev, GET_VCPU_MMAP_SIZE, 0)
        if case.split:
            self._checked(self.vm, k.ENABLE_CAP, struct.pack("<IIQ88x", CAP_SPLIT_IRQCHIP, 0, IOAPIC_PINS))
        else:
            fcntl.ioctl(self.vm, k.CREATE_IRQCHIP, 0)
        if case.pit:
            self._checked(self.vm, CREATE_PIT2, struct.pack("<I60x", SPEAKER))
        if case.api:
            self._checked(self.vm, k.ENABLE_CAP, struct.pack("<IIQ88x", k.CAP_X2APIC_API, 0, case.api))
        self.memory = mmap.mmap(-1, MEMORY)
        self.memory[:] = image()
        at = ctypes.addressof(ctypes.c_char.from_buffer(self.memory))
        self._checked(self.vm, SET_MEMORY, struct.pack("<IIQQQ", 0, 0, 0, MEMORY, at))
        self.vcpus = [fcntl.ioctl(self.vm, k.CREATE_VCPU, i) for i in range(case.vcpus)]
        self.runs = [mmap.mmap(fd, self.run_size) for fd in self.vcpus]
        leaf = struct.pack("<IIIIIII3I", 1, 0, 0, 0x000306A9, 0, k.CPUID_1_ECX, k.CPUID_1_EDX, 0, 0, 0)
        for fd in self.vcpus:
            self._checked(fd, k.SET_CPUID2, struct.pack("<II", 1, 0) + leaf)

    def close(self) -> None:
        for run in self.runs:
            run.close()
        for fd in (*self.vcpus, self.vm, self.dev):
            os.close(fd)
        self.memory.close()

    def _checked(self, fd: int, request: int, data: bytes) -> bytes:
        result, after = k.call(fd, request, data)
        if result < 0:
            raise OSError(ctypes.get_errno(), f"ioctl {request:#x}: {os.strerror(ctypes.get_errno())}")
        return after

    def _ioctl(self, fd: int, request: int, data: bytes) -> tuple[int, bytes]:
        result, after = k.call(fd, request, data)
        return (-ctypes.get_errno() if result < 0 else result), after

    def state(self, watch: bool) -> State:
        lapics = tuple(self._checked(fd, k.GET_LAPIC, bytes(1024)) for fd in self.vcpus)
        chips = () if self.case.split else tuple(self._chip(i) for i in range(3))
        mp = tuple(self._mp_state(v) for v in range(len(self.vcpus))) if watch else ()
        pit = self._checked(self.vm, GET_PIT2, bytes(112)) if self.case.pit else b""
        return State(lapics, chips, pit, mp)

    def _chip(self, chip: int) -> bytes:
        after = self._checked(self.vm, k.GET_IRQCHIP, struct.pack("<II512x", chip, 0))
        return after[8:224] if chip == k.IOAPIC else after[8:24]

    def _mp_state(self, v: int) -> int:
        state: int = struct.unpack("<I", self._checked(self.vcpus[v], GET_MP_STATE, bytes(4)))[0]
        return state

    def tsc(self) -> int:
        return self.do_rdmsr(0, IA32_TSC) or 0

    def do(self, op: Op) -> object:
        """What an operation gives: for most a number, for a guest's instruction the value read and what happened."""
        return getattr(self, "do_" + op[0])(*op[1:])

    def do_msi(self, address: int, data: int) -> int:
        message = struct.pack("<IIII16x", address & 0xFFFFFFFF, address >> 32, data, 0)
        return self._ioctl(self.vm, k.SIGNAL_MSI, message)[0]

    def do_line(self, gsi: int, level: int) -> int:
        result, after = self._ioctl(self.vm, k.IRQ_LINE_STATUS, struct.pack("<II", gsi, level))
        return result or int(struct.unpack_from("<i", after)[0])

    def do_routing(self, table: Sequence[Op]) -> int:
        rows = [_row(gsi, route) for gsi, *routes in table for route in routes]
        return self._ioctl(self.vm, k.SET_GSI_ROUTING, struct.pack("<II", len(rows), 0) + b"".join(rows))[0]

    def do_wrmsr(self, v: int, index: int, value: int) -> int:
        return self._ioctl(self.vcpus[v], k.SET_MSRS, struct.pack("<IIIIQ", 1, 0, index, 0, value))[0]

    def do_rdmsr(self, v: int, index: int) -> int | None:
        done, after = self._ioctl(self.vcpus[v], k.GET_MSRS, struct.pack("<IIIIQ", 1, 0, index, 0, 0))
        return int(struct.unpack_from("<Q", after, 16)[0]) if done else None

    def do_lapic(self, v: int, changes: Sequence[tuple[int, int]]) -> int:
        page = self._checked(self.vcpus[v], k.GET_LAPIC, bytes(1024))
        return self._ioctl(self.vcpus[v], k.SET_LAPIC, words(page, changes))[0]

    def do_ack(self, v: int) -> int:
        page = self._checked(self.vcpus[v], k.GET_LAPIC, bytes(1024))
        return self._ioctl(self.vcpus[v], k.SET_LAPIC, acknowledged(page))[0]

    def do_pic(self, chip: int, state: str) -> int:
        return self._set_chip(chip, bytes.fromhex(state))

    def do_ioapic(self, changes: Sequence[tuple[int | str, int]]) -> int:
        state = bytes(216) if self.case.split else self._chip(k.IOAPIC)
        return self._set_chip(k.IOAPIC, edited(state, changes))

    def _set_chip(self, chip: int, state: bytes) -> int:
        return self._ioctl(self.vm, k.SET_IRQCHIP, struct.pack("<II512s", chip, 0, state))[0]

    def do_mp(self, v: int, state: int) -> int:
        return self._ioctl(self.vcpus[v], SET_MP_STATE, struct.pack("<I", state))[0]

    def do_nmi(self, v: int) -> int:
        return self._ioctl(self.vcpus[v], NMI, b"")[0]

    def do_interrupt(self, v: int, vector: int) -> int:
        return self._ioctl(self.vcpus[v], INTERRUPT, struct.pack("<I", vector & 0xFFFFFFFF))[0]

    def do_pit(self, state: str) -> int:
        return self._ioctl(self.vm, SET_PIT2, bytes.fromhex(state))[0]

    def do_reinject(self, reinject: int) -> int:
        return self._ioctl(self.vm, REINJECT_CONTROL, struct.pack("<B31x", reinject))[0]

    def do_api(self, flags: int) -> int:
        return self._ioctl(self.vm, k.ENABLE_CAP, struct.pack("<IIQ88x", k.CAP_X2APIC_API, 0, flags))[0]

    def do_settled(self, v: int, *instruction: object) -> tuple[int, tuple[object, ...]]:
        """A guest's instruction, with enough time around it for KVM to have the vCPU in its outer loop."""
        return self.do_guest(v, *instruction, settled=True)

    def do_guest(self, v: int, *instruction: object, settled: bool = False) -> tuple[int, tuple[object, ...]]:
        """KVM_SET_SREGS, KVM_SET_REGS, and KVM_RUN until the instruction is done."""
        fd, code = self.vcpus[v], assemble(instruction, settled)
        if self._mp_state(v):
            self.do_mp(v, 0)
        at = code_at(v)
        self.memory[at : at + len(code)] = code
        sregs = bytearray(self._checked(fd, GET_SREGS, bytes(0x138)))
        struct.pack_into("<QIH", sregs, 0, 0, 0xFFFF, 0)  # CS: base, limit, selector
        struct.pack_into("<QIH", sregs, 24, 0, 0xFFFFFFFF, 0)
        sregs[24 + 20] = 1  # DS: 4 GiB, in pages
        self._checked(fd, SET_SREGS, bytes(sregs))
        regs = [0] * 18
        regs[6], regs[16], regs[17] = STACK - 0x100 * v, at, 2
        self._checked(fd, SET_REGS, struct.pack("<18Q", *regs))
        value, happened = self._until_step(v)
        return (value if instruction[0] in READING else 0), happened

    def _until_step(self, v: int) -> tuple[int, tuple[object, ...]]:
        run, high, fault = self.runs[v], 0, False
        happened: list[object] = []
        while True:
            try:
                fcntl.ioctl(self.vcpus[v], RUN, 0)
            except OSError as error:
                if error.errno != errno.EINTR:
                    raise
                continue
            (reason,) = struct.unpack_from("<I", run, 8)
            if reason == EXIT_IOAPIC_EOI:
                happened.append(("ioapic_eoi", run[32]))
                continue
            _, size, port, _, offset = struct.unpack_from("<BBHIQ", run, 32)
            if reason != EXIT_IO or not STEP_PORT <= port <= PAUSE_PORT:
                raise AssertionError(f"unexpected exit {reason}, port {port:#x}")
            value = int.from_bytes(run[offset : offset + size], "little")
            if port == HIGH_PORT:
                high = value
            elif port == VECTOR_PORT and value == GP_VECTOR:
                fault = True
            elif port == VECTOR_PORT:
                happened.append(value)
            elif port == STEP_PORT:
                return (0, (*in_order(happened), "#GP")) if fault else (high << 32 | value, in_order(happened))


def _row(gsi: int, route: Sequence[object]) -> bytes:
    """struct kvm_irq_routing_entry of ("pic", chip, pin), ("ioapic", pin) or ("msi", address, data)."""
    name, *args = route
    if name == "msi":
        address, data = args
        body = struct.pack("<III", address & 0xFFFFFFFF, address >> 32, data)  # type: ignore[operator]
        return struct.pack("<IIII32s", gsi, k.ROUTE_MSI, 0, 0, body)
    chip, pin = args if name == "pic" else (k.IOAPIC, args[0])
    return struct.pack("<IIII32s", gsi, k.ROUTE_IRQCHIP, 0, 0, struct.pack("<II", chip, pin))
