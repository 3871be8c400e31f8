"""An AVIC unit alone: vCPUs as backing pages in host memory, and a table. No KVM."""

from __future__ import annotations

from dataclasses import dataclass, field

from kvmmodel.events import Event
from kvmmodel.facts.open_points import choose
from kvmmodel.silicon.avic import AvicUnit
from kvmmodel.silicon.avic_tables import PHYSICAL_BACKING_PAGE, PHYSICAL_IS_RUNNING, HostMemory, physical_entry
from kvmmodel.silicon.vmcb import Vmcb

TPR, PPR, LDR, DFR, SVR, ICR, ICR2 = 0x80, 0xA0, 0xD0, 0xE0, 0xF0, 0x300, 0x310
FLAT, CLUSTER = 0xFFFFFFFF, 0x0FFFFFFF


@dataclass(slots=True)
class Page:
    irr: int = 0
    isr: int = 0
    tmr: int = 0
    regs: dict[int, int] = field(default_factory=dict)


@dataclass(slots=True)
class Bench:
    """``pages`` by guest APIC ID; vCPU i is on core 0x40 + i. ``rung``: the cores that got a doorbell, in order."""

    unit: AvicUnit
    pages: dict[int, Page]
    rung: list[int]
    events: list[Event]

    def irr(self) -> dict[int, int]:
        """APIC ID -> IRR, of those that have a bit."""
        return {ident: page.irr for ident, page in self.pages.items() if page.irr}

    def stop(self, ident: int) -> None:
        table = self.table()
        table[ident] &= ~PHYSICAL_IS_RUNNING

    def table(self) -> dict[int, int]:
        return self.unit.memory.tables[self.unit.vmcb.avic_physical_id]

    def logical(self) -> dict[int, int]:
        return self.unit.memory.tables[self.unit.vmcb.avic_logical_id]


def bench(
    idents: int | list[int] = 3, x2apic: bool = True, sender: int = 0, max_index: int = 0x1FF, **choices: str
) -> Bench:
    """vCPUs with these APIC IDs, all valid and running; ``choices`` at open points."""
    memory, pages = HostMemory(), dict[int, Page]()
    physical, logical = memory.alloc(), memory.alloc()
    memory.tables |= {physical: {}, logical: {}}
    for ident in range(idents) if isinstance(idents, int) else idents:
        address = memory.alloc()
        pages[ident] = memory.pages[address] = Page(regs={SVR: 0x1FF})
        memory.tables[physical][ident] = physical_entry(address, 0x40 + ident, running=True)
    vmcb = Vmcb(avic_enable=True, x2apic_mode=x2apic, avic_physical_id=physical, avic_logical_id=logical)
    vmcb.avic_max_index = max_index
    vmcb.avic_backing_page = memory.tables[physical][sender] & PHYSICAL_BACKING_PAGE
    rung, events = list[int](), list[Event]()
    unit = AvicUnit(sender, vmcb, memory, events.append, rung.append, choose(choices))
    return Bench(unit, pages, rung, events)


def bits(*vectors: int) -> int:
    return sum(1 << vector for vector in set(vectors))
