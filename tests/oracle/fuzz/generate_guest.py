"""Single instructions of guests."""

from __future__ import annotations

from collections.abc import Iterator

from hypothesis import strategies as st

from kvmmodel.kvm.lapic.access import READABLE
from tests.machines import ICR, IRR, ISR, MSI, TMCCT, TMR
from tests.oracle.fuzz.case import Op
from tests.oracle.fuzz.context import BYTE, Context, Draw
from tests.oracle.fuzz.generate_apic import icr, msr_write, other_msr, readable, register
from tests.oracle.fuzz.generate_chips import COMMANDS, PORTS, entry

IOAPIC = 0xFEC00000
BANKS = {base + 16 * i for base in (ISR, TMR, IRR) for i in range(8)}
# What a guest reads by MMIO elsewhere is what KVM's buffer had before. TMCCT is the clock's.
REGISTERS = st.sampled_from(sorted(READABLE - {TMCCT} | BANKS))
SELECTORS = st.one_of(st.sampled_from((0x10, 0x12, 0x16, 0x18, 0x1A, 0)), st.integers(0, 0x41))


def harmless(icr: int) -> int:
    """An NMI, an INIT, a SIPI become fixed: see NOT_COMPARED."""
    return icr & ~0x700 if icr >> 8 & 7 in (4, 5, 6) else icr


def page(draw: Draw, context: Context) -> Iterator[Op]:
    """The local APIC by MMIO. Before the ICR, ICR2 is written."""
    xapics = tuple(v for v in range(context.vcpus) if v not in context.x2apics)
    v, kind = context.prefer(draw, xapics), draw(st.integers(0, 9))
    if kind < 3:
        yield ("guest", v, "read", MSI + draw(REGISTERS))
    elif kind < 6:
        yield ("guest", v, "ipi", harmless(icr(draw)), draw(st.one_of(st.sampled_from((0, 1, 2, 3, 0xFF)), BYTE)) << 24)
    else:
        where, value = register(draw, context)
        if where != ICR:
            yield ("guest", v, "write", MSI + where, value & 0xFFFFFFFF)


def msr(draw: Draw, context: Context) -> Iterator[Op]:
    kind = draw(st.integers(0, 9))
    if kind < 5:
        yield ("guest", context.prefer(draw, context.x2apics), "rdmsr", readable(draw))
    elif kind < 8:
        v, (index, value) = context.prefer(draw, context.x2apics), msr_write(draw, context)
        yield ("guest", v, "wrmsr", index, harmless(value) if index == 0x830 else value)
    else:
        yield ("guest", context.any(draw), "wrmsr", *other_msr(draw, context))


def open_(draw: Draw, context: Context) -> Iterator[Op]:
    yield ("guest", context.any(draw), "open")


def ioapic(draw: Draw, context: Context) -> Iterator[Op]:
    """IOREGSEL and the window, each an access of its own."""
    v, kind = context.any(draw), draw(st.integers(0, 9))
    if kind < 4:
        yield ("guest", v, "write", IOAPIC, draw(SELECTORS))
    elif kind < 6:
        value = entry(draw)
        yield ("guest", v, "write", IOAPIC + 0x10, (value if draw(st.integers(0, 3)) else value >> 32) & 0xFFFFFFFF)
    else:
        yield ("guest", v, "read", IOAPIC + draw(st.sampled_from((0x10, 0x10, 0, 0x20))))


def pic(draw: Draw, context: Context) -> Iterator[Op]:
    v = context.any(draw)
    if draw(st.integers(0, 9)) < 4:
        yield ("guest", v, "in", draw(PORTS))
    else:
        yield ("guest", v, "out", draw(PORTS), draw(COMMANDS))


def pit(draw: Draw, context: Context) -> Iterator[Op]:
    """Control words that latch nothing, and give channel 0 no mode that counts; counts; the speaker."""
    v, kind = context.any(draw), draw(st.integers(0, 3))
    if kind == 0:
        channel = draw(st.integers(0, 2))
        mode = draw(st.integers(0, 7)) if channel else 5
        access = draw(st.integers(1, 3))
        yield ("guest", v, "out", 0x43, channel << 6 | access << 4 | mode << 1 | draw(st.integers(0, 1)))
    elif kind < 3:
        yield ("guest", v, "out", 0x40 + draw(st.integers(0, 2)), draw(BYTE))
    else:
        yield ("guest", v, "out", 0x61, draw(BYTE))
