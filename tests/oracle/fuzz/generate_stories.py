"""Operations that only together get somewhere: by chance they would hardly ever meet."""

from __future__ import annotations

from collections.abc import Iterator

from hypothesis import strategies as st

from tests.machines import IRR, ISR, LVT0, MSI
from tests.oracle.fuzz.case import Op
from tests.oracle.fuzz.context import BOOL, Context, Draw
from tests.oracle.fuzz.generate_apic import bank

PINS, LEVEL = st.sampled_from((5, 8, 9, 10, 16, 23)), 1 << 15
VECTOR = st.sampled_from((0x41, 0x51, 0x91))


def level(draw: Draw, context: Context) -> Iterator[Op]:
    """A level interrupt up to its EOI. Userspace moves the vector from IRR to ISR, as this vendor's module does not.

    With a split irqchip userspace has the IOAPIC: it sends the message, and its route tells KVM whose EOI it wants.
    """
    v, pin, vector = context.any(draw), draw(PINS), draw(VECTOR)
    yield ("lapic", v, (*bank(IRR, []), *bank(ISR, [])))
    if context.split:
        route = ("msi", MSI | v << 12, vector | 0xC000)
        yield ("routing", ((pin, *(route,)),))
        yield ("line", pin, 1)
    else:
        yield ("ioapic", ((pin, vector | LEVEL | v << 56),))
        yield ("line", pin, 1)
    if draw(st.integers(0, 3)) == 3:
        yield ("guest", v, "nop")
    yield ("ack", v)
    yield ("line", pin, draw(st.integers(0, 1)))
    if draw(BOOL):
        yield ("wrmsr", v, 0x80B, 0) if v in context.x2apics else ("guest", v, "write", MSI + 0xB0, 0)
        if context.split:
            yield ("guest", v, "nop")
    else:
        yield ("guest", v, "wrmsr", 0x80B, 0) if v in context.x2apics else ("guest", v, "write", MSI + 0xB0, 0)


def extint(draw: Draw, context: Context) -> Iterator[Op]:
    """An 8259's interrupt, or with a split irqchip KVM_INTERRUPT's, for a guest that lets it in."""
    v = context.any(draw)
    yield ("lapic", v, ((LVT0, 0x700), *bank(IRR, [])))
    if context.split:
        yield ("interrupt", v, draw(st.sampled_from((0x30, 0x41, 0xFF))))
    else:
        for chip, base in ((0, 0x30), (1, 0x70)):
            yield ("pic", chip, pic(base, draw(st.sampled_from((0, 0, 1, 5))), draw(st.sampled_from((0, 0, 0x20)))))
        gsi = draw(st.sampled_from((1, 5, 9, 10)))
        yield ("line", gsi, 1)
    yield ("guest", v, "open")


def pic(base: int, priority_add: int, elcr: int) -> str:
    """Nothing masked, nothing in service, and no automatic EOI."""
    state = [0] * 16
    state[4], state[5], state[14], state[15] = priority_add, base, elcr, 0xDE
    return bytes(state).hex()
