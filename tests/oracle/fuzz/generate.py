"""Random cases for Hypothesis. What is drawn first is what a case shrinks to: nothing, small numbers, vCPU 0."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cache

from hypothesis import strategies as st

from tests.oracle.fuzz import generate_apic as apic
from tests.oracle.fuzz import generate_chips as chips
from tests.oracle.fuzz import generate_guest as guest
from tests.oracle.fuzz import generate_stories as stories
from tests.oracle.fuzz.case import Case, Op
from tests.oracle.fuzz.context import STARTS, Context, Draw

Maker = Callable[[Draw, Context], Iterable[Op]]
DRAWS = 40  # of a case; most are one operation

# How often each is drawn, of all that the VM has.
Weights = dict[Maker, int]
ALWAYS: Weights = {
    apic.msi: 44,
    apic.other_wrmsr: 11,
    apic.other_rdmsr: 6,
    apic.lapic: 2,
    apic.mp: 14,
    apic.nmi: 6,
    apic.api: 11,
    apic.interrupt: 14,
    guest.open_: 16,
    chips.line: 18,
    chips.routing: 8,
    stories.level: 2,
    stories.extint: 6,
}
XAPIC: Weights = {guest.page: 27}
X2APIC: Weights = {apic.wrmsr: 22, apic.rdmsr: 24, guest.msr: 52}
FEW: Weights = {guest.page: 3, apic.wrmsr: 8, apic.rdmsr: 6, guest.msr: 12}
FULL: Weights = {chips.pic: 3, chips.ioapic: 5, guest.ioapic: 26, guest.pic: 23}
SPLIT: Weights = {chips.pic: 4, chips.ioapic: 4, chips.line: 10, apic.interrupt: 37, stories.level: 30}
PIT: Weights = {chips.pit: 16, chips.reinject: 18, guest.pit: 9}
FORMAT: Weights = {apic.foreign_id: 62}


@cache
def makers(context: Context) -> tuple[Maker, ...]:
    weights = ALWAYS | FEW | (SPLIT if context.split else FULL) | (PIT if context.pit else {})
    if context.x2apics:
        weights |= X2APIC | (FORMAT if context.api & 1 else {})
    if len(context.x2apics) < context.vcpus:
        weights |= XAPIC
    return tuple(maker for maker, weight in weights.items() for _ in range(weight))


@st.composite
def cases(draw: Draw) -> Case:
    """A VM, its APICs brought up in one of the usual ways or not at all, then anything."""
    api, watch = draw(st.sampled_from((0, 0, 1, 1, 3, 2))), draw(st.integers(0, 3)) != 3
    irqchip = draw(st.sampled_from(("kernel", "pit", "pit", "split", "split")))
    context = Context(
        draw(st.sampled_from((1, 2, 3, 4, 3, 4))),
        irqchip == "split",
        irqchip == "pit",
        api,
        draw(STARTS),
        draw(st.booleans()),
    )
    ops, kinds = [*apic.start(context), *chips.start(draw, context)], makers(context)
    for _ in range(DRAWS):
        kind = draw(st.integers(0, len(kinds)))
        if kind:
            ops += kinds[kind - 1](draw, context)
    return Case(tuple(ops), context.vcpus, context.split, context.pit, api, watch)
