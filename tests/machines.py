"""Small VMs for the tests, and the fields of a KVM_GET_LAPIC page."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import Any

from kvmmodel import Host, Vcpu, Vm
from kvmmodel.events import Event
from kvmmodel.facts.releases import series

SERIES = series()
RELEASES = (*SERIES, "6.1.187", "6.12.95")
MSI = 0xFEE00000
ID, LVR, TPR, PPR, EOI, LDR, DFR, SVR = 0x20, 0x30, 0x80, 0xA0, 0xB0, 0xD0, 0xE0, 0xF0
ISR, TMR, IRR, ESR, ICR, ICR2 = 0x100, 0x180, 0x200, 0x280, 0x300, 0x310
LVTT, LVTTHMR, LVTPC, LVT0, LVT1, LVTERR = 0x320, 0x330, 0x340, 0x350, 0x360, 0x370
TMICT, TMCCT, TDCR, SELF_IPI = 0x380, 0x390, 0x3E0, 0x3F0
APIC_BASE, TSC_DEADLINE, PV_EOI_EN = 0x1B, 0x6E0, 0x4B564D04
X2APIC_ON = 0xFEE00C00


def vm(vcpus: int = 1, kernel: str = "6.18", *, cpu: str = "zen4", avic: bool = False, **options: Any) -> Vm:
    """A VM, on a host with AVIC off unless asked for."""
    return Host(cpu, kernel, avic=avic).create_vm(vcpus, **options)


def booted(vcpus: int = 1, kernel: str = "6.18", **options: Any) -> Vm:
    """A VM whose guest OS is up and idles."""
    return vm(vcpus, kernel, boot=True, **options)


def msr(register: int) -> int:
    """The x2APIC MSR of a register."""
    return 0x800 + (register >> 4)


def word(page: bytes, register: int) -> int:
    value: int = struct.unpack_from("<I", page, register)[0]
    return value


def bank(page: bytes, register: int) -> set[int]:
    """The vectors in ISR, TMR or IRR."""
    return {v for v in range(256) if word(page, register + (v >> 5) * 16) >> (v & 31) & 1}


def changed(page: bytes, words: dict[int, int] | None = None, banks: dict[int, Iterable[int]] | None = None) -> bytes:
    """The page with other words and whole banks."""
    made = bytearray(page)
    for register, value in (words or {}).items():
        struct.pack_into("<I", made, register, value)
    for register, vectors in (banks or {}).items():
        for i in range(8):
            struct.pack_into("<I", made, register + 16 * i, sum(1 << (v & 31) for v in set(vectors) if v >> 5 == i))
    return bytes(made)


def load(vcpu: Vcpu, words: dict[int, int] | None = None, banks: dict[int, Iterable[int]] | None = None) -> None:
    """KVM_SET_LAPIC of what KVM_GET_LAPIC gives, changed."""
    vcpu.set_lapic(changed(vcpu.get_lapic(), words, banks))


def xapic(*ldrs: int, dfr: int = 0xFFFFFFFF, kernel: str = "6.18", **options: Any) -> Vm:
    """Software-enabled xAPICs with these logical IDs."""
    made = vm(len(ldrs), kernel, **options)
    for vcpu, ldr in zip(made.vcpus, ldrs, strict=True):
        load(vcpu, {SVR: 0x1FF, LDR: ldr << 24, DFR: dfr})
    return made


def x2apic(vcpus: int, kernel: str = "6.18") -> Vm:
    """Software-enabled x2APICs."""
    made = vm(vcpus, kernel)
    for vcpu in made.vcpus:
        vcpu.set_msr(APIC_BASE, vcpu.get_msr(APIC_BASE) | X2APIC_ON)
        vcpu.set_msr(msr(SVR), 0x1FF)
    return made


def address(dest: int, *, logical: bool = False, hint: bool = False) -> int:
    """An MSI address; a destination above 0xff needs 32-bit IDs."""
    return MSI | (dest & 0xFF) << 12 | hint << 3 | logical << 2 | (dest & 0xFFFFFF00) << 32


def irr(made: Vm) -> list[set[int]]:
    return [{v for v in range(256) if vcpu.lapic.irr >> v & 1} for vcpu in made.vcpus]


def events(made: Vm, *kinds: type[Event]) -> list[Any]:
    """What happened, of these kinds, in order."""
    return [event for event in made.trace.events if not kinds or isinstance(event, kinds)]


def frames(made: Vm, kind: type[Event]) -> list[tuple[str, ...]]:
    """The stacks, innermost first, at which an event happened."""
    return [tuple(f.name for f in record.stack) for record in made.trace.records if isinstance(record.event, kind)]
