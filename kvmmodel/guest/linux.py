"""A Linux guest's local APIC driver in both modes, with its PV EOI hook: the instructions that it executes.

arch/x86/kernel/apic/{ipi,x2apic_phys}.c and arch/x86/kernel/kvm.c, read in 6.18. The x2APIC is in physical mode, as in
a guest without interrupt remapping. Not here: IPIs by hypercall, logical destinations, sending to a mask one by one.
"""

from __future__ import annotations

from kvmmodel.guest.cpu import NMI_VECTOR, Code, GuestCpu, Insn
from kvmmodel.silicon import apic as hw

ICR, EOI, SELF_IPI = (hw.APIC_BASE_MSR + (reg >> 4) for reg in (hw.APIC_ICR, hw.APIC_EOI, hw.APIC_SELF_IPI))


def apic_native_eoi(guest: GuestCpu) -> Code:
    """EOI as the APIC's present mode wants it."""
    if guest.x2apic:
        yield Insn("wrmsr", EOI, 0)
    else:
        yield _store(hw.APIC_EOI, 0)


def kvm_guest_apic_eoi_write(guest: GuestCpu, cell: int | None) -> Code:
    """If the bit in the cell was set, clearing it was the EOI. ``cell`` None: the feature is not in use."""
    done = 0
    if cell is not None:
        done = yield Insn("btr", cell)
    if not done:
        yield from apic_native_eoi(guest)


def send_ipi(guest: GuestCpu, apic_id: int, vector: int) -> Code:
    """To one CPU. An xAPIC is asked first whether it is idle: with its two writes that makes three exits."""
    if guest.x2apic:
        yield Insn("wrmsr", ICR, apic_id << 32 | _command(vector))
        return
    yield from apic_mem_wait_icr_idle()
    yield _store(hw.APIC_ICR2, apic_id << 24)
    yield _store(hw.APIC_ICR, _command(vector))


def send_ipi_self(guest: GuestCpu, vector: int) -> Code:
    if guest.x2apic:
        yield Insn("wrmsr", SELF_IPI, vector)
    else:
        yield from _shortcut(hw.APIC_DEST_SELF, vector)


def send_ipi_allbutself(guest: GuestCpu, vector: int) -> Code:
    """By shorthand, which Linux uses once all CPUs that the firmware told of have been up."""
    if guest.x2apic:
        yield Insn("wrmsr", ICR, hw.APIC_DEST_ALLBUT | _command(vector))
    else:
        yield from _shortcut(hw.APIC_DEST_ALLBUT, vector)


def apic_mem_wait_icr_idle() -> Code:
    while True:
        icr = yield Insn("mmio_read", hw.APIC_DEFAULT_PHYS_BASE + hw.APIC_ICR)
        if not icr & hw.APIC_ICR_BUSY:
            return


def _shortcut(shortcut: int, vector: int) -> Code:
    yield from apic_mem_wait_icr_idle()
    yield _store(hw.APIC_ICR, shortcut | _command(vector))


def _command(vector: int) -> int:
    """Physical, edge, and without the assert bit; vector 2 is sent as an NMI."""
    return hw.APIC_DM_NMI if vector == NMI_VECTOR else hw.APIC_DM_FIXED | vector


def _store(register: int, value: int) -> Insn:
    return Insn("mmio_write", hw.APIC_DEFAULT_PHYS_BASE + register, value)
