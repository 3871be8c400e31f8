"""Which accesses to a virtual APIC's registers AVIC completes, and which leave the guest before or after.

AMD APM volume 2, table 15-22, which has one column for xAPIC's page and x2APIC's MSRs. The intercepts of MSRs and the
checks of the access, such as for an MSR that is read-only, come before it (15.29.10).
"""

from __future__ import annotations

from collections.abc import Mapping

from kvmmodel.silicon import apic as hw

ALLOWED = "allowed"  # the backing page is read or written, nothing else happens
ACCELERATED = "accelerated"  # and the processor does what the register does
TRAP = "trap"  # written, then #VMEXIT
FAULT = "fault"  # #VMEXIT instead
GP = "gp"  # x2APIC mode has no such register

SEOI, IER, EXTENDED_LVT = 0x420, range(0x480, 0x500, 0x10), range(0x500, 0x540, 0x10)
EXTENDED = (0x400, 0x410, SEOI, *IER)
BANKS = tuple(base + 0x10 * i for base in hw.BANKS for i in range(8))

READ_FAULTS = frozenset((hw.APIC_ARBPRI, hw.APIC_TMCCT, *EXTENDED))
WRITE_FAULTS = frozenset((hw.APIC_LVR, hw.APIC_ARBPRI, hw.APIC_PROCPRI, hw.APIC_TMCCT, *BANKS, *EXTENDED))
WRITE_TRAPS = frozenset((
    hw.APIC_ID, hw.APIC_RRR, hw.APIC_LDR, hw.APIC_DFR, hw.APIC_SPIV, hw.APIC_ESR,
    hw.APIC_LVTT, hw.APIC_LVTTHMR, hw.APIC_LVTPC, hw.APIC_LVT0, hw.APIC_LVT1, hw.APIC_LVTERR,
    hw.APIC_TMICT, hw.APIC_TDCR,
))  # fmt: skip
WRITE_ACCELERATED = frozenset((hw.APIC_TASKPRI, hw.APIC_EOI, hw.APIC_ICR))

RESERVED = 0x540  # and all behind it. Other offsets that the table leaves out are plain memory (below the table)

XAPIC_ONLY = frozenset((hw.APIC_RRR, hw.APIC_DFR, hw.APIC_ICR2))
READ_ONLY = frozenset((
    hw.APIC_ID, hw.APIC_LVR, hw.APIC_ARBPRI, hw.APIC_PROCPRI, hw.APIC_LDR, hw.APIC_TMCCT, *BANKS,
))  # fmt: skip
WRITE_ONLY = frozenset((hw.APIC_EOI, hw.APIC_SELF_IPI))


def classify_read(offset: int, x2apic: bool, open_points: Mapping[str, str], extended_lvt: bool = False) -> str:
    """A read of the register at ``offset``. ``extended_lvt``: CPUID has ExtLvtAvicAccessChg."""
    if x2apic and offset == hw.APIC_EOI:
        return GP if open_points["x2avic_eoi_read"] == "gp" else ALLOWED
    if x2apic and (offset in XAPIC_ONLY or offset in WRITE_ONLY):
        return GP
    if offset in READ_FAULTS or _reserved(offset, open_points):
        return FAULT
    if offset in EXTENDED_LVT:
        return ALLOWED if extended_lvt else FAULT
    return ALLOWED


def _reserved(offset: int, open_points: Mapping[str, str]) -> bool:
    return offset >= RESERVED and open_points["avic_reserved_offsets"] == "reserved"


def classify_write(offset: int, x2apic: bool, open_points: Mapping[str, str], extended_lvt: bool = False) -> str:
    if x2apic and offset in XAPIC_ONLY:
        return GP
    if x2apic and offset in READ_ONLY and open_points["x2avic_readonly_write"] == "gp":
        return GP
    if offset in WRITE_ACCELERATED or (x2apic and offset == hw.APIC_SELF_IPI):
        return ACCELERATED
    if offset in WRITE_TRAPS:
        return TRAP
    if offset in WRITE_FAULTS or _reserved(offset, open_points):
        return FAULT
    if offset in EXTENDED_LVT:
        return TRAP if extended_lvt else FAULT
    return ALLOWED
