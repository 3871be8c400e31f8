"""Operations on local APICs, and messages to them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from hypothesis import strategies as st

from tests.machines import DFR, ESR, ICR, ID, IRR, ISR, LDR, LVT0, LVT1, LVTERR, LVTPC, LVTT, LVTTHMR, SVR, TDCR, TMCCT
from tests.machines import TMICT, TMR, TPR
from tests.oracle.fuzz.case import Case, Op

Draw = Callable[[st.SearchStrategy[Any]], Any]
APIC_BASE, TSC_DEADLINE, PV_EOI, PAGE = 0x1B, 0x6E0, 0x4B564D04, 0xFEE00000
PAST, FAR = 1000, 1 << 41  # deadlines
CELL = 0x8000  # of PV EOI, in the guest's memory

BYTE, WORD, BOOL = st.integers(0, 0xFF), st.integers(0, 0xFFFFFFFF), st.booleans()
VECTORS = st.one_of(st.sampled_from((0x41, 0x42, 0x43, 0x51, 0x52, 0x91, 0x31, 0xFE)), BYTE)
MODES = st.sampled_from((0, 0, 0, 0, 1, 1, 1, 3, 4, 5, 6, 7, 2))
DESTS = st.one_of(st.sampled_from((0, 1, 2, 3, 0xFF, 5, 7, 0x0F, 0x11, 0x12, 0x21)), BYTE)
SOME_BITS = st.one_of(st.sampled_from((0, 1, 0xFF, 0x1FF, 0x10000)), WORD, st.integers(0, 39).map(lambda n: 1 << n))
LIMITED = st.sampled_from((0, 0x10, 0x30, 0x40, 0x50, 0x90, 0xF0))
LVT_VALUES = st.one_of(st.sampled_from((0x10000, 0x700, 0x400, 0x8700, 0x41, 0x51)), WORD)
TIMER_MODES = st.sampled_from((0x10000, 0x00040, 0x10042, 0x20041, 0x30041, 0x40041, 0x50041, 0x60041))
COUNTS = st.sampled_from((0, 0, 0xFFFFFFFF, 0xF0000000, 0xE1234567))
DIVISORS = st.sampled_from((0, 1, 2, 3, 8, 9, 10, 11, 0x14))
LVTS = (LVTTHMR, LVTPC, LVT0, LVT1, LVTERR)
BASES = st.sampled_from((0xFEE00C00, 0xFEE00800, 0xFEE00000, 0xFEE00D00, 0xFEE00900, 0xFEE00400, 0xFEE00A00))


def vcpu(draw: Draw, case: Case) -> int:
    return int(draw(st.integers(0, case.vcpus - 1)))


def start(draw: Draw, case: Case) -> Iterator[Op]:
    """xAPICs in flat or cluster mode, x2APICs, both, or as they come up."""
    how = draw(st.sampled_from(("reset", "flat", "cluster", "x2apic", "x2apic", "mixed", "aliased", "flat")))
    for v in range(case.vcpus):
        ldr, dfr, ident = 1 << 24 + v, 0xFFFFFFFF, v << 24
        if how == "cluster" or (how == "mixed" and v == 1):
            ldr, dfr = (0x11 << v % 2 | v // 2 << 5) << 24, 0x0FFFFFFF
        if how == "aliased":
            ldr, ident = 1 << 24, 5 << 24
        if how in ("flat", "cluster", "mixed", "aliased"):
            yield ("lapic", v, ((SVR, 0x1FF), (LDR, ldr), (DFR, dfr), (ID, ident)))
        if how == "x2apic" or (how == "mixed" and v >= 2):
            yield ("wrmsr", v, APIC_BASE, 0xFEE00C00 | (v == 0) << 8)
            yield ("wrmsr", v, 0x80F, 0x1FF)


def message(draw: Draw, case: Case) -> tuple[int, int]:
    """Address and data of an MSI."""
    dest = draw(DESTS)
    address = PAGE | (dest & 0xFF) << 12 | draw(st.sampled_from((0, 4, 4, 8, 12)))
    high = draw(st.sampled_from((0, 0, 0, 0, 0, 0, 0xFFFFFF00, 0x100, 1))) if case.api & 1 else 0
    data = draw(VECTORS) | draw(MODES) << 8 | draw(st.sampled_from((0, 0, 0xC000, 0x8000, 0x4000)))
    return address | high << 32, data


def msi(draw: Draw, case: Case) -> Op:
    return ("msi", *message(draw, case))


def icr(draw: Draw) -> int:
    """The low half. No INIT: whoever sends it may be meant."""
    mode = draw(MODES)
    shorthand = draw(st.sampled_from((0, 0, 0, 1, 2, 3)))
    level = draw(st.sampled_from((0x4000, 0x4000, 0, 0xC000, 0x8000)))
    return draw(VECTORS) | (0 if mode in (5, 6) else mode) << 8 | draw(BOOL) << 11 | level | shorthand << 18


def register(draw: Draw) -> tuple[int, int]:
    """A register's offset, and a value for it."""
    kind = draw(st.sampled_from(("eoi", "eoi", "tpr", "tpr", "svr", "lvt", "timer", "icr", "icr", "self", "count", "any")))
    if kind == "eoi":
        return 0xB0, draw(st.sampled_from((0, 0, 0, 0, 1)))
    if kind == "tpr":
        return TPR, draw(LIMITED)
    if kind == "svr":
        return SVR, draw(st.one_of(st.sampled_from((0x1FF, 0x1FF, 0x1FF, 0xFF, 0x11FF)), WORD))
    if kind == "lvt":
        return draw(st.sampled_from(LVTS)), draw(LVT_VALUES)
    if kind == "timer":
        return LVTT, draw(TIMER_MODES)
    if kind == "icr":
        return ICR, icr(draw)
    if kind == "self":
        return 0x3F0, draw(st.one_of(VECTORS, WORD))
    if kind == "count":
        return draw(st.sampled_from(((TMICT, draw(COUNTS)), (TDCR, draw(DIVISORS)))))  # type: ignore[no-any-return]
    where = draw(st.integers(0, 0x3F)) << 4
    if where in (TPR, TMICT, LVTT, ICR):
        return where, 0
    return where, draw(SOME_BITS)


def wrmsr(draw: Draw, case: Case) -> Op:
    v = vcpu(draw, case)
    kind = draw(st.integers(0, 9))
    if kind < 7:
        where, value = register(draw)
        if where == ICR:
            value |= draw(st.one_of(st.integers(0, 3), st.sampled_from((0xFFFFFFFF, 0x10003)), WORD)) << 32
        elif kind == 0:
            value = draw(SOME_BITS) if where not in (TPR, TMICT, LVTT) else value | 1 << 32
        return ("wrmsr", v, 0x800 + (where >> 4), value)
    return ("wrmsr", v, *other_msr(draw))


def other_msr(draw: Draw) -> tuple[int, int]:
    kind = draw(st.integers(0, 2))
    if kind == 0:
        return APIC_BASE, draw(BASES) | draw(st.sampled_from((0, 0, 0, 0, 1 << 52)))
    if kind == 1:
        return TSC_DEADLINE, draw(st.sampled_from((0, PAST, FAR)))
    return PV_EOI, draw(st.sampled_from((CELL | 1, 0, CELL | 2, CELL | 5, CELL)))


def rdmsr(draw: Draw, case: Case) -> Op:
    index = draw(st.one_of(st.integers(0x800, 0x83F), st.sampled_from((APIC_BASE, TSC_DEADLINE, PV_EOI))))
    return ("rdmsr", vcpu(draw, case), 0x808 if index == 0x839 else index)


def bank(draw: Draw, base: int) -> Iterator[tuple[int, int]]:
    """All eight words."""
    bits = 0
    for vector in draw(st.lists(VECTORS, max_size=3)):
        bits |= 1 << vector
    for i in range(8):
        yield base + 16 * i, bits >> 32 * i & 0xFFFFFFFF


def lapic(draw: Draw, case: Case) -> Op:
    """Banks; what says who the APIC is; or anything, except that counts that run would end."""
    v, words = vcpu(draw, case), []
    for _ in range(draw(st.integers(1, 3))):
        kind = draw(st.integers(0, 7))
        if kind < 3:
            words += bank(draw, (ISR, IRR, TMR)[kind])
        elif kind == 3:
            words += [(SVR, 0x1FF), (LDR, draw(st.one_of(st.integers(0, 7).map(lambda n: 1 << n), BYTE)) << 24)]
        elif kind == 4:
            words.append((DFR, draw(st.sampled_from((0xFFFFFFFF, 0x0FFFFFFF, 0x3FFFFFFF)))))
        elif kind == 5:
            words.append((ID, draw(st.one_of(st.integers(0, 5), BYTE)) << draw(st.sampled_from((24, 0)))))
        elif kind == 6:
            words += [(LVTT, draw(TIMER_MODES)), (TMICT, draw(COUNTS)), (TMCCT, draw(COUNTS)), (TDCR, draw(DIVISORS))]
        else:
            where = draw(st.sampled_from((TPR, SVR, ESR, *LVTS, LDR, 0x18, 0xC0, ICR, 0x310, 0x30, 0xA0, 0x304)))
            words.append((where, draw(WORD)))
    return ("lapic", v, tuple(words))


def mp(draw: Draw, case: Case) -> Op:
    return ("mp", vcpu(draw, case), draw(st.sampled_from((0, 1, 2, 3, 4, 5, 6, 10))))


def nmi(draw: Draw, case: Case) -> Op:
    return ("nmi", vcpu(draw, case))


def guest(draw: Draw, case: Case) -> Op:
    """The page, by MMIO."""
    v = vcpu(draw, case)
    kind = draw(st.integers(0, 9))
    if kind < 2:
        return ("guest", v, "read", PAGE + (draw(st.integers(0, 0x3F).filter(lambda n: n != 0x39)) << 4))
    if kind == 2:
        return ("guest", v, "nop")
    where, value = register(draw)
    if where == ICR:
        return ("guest", v, "ipi", value, draw(st.one_of(st.sampled_from((0, 1, 2, 3, 0xFF)), BYTE)) << 24)
    return ("guest", v, "write", PAGE + where, value & 0xFFFFFFFF)


def guest_msr(draw: Draw, case: Case) -> Op:
    if draw(st.integers(0, 3)) == 0:
        _, v, index = rdmsr(draw, case)
        return ("guest", v, "rdmsr", index)
    _, v, index, value = wrmsr(draw, case)
    return ("guest", v, "wrmsr", index, value)
