"""The few ioctls of /dev/kvm that the tests compare with: VMs with the in-kernel irqchip and its state, MSRs, MSIs."""

from __future__ import annotations

import ctypes
import fcntl
import os
import struct

from kvmmodel.kvm.irqchip import MsiRoute, PicRoute, Route

CREATE_VM, CREATE_VCPU, CREATE_IRQCHIP, ENABLE_CAP = 0xAE01, 0xAE41, 0xAE60, 0x4068AEA3
GET_LAPIC, SET_LAPIC, SIGNAL_MSI = 0x8400AE8E, 0x4400AE8F, 0x4020AEA5
GET_MSRS, SET_MSRS, SET_CPUID2 = 0xC008AE88, 0x4008AE89, 0x4008AE90
IRQ_LINE_STATUS, GET_IRQCHIP, SET_IRQCHIP, SET_GSI_ROUTING = 0xC008AE67, 0xC208AE62, 0x8208AE63, 0x4008AE6A
CREATE_PIT2, GET_PIT2, REINJECT_CONTROL = 0x4040AE77, 0x8070AE9F, 0xAE71
PIT_STATE2_SIZE = 112
CAP_X2APIC_API = 129
PIC_STATE, IOAPIC, IOAPIC_STATE_SIZE = 16, 2, 216  # irqchips 0 and 1 are the 8259s
CPUID_1_ECX, CPUID_1_EDX = 1 << 21 | 1 << 24, 1 << 5 | 1 << 9  # x2APIC, TSC deadline; MSR, APIC

ROUTE_IRQCHIP, ROUTE_MSI = 1, 2

_libc = ctypes.CDLL(None, use_errno=True)


def call(fd: int, request: int, data: bytes) -> tuple[int, bytes]:
    """The ioctl as it is: its return value, -1 and errno included, and the buffer after it."""
    buffer = ctypes.create_string_buffer(data, len(data))
    result = _libc.ioctl(fd, ctypes.c_ulong(request), buffer)
    return result, buffer.raw


def _routing_entry(gsi: int, route: Route) -> bytes:
    """struct kvm_irq_routing_entry."""
    if isinstance(route, MsiRoute):
        body = struct.pack("<III", route.address & 0xFFFFFFFF, route.address >> 32, route.data)
        return struct.pack("<IIII32s", gsi, ROUTE_MSI, 0, 0, body)
    chip = route.chip if isinstance(route, PicRoute) else IOAPIC
    return struct.pack("<IIII32s", gsi, ROUTE_IRQCHIP, 0, 0, struct.pack("<II", chip, route.pin))


class RealVcpu:
    def __init__(self, vm: int, ident: int) -> None:
        self.fd = fcntl.ioctl(vm, CREATE_VCPU, ident)

    def get_lapic(self) -> bytes:
        return self._checked(GET_LAPIC, bytes(1024))

    def set_lapic(self, page: bytes) -> bool:
        return call(self.fd, SET_LAPIC, page)[0] == 0

    def get_msr(self, index: int) -> int | None:
        """None: KVM refuses."""
        done, data = call(self.fd, GET_MSRS, struct.pack("<IIIIQ", 1, 0, index, 0, 0))
        value: int = struct.unpack_from("<Q", data, 16)[0]
        return value if done == 1 else None

    def set_msr(self, index: int, value: int) -> bool:
        return call(self.fd, SET_MSRS, struct.pack("<IIIIQ", 1, 0, index, 0, value))[0] == 1

    def set_cpuid(self) -> None:
        """Leaf 1 with x2APIC, TSC deadline, MSR and APIC: what the local APIC code looks at."""
        leaf = struct.pack("<IIIIIII3I", 1, 0, 0, 0x000306A9, 0, CPUID_1_ECX, CPUID_1_EDX, 0, 0, 0)
        self._checked(SET_CPUID2, struct.pack("<II", 1, 0) + leaf)

    def _checked(self, request: int, data: bytes) -> bytes:
        result, after = call(self.fd, request, data)
        if result < 0:
            raise OSError(ctypes.get_errno(), f"ioctl {request:#x}")
        return after

    def close(self) -> None:
        os.close(self.fd)


class RealVm:
    """Like the model's Vm, as far as the comparison goes."""

    def __init__(self, vcpus: int) -> None:
        self.kvm = os.open("/dev/kvm", os.O_RDWR | os.O_CLOEXEC)
        self.fd = fcntl.ioctl(self.kvm, CREATE_VM, 0)
        fcntl.ioctl(self.fd, CREATE_IRQCHIP, 0)
        self.vcpus = [RealVcpu(self.fd, i) for i in range(vcpus)]
        for vcpu in self.vcpus:
            vcpu.set_cpuid()

    def signal_msi(self, address: int, data: int) -> int:
        message = struct.pack("<IIII16x", address & 0xFFFFFFFF, address >> 32, data, 0)
        return call(self.fd, SIGNAL_MSI, message)[0]

    def irq_line(self, gsi: int, level: bool) -> int:
        _, after = self._checked(IRQ_LINE_STATUS, struct.pack("<II", gsi, level))
        status: int = struct.unpack_from("<i", after)[0]
        return status

    def get_irqchip(self, chip: int) -> bytes:
        return self._get_irqchip(chip)[: IOAPIC_STATE_SIZE if chip == IOAPIC else PIC_STATE]

    def set_irqchip(self, chip: int, state: bytes) -> None:
        self._checked(SET_IRQCHIP, struct.pack("<II512s", chip, 0, state))

    def set_gsi_routing(self, table: dict[int, list[Route]]) -> int:
        """0 or -errno."""
        rows = [_routing_entry(gsi, route) for gsi, routes in table.items() for route in routes]
        result, _ = call(self.fd, SET_GSI_ROUTING, struct.pack("<II", len(rows), 0) + b"".join(rows))
        return -ctypes.get_errno() if result < 0 else 0

    def create_pit2(self) -> None:
        """With KVM_PIT_SPEAKER_DUMMY: port 0x61 too, as the model has it."""
        self._checked(CREATE_PIT2, struct.pack("<I60x", 1))

    def get_pit2(self) -> bytes:
        return self._checked(GET_PIT2, bytes(PIT_STATE2_SIZE))[1]

    def reinject_control(self, reinject: bool) -> None:
        self._checked(REINJECT_CONTROL, struct.pack("<B31x", reinject))

    def _get_irqchip(self, chip: int) -> bytes:
        return self._checked(GET_IRQCHIP, struct.pack("<II512x", chip, 0))[1][8:]

    def _checked(self, request: int, data: bytes) -> tuple[int, bytes]:
        result, after = call(self.fd, request, data)
        if result < 0:
            raise OSError(ctypes.get_errno(), f"ioctl {request:#x}")
        return result, after

    def enable_x2apic_api(self, flags: int) -> None:
        if call(self.fd, ENABLE_CAP, struct.pack("<IIQ88x", CAP_X2APIC_API, 0, flags))[0] < 0:
            raise OSError(ctypes.get_errno(), "KVM_ENABLE_CAP")

    def close(self) -> None:
        for vcpu in self.vcpus:
            vcpu.close()
        os.close(self.fd)
        os.close(self.kvm)
