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
    apic.msi: 20,
    apic.wrmsr: 12,
    apic.other_wrmsr: 5,
    apic.rdmsr: 7,
    apic.other_rdmsr: 3,
    apic.lapic: 6,
    apic.mp: 4,
    apic.nmi: 3,
    apic.api: 4,
    apic.interrupt: 4,
    guest.page: 14,
    guest.msr: 8,
    guest.open_: 2,
    chips.line: 22,
    chips.routing: 6,
    stories.level: 3,
    stories.extint: 2,
}
FULL: Weights = {chips.pic: 4, chips.ioapic: 6, guest.ioapic: 10, guest.pic: 8}
SPLIT: Weights = {chips.pic: 3, chips.ioapic: 3, apic.interrupt: 12}
PIT: Weights = {chips.pit: 8, chips.reinject: 5, guest.pit: 8}


@cache
def makers(split: bool, pit: bool) -> tuple[Maker, ...]:
    weights = ALWAYS | (SPLIT if split else FULL) | (PIT if pit else {})
    return tuple(maker for maker, weight in weights.items() for _ in range(weight))


@st.composite
def cases(draw: Draw) -> Case:
    """A VM, its APICs brought up in one of the usual ways or not at all, then anything."""
    api = draw(st.sampled_from((0, 0, 0, 1, 1, 2, 3)))
    irqchip, watch = draw(st.sampled_from(("kernel", "pit", "split", "kernel"))), draw(st.integers(0, 3)) != 3
    context = Context(
        draw(st.integers(1, 4)), irqchip == "split", irqchip == "pit", api, draw(STARTS), draw(st.booleans())
    )
    ops, kinds = list(apic.start(context)), makers(context.split, context.pit)
    for _ in range(DRAWS):
        kind = draw(st.integers(0, len(kinds)))
        if kind:
            ops += kinds[kind - 1](draw, context)
    return Case(tuple(ops), context.vcpus, context.split, context.pit, api, watch)
