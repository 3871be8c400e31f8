"""Operations of userspace on local APICs, and messages to them."""

from __future__ import annotations

from collections.abc import Iterator

from hypothesis import strategies as st

from tests.machines import (
    APIC_BASE,
    DFR,
    ESR,
    ICR,
    ICR2,
    ID,
    IRR,
    ISR,
    LDR,
    LVT0,
    LVT1,
    LVTERR,
    LVTPC,
    LVTT,
    LVTTHMR,
    MSI,
    PPR,
    PV_EOI_EN,
    SELF_IPI,
    SVR,
    TDCR,
    TMCCT,
    TMICT,
    TMR,
    TPR,
    TSC_DEADLINE,
)
from tests.oracle.fuzz.case import Op
from tests.oracle.fuzz.context import BOOL, BYTE, DESTS, MODES, VECTORS, WORD, Context, Draw

PAST, FAR = 1000, "far"  # deadlines, see NOT_COMPARED
CELL = 0x8000  # of PV EOI, in the guest's memory
LVTS = (LVTTHMR, LVTPC, LVT0, LVT1, LVTERR)

SOME_BITS = st.one_of(st.sampled_from((0, 1, 0xFF, 0x1FF, 0x10000)), WORD, st.integers(0, 39).map(lambda n: 1 << n))
PRIORITIES = st.sampled_from((0, 0, 0x10, 0x30, 0x40, 0x50, 0x90, 0xF0))
LVT_VALUES = st.one_of(st.sampled_from((0x10000, 0x700, 0x400, 0x8700, 0x41, 0x51)), WORD)
RESTORED_MODES = st.sampled_from((0x10000, 0x00040, 0x10042, 0x20041, 0x30041, 0x40041, 0x50041))
# The last is no mode. Restored, it would leave a target that a smaller divisor brings near: a count that ends.
TIMER_MODES = st.one_of(RESTORED_MODES, st.just(0x60041))
COUNTS = st.sampled_from((0, 0, 0xFFFFFFFF, 0xF0000000, 0xE1234567))
DIVISORS = st.sampled_from((0, 1, 2, 3, 8, 9, 10, 11, 0x14))
BASES = st.sampled_from((0xFEE00C00, 0xFEE00800, 0xFEE00000, 0xFEE00D00, 0xFEE00900, 0xFEE00400, 0xFEE00A00))
REGISTERS = ("eoi", "eoi", "tpr", "tpr", "icr", "icr", "self", "lvt", "timer", "count", "svr", "any")
MP_STATES = st.sampled_from((0, 1, 2, 3, 4, 5, 6, 5, 10))  # up to 4 KVM takes them


def start(context: Context) -> Iterator[Op]:
    """xAPICs in flat or cluster mode, x2APICs, both, two with the same ID; or all as they come up."""
    how = context.start
    for v in range(context.vcpus):
        ldr, dfr, ident = 1 << 24 + v, 0xFFFFFFFF, v << 24
        if how == "cluster" or (how == "mixed" and v == 1):
            ldr, dfr = (0x11 << v % 2 | v // 2 << 5) << 24, 0x0FFFFFFF
        if how == "aliased":
            ldr, ident = 1 << 24, 5 << 24
        if v in context.x2apics:
            yield ("wrmsr", v, APIC_BASE, 0xFEE00C00 | (v == 0) << 8)
            yield ("wrmsr", v, 0x80F, 0x1FF)
        elif how != "reset":
            yield ("lapic", v, ((SVR, 0x1FF), (LDR, ldr), (DFR, dfr), (ID, ident)))


def message(draw: Draw, context: Context) -> tuple[int, int]:
    """Address and data of an MSI."""
    address = MSI | draw(DESTS) << 12 | draw(st.sampled_from((0, 4, 4, 8, 12)))
    if draw(st.integers(0, 3)) == 3:
        address = draw(st.sampled_from((MSI | 0xFF000, MSI | 0xFF004, MSI | 0xF004)))  # all of them, or many
    if context.api & 1:
        address |= draw(st.sampled_from((0, 0, 0xFFFFFF00, 0x100, 1, 1))) << 32
    data = draw(VECTORS) | draw(MODES) << 8 | draw(st.sampled_from((0, 0, 0xC000, 0x8000, 0x4000)))
    return address, data


def msi(draw: Draw, context: Context) -> Iterator[Op]:
    yield ("msi", *message(draw, context))


def icr(draw: Draw) -> int:
    """The low half."""
    shorthand = draw(st.sampled_from((0, 0, 0, 1, 2, 3)))
    level = draw(st.sampled_from((0x4000, 0x4000, 0, 0xC000, 0x8000)))
    return int(draw(VECTORS) | draw(MODES) << 8 | draw(BOOL) << 11 | level | shorthand << 18)


def register(draw: Draw, context: Context) -> tuple[int, int]:
    """A register's offset, and a value for it."""
    kind = draw(st.sampled_from(REGISTERS if context.wild else REGISTERS[:-2]))
    if kind == "eoi":
        return 0xB0, 0
    if kind == "tpr":
        return TPR, draw(PRIORITIES)
    if kind == "svr":
        return SVR, draw(st.one_of(st.sampled_from((0x1FF, 0x1FF, 0x1FF, 0xFF, 0x11FF)), WORD))
    if kind == "lvt":
        return draw(st.sampled_from(LVTS)), draw(LVT_VALUES)
    if kind == "timer":
        return LVTT, draw(TIMER_MODES)
    if kind == "icr":
        return ICR, icr(draw)
    if kind == "self":
        return SELF_IPI, draw(VECTORS)
    if kind == "count":
        return (TMICT, draw(COUNTS)) if draw(BOOL) else (TDCR, draw(DIVISORS))
    where = draw(st.integers(0, 0x3F)) << 4
    return where, 0 if where in (TPR, TMICT, LVTT, ICR) else draw(SOME_BITS)


def msr_write(draw: Draw, context: Context) -> tuple[int, int]:
    """MSR and value of an x2APIC register."""
    where, value = register(draw, context)
    if where == ICR:
        high = st.one_of(st.integers(0, 3), st.sampled_from((0xFFFFFFFF, 0x10003)), WORD)
        value |= draw(high) << 32 | draw(st.sampled_from((0, 0, 0, 0, 1 << 13, 1 << 31)))
    elif draw(st.integers(0, 5)) == 5:
        value |= 1 << 32
    return 0x800 + (where >> 4), value


def wrmsr(draw: Draw, context: Context) -> Iterator[Op]:
    yield ("wrmsr", context.prefer(draw, context.x2apics), *msr_write(draw, context))


def other_msr(draw: Draw, context: Context) -> tuple[int, int | str]:
    """APIC_BASE, mostly in wild cases: it takes an APIC out of the game."""
    kind = draw(st.integers(0, 7))
    if kind < 2:
        return TSC_DEADLINE, draw(st.sampled_from((0, PAST, FAR)))
    if kind < 4:
        return PV_EOI_EN, draw(st.sampled_from((CELL | 1, 0, CELL | 2, CELL | 5, CELL)))
    if kind > 4 or not context.wild:
        return APIC_BASE, 0xFEE00C00 | 1 << 52
    return APIC_BASE, draw(BASES)


def other_wrmsr(draw: Draw, context: Context) -> Iterator[Op]:
    yield ("wrmsr", context.any(draw), *other_msr(draw, context))


EXISTING = st.sampled_from((0x802, 0x803, 0x808, 0x80A, 0x80D, 0x80F, 0x810, 0x812, 0x822, 0x824, 0x828, 0x830, 0x832))


def readable(draw: Draw) -> int:
    """An MSR of the x2APIC's range, whether it exists or not; not TMCCT, the value is the clock's."""
    index = draw(st.one_of(EXISTING, st.integers(0x802, 0x83F), st.integers(0x802, 0x83F)))
    return 0x80A if index == 0x839 else int(index)


def rdmsr(draw: Draw, context: Context) -> Iterator[Op]:
    yield ("rdmsr", context.prefer(draw, context.x2apics), readable(draw))


def other_rdmsr(draw: Draw, context: Context) -> Iterator[Op]:
    yield ("rdmsr", context.any(draw), draw(st.sampled_from((APIC_BASE, TSC_DEADLINE, PV_EOI_EN))))


def bank(base: int, vectors: list[int]) -> list[tuple[int, int]]:
    """All eight words."""
    bits = 0
    for vector in vectors:
        bits |= 1 << vector
    return [(base + 16 * i, bits >> 32 * i & 0xFFFFFFFF) for i in range(8)]


def lapic(draw: Draw, context: Context) -> Iterator[Op]:
    """Banks, the timer, what says who the APIC is; in wild cases anything, except counts that would end."""
    words: list[tuple[int, int]] = []
    for _ in range(draw(st.integers(1, 2))):
        kind = draw(st.integers(0, 7 if context.wild else 4))
        if kind < 3:
            words += bank((ISR, IRR, TMR)[kind], draw(st.lists(VECTORS, max_size=3)))
        elif kind == 3:
            words += [
                (LVTT, draw(RESTORED_MODES)),
                (TMICT, draw(COUNTS)),
                (TMCCT, draw(COUNTS)),
                (TDCR, draw(DIVISORS)),
            ]
        elif kind == 4:
            words.append((ID, draw(st.one_of(st.integers(0, 5), BYTE)) << (0 if context.api & 1 else 24)))
        elif kind == 5:
            words += [(SVR, 0x1FF), (LDR, draw(st.one_of(st.integers(0, 7).map(lambda n: 1 << n), BYTE)) << 24)]
        elif kind == 6:
            words.append((DFR, draw(st.sampled_from((0xFFFFFFFF, 0x0FFFFFFF, 0x3FFFFFFF)))))
        else:
            where = draw(st.sampled_from((TPR, SVR, ESR, *LVTS, LDR, 0x18, 0xC0, ICR, ICR2, 0x30, PPR, 0x304)))
            words.append((where, draw(WORD)))
    yield ("lapic", context.any(draw), tuple(words))


def foreign_id(draw: Draw, context: Context) -> Iterator[Op]:
    """In x2APIC mode, with 32-bit IDs: KVM takes only the vCPU's own."""
    yield ("lapic", draw(st.sampled_from(context.x2apics)), ((ID, draw(st.integers(0, 5))),))


def mp(draw: Draw, context: Context) -> Iterator[Op]:
    yield ("mp", context.any(draw), draw(MP_STATES))


def nmi(draw: Draw, context: Context) -> Iterator[Op]:
    yield ("nmi", context.any(draw))


def interrupt(draw: Draw, context: Context) -> Iterator[Op]:
    yield ("interrupt", context.any(draw), draw(st.sampled_from((0x30, 0x41, 0xFF, 0x30, 0x41, 0x100, 0xFFFFFFFF))))


def api(draw: Draw, context: Context) -> Iterator[Op]:
    """Flags of KVM_CAP_X2APIC_API that the case has anyway, or unknown ones."""
    yield ("api", draw(st.sampled_from((context.api, 1 << 32))))
