"""Random cases for Hypothesis. What is drawn first is what a case shrinks to: nothing, small numbers, vCPU 0."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st

from tests.oracle.fuzz import generate_apic as apic
from tests.oracle.fuzz import generate_chips as chips
from tests.oracle.fuzz.case import Case, Op

Draw = Callable[[st.SearchStrategy[Any]], Any]
Maker = Callable[[Draw, Case], Op]
OPS = 60  # of a case, besides those that bring its APICs up

# How often each kind is drawn, of all kinds that the VM can do.
WEIGHTS: dict[str, tuple[int, Maker]] = {
    "msi": (20, apic.msi),
    "wrmsr": (12, apic.wrmsr),
    "rdmsr": (6, apic.rdmsr),
    "lapic": (5, apic.lapic),
    "mp": (4, apic.mp),
    "guest apic": (14, apic.guest),
    "guest msr": (8, apic.guest_msr),
    "line": (24, chips.line),
    "routing": (6, chips.routing),
    "pic": (3, chips.pic),
    "ioapic": (5, chips.ioapic),
    "guest ioapic": (8, chips.guest_ioapic),
    "guest port": (8, chips.guest_port),
}
MAKERS: list[Maker] = [maker for weight, maker in WEIGHTS.values() for _ in range(weight)]
KINDS = st.integers(0, len(MAKERS))


@st.composite
def cases(draw: Draw) -> Case:
    """A VM, its APICs brought up in one of the usual ways or not at all, then anything."""
    vcpus = draw(st.integers(1, 4))
    case = Case((), vcpus, False, draw(st.sampled_from((0, 0, 1, 2, 3))), draw(st.integers(0, 3)) != 3)
    ops = list(apic.start(draw, case))
    for _ in range(OPS):
        kind = draw(KINDS)
        if kind:
            ops.append(MAKERS[kind - 1](draw, case))
    return Case(tuple(ops), case.vcpus, case.split, case.api, case.watch)
