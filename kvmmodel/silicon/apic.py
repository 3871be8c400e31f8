"""The local APIC's registers: offsets, names and bits. A 256-bit register bank is one int, bit n for vector n.

Sources: AMD APM volume 2 chapter 16; Linux arch/x86/include/asm/apicdef.h for the names.
"""

from __future__ import annotations

APIC_ID = 0x20
APIC_LVR = 0x30
APIC_TASKPRI = 0x80
APIC_ARBPRI = 0x90
APIC_PROCPRI = 0xA0
APIC_EOI = 0xB0
APIC_RRR = 0xC0
APIC_LDR = 0xD0
APIC_DFR = 0xE0
APIC_SPIV = 0xF0
APIC_ISR = 0x100
APIC_TMR = 0x180
APIC_IRR = 0x200
APIC_ESR = 0x280
APIC_LVTCMCI = 0x2F0
APIC_ICR = 0x300
APIC_ICR2 = 0x310
APIC_LVTT = 0x320
APIC_LVTTHMR = 0x330
APIC_LVTPC = 0x340
APIC_LVT0 = 0x350
APIC_LVT1 = 0x360
APIC_LVTERR = 0x370
APIC_TMICT = 0x380
APIC_TMCCT = 0x390
APIC_TDCR = 0x3E0
APIC_SELF_IPI = 0x3F0

BANKS = (APIC_ISR, APIC_TMR, APIC_IRR)
PAGE_SIZE = 0x400

APIC_SPIV_APIC_ENABLED = 1 << 8
APIC_SPIV_DIRECTED_EOI = 1 << 12
APIC_LVT_MASKED = 1 << 16
APIC_DFR_FLAT = 0xFFFFFFFF
APIC_DFR_CLUSTER = 0x0FFFFFFF
APIC_VECTOR_MASK = 0xFF
APIC_ICR_BUSY = 1 << 12

# Delivery modes, as in ICR bits 10:8
APIC_DM_FIXED = 0x000
APIC_DM_LOWEST = 0x100
APIC_DM_SMI = 0x200
APIC_DM_REMRD = 0x300
APIC_DM_NMI = 0x400
APIC_DM_INIT = 0x500
APIC_DM_STARTUP = 0x600
APIC_DM_EXTINT = 0x700
APIC_MODE_MASK = 0x700

APIC_DEST_NOSHORT = 0x00000
APIC_DEST_SELF = 0x40000
APIC_DEST_ALLINC = 0x80000
APIC_DEST_ALLBUT = 0xC0000
APIC_SHORT_MASK = 0xC0000
APIC_DEST_LOGICAL = 0x800
APIC_INT_ASSERT = 0x4000
APIC_INT_LEVELTRIG = 0x8000

X2APIC_ICR_RESERVED = 0xFFF0_0000 | 1 << 17 | 1 << 16 | 1 << 13

APIC_LVT_TIMER_MASK = 3 << 17
APIC_LVT_TIMER_ONESHOT = 0 << 17
APIC_LVT_TIMER_PERIODIC = 1 << 17
APIC_LVT_TIMER_TSCDEADLINE = 2 << 17

APIC_BROADCAST = 0xFF
X2APIC_BROADCAST = 0xFFFFFFFF

MSR_IA32_APICBASE = 0x1B
MSR_IA32_TSC_DEADLINE = 0x6E0
APIC_BASE_MSR = 0x800  # x2APIC register n is MSR 0x800 + n / 16
MSR_KVM_PV_EOI_EN = 0x4B564D04
APIC_DEFAULT_PHYS_BASE = 0xFEE00000

MSR_IA32_APICBASE_BSP = 1 << 8
X2APIC_ENABLE = 1 << 10
MSR_IA32_APICBASE_ENABLE = 1 << 11

REGISTER_NAMES = {
    APIC_ID: "APIC_ID", APIC_LVR: "APIC_LVR", APIC_TASKPRI: "APIC_TASKPRI", APIC_ARBPRI: "APIC_ARBPRI",
    APIC_PROCPRI: "APIC_PROCPRI", APIC_EOI: "APIC_EOI", APIC_RRR: "APIC_RRR", APIC_LDR: "APIC_LDR",
    APIC_DFR: "APIC_DFR", APIC_SPIV: "APIC_SPIV", APIC_ISR: "APIC_ISR", APIC_TMR: "APIC_TMR", APIC_IRR: "APIC_IRR",
    APIC_ESR: "APIC_ESR", APIC_LVTCMCI: "APIC_LVTCMCI", APIC_ICR: "APIC_ICR", APIC_ICR2: "APIC_ICR2",
    APIC_LVTT: "APIC_LVTT", APIC_LVTTHMR: "APIC_LVTTHMR", APIC_LVTPC: "APIC_LVTPC", APIC_LVT0: "APIC_LVT0",
    APIC_LVT1: "APIC_LVT1", APIC_LVTERR: "APIC_LVTERR", APIC_TMICT: "APIC_TMICT", APIC_TMCCT: "APIC_TMCCT",
    APIC_TDCR: "APIC_TDCR", APIC_SELF_IPI: "APIC_SELF_IPI",
}  # fmt: skip

DELIVERY_MODE_NAMES = ("Fixed", "LowPrio", "SMI", "Res3", "NMI", "INIT", "SIPI", "ExtINT")


def highest(bitmap: int) -> int:
    """The highest vector in a bank, -1 if it is empty."""
    return bitmap.bit_length() - 1


def vectors(bitmap: int) -> list[int]:
    """The vectors in a bank, ascending."""
    return [v for v in range(bitmap.bit_length()) if bitmap >> v & 1]


def x2apic_ldr(x2apic_id: int) -> int:
    """The logical ID that x2APIC mode derives: cluster in 31:16, one bit of 16 below."""
    return (x2apic_id >> 4) << 16 | 1 << (x2apic_id & 0xF)


def timer_divide_count(tdcr: int) -> int:
    """The divisor that TDCR's bits 3, 1 and 0 select: 2, 4, 8, 16, 32, 64, 128 or 1."""
    select = (tdcr & 0x3) | (tdcr & 0x8) >> 1
    return 1 << ((select + 1) & 0x7)
