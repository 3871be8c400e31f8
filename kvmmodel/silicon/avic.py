"""The AVIC unit of one virtual CPU: what the processor does with a virtual APIC's registers, by itself.

AMD APM volume 2, 15.29, read as a text made from it. Where it is silent or at odds with itself, facts/open_points.toml
has the question, the choices and the default. The unit sees memory, the VMCB and doorbells, and knows nothing of KVM.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from kvmmodel.events import AvicClearIsr, AvicLookup, AvicRing, AvicSetIrr, AvicTake, AvicTpr, Event
from kvmmodel.facts.open_points import choose
from kvmmodel.silicon import apic as hw
from kvmmodel.silicon.avic_tables import (
    LOGICAL_GUEST_ID,
    LOGICAL_VALID,
    PHYSICAL_BACKING_PAGE,
    PHYSICAL_HOST_ID,
    PHYSICAL_IS_RUNNING,
    PHYSICAL_VALID,
    BackingPage,
    HostMemory,
    logical_index,
)
from kvmmodel.silicon.vmcb import Vmcb

INVALID_INT_TYPE, TARGET_NOT_RUNNING, INVALID_TARGET, INVALID_BACKING_PAGE, INVALID_IPI_VECTOR = range(5)
XAVIC_MAX_INDEX, X2AVIC_MAX_INDEX = 255, 511  # the largest that VMRUN takes; more needs x2AVIC_EXT
LOWEST_VECTOR = 16
Target = tuple[int, int]  # guest APIC ID, which indexes the physical table; the index that an exit about it reports
ORDERS = {  # of the ICR's checks
    "type": ("type", "vector", "target"),
    "target": ("target", "type", "vector"),
    "vector": ("vector", "type", "target"),
}


@dataclass(slots=True)
class AvicUnit:
    """``ring`` sends a doorbell to the core with a host APIC ID. ``request``: evaluation found a vector to take."""

    ident: int  # the guest's APIC ID of this vCPU, for the events
    vmcb: Vmcb
    memory: HostMemory
    emit: Callable[[Event], None]
    ring: Callable[[int], None]
    open: Mapping[str, str] = field(default_factory=choose)
    extended_lvt: bool = False  # CPUID: ExtLvtAvicAccessChg
    request: bool = False


def vmrun_refuses(vmcb: Vmcb, x2avic_ext: bool) -> bool:
    """Whether VMRUN ends at once with VMEXIT_INVALID: x2APIC mode without AVIC, or MAX_INDEX too large."""
    if not vmcb.avic_enable:
        return vmcb.x2apic_mode
    limit = XAVIC_MAX_INDEX if not vmcb.x2apic_mode else 4095 if x2avic_ext else X2AVIC_MAX_INDEX
    return vmcb.avic_max_index > limit


def backing_page(unit: AvicUnit) -> BackingPage:
    return unit.memory.pages[unit.vmcb.avic_backing_page]


def update_ppr(unit: AvicUnit) -> None:
    """The higher class of TPR and of the highest vector in service."""
    page = backing_page(unit)
    tpr, isr = page.regs.get(hw.APIC_TASKPRI, 0) & 0xFF, max(hw.highest(page.isr), 0)
    if tpr & 0xF0 >= isr & 0xF0:
        page.regs[hw.APIC_PROCPRI] = tpr if unit.open["avic_ppr_low_nibble"] == "kept" else tpr & 0xF0
    else:
        page.regs[hw.APIC_PROCPRI] = isr & 0xF0


def evaluate(unit: AvicUnit) -> None:
    """Look for a vector to take: at VMRUN, at a doorbell, after EOI, after a change of TPR, after an IPI to oneself."""
    page = backing_page(unit)
    unit.request = hw.highest(page.irr) >> 4 > page.regs.get(hw.APIC_PROCPRI, 0) >> 4


def take(unit: AvicUnit) -> int | None:
    """The guest can take an interrupt now: the highest vector goes from IRR to ISR. No exit, no EVENTINJ."""
    evaluate(unit)
    if not unit.request:
        return None
    page = backing_page(unit)
    vector = hw.highest(page.irr)
    page.irr &= ~(1 << vector)
    page.isr |= 1 << vector
    unit.emit(AvicTake(unit.ident, vector))
    update_ppr(unit)
    evaluate(unit)
    return vector


def write_tpr(unit: AvicUnit, value: int) -> None:
    backing_page(unit).regs[hw.APIC_TASKPRI] = value & 0xFF
    unit.vmcb.v_tpr = value >> 4 & 0xF
    update_ppr(unit)
    unit.emit(AvicTpr(unit.ident, value & 0xFF, backing_page(unit).regs.get(hw.APIC_PROCPRI, 0)))
    evaluate(unit)


def write_eoi(unit: AvicUnit) -> int | None:
    """None: done, the vector was an edge's. A vector: its TMR bit is set, so the exit leaves the rest to software."""
    page = backing_page(unit)
    vector = hw.highest(page.isr)
    if vector < 0:
        return 0 if unit.open["avic_eoi_empty_isr"] == "trap" else None
    level = page.tmr >> vector & 1 == 1
    if level and unit.open["avic_isr_at_level_eoi"] == "set":
        return vector
    page.isr &= ~(1 << vector)
    unit.emit(AvicClearIsr(unit.ident, vector))
    update_ppr(unit)
    evaluate(unit)
    return vector if level else None


def write_icr(unit: AvicUnit, low: int, high: int) -> tuple[int, int] | None:
    """Send what the ICR says, which is in the page already. None: done. Else why not, and the index, of EXITINFO2."""
    vector = low & hw.APIC_VECTOR_MASK
    wrong_type = low & hw.APIC_MODE_MASK != hw.APIC_DM_FIXED or low & hw.APIC_INT_LEVELTRIG != 0
    to_itself = low & hw.APIC_SHORT_MASK == hw.APIC_DEST_SELF
    targets, wrong_target = ([], None) if to_itself else find_targets(unit, low, high)
    checks: dict[str, tuple[int, int] | None] = {
        "type": (INVALID_INT_TYPE, 0) if wrong_type else None,
        "vector": (INVALID_IPI_VECTOR, 0) if vector < LOWEST_VECTOR else None,
        "target": wrong_target,
    }
    for name in ORDERS[unit.open["avic_icr_check_order"]]:
        if checks[name] is not None:
            return checks[name]
    if to_itself:
        self_ipi(unit, vector)
        return None
    waiting = _deliver(unit, vector, targets)
    return None if waiting is None else (TARGET_NOT_RUNNING, waiting)


def find_targets(unit: AvicUnit, low: int, high: int) -> tuple[list[Target], tuple[int, int] | None]:
    """All that are meant, each with a valid entry; or what is wrong with one of them."""
    broadcast = is_broadcast(unit, low, high)
    meant = list(_broadcast_targets(unit, low) if broadcast else _directed_targets(unit, low, high))
    if not meant and not broadcast:
        return [], (INVALID_TARGET, 0) if unit.open["avic_logical_empty"] == "ID2" else None
    table, found = unit.memory.tables[unit.vmcb.avic_physical_id], list[Target]()
    for index, slot in meant:
        covered = index is not None and index <= unit.vmcb.avic_max_index and not _reserved(unit, index)
        entry = table.get(index, 0) if index is not None and covered else 0
        reported = slot if index is None or unit.open["avic_index_reported"] == "logical" else index
        if index is None or not entry & PHYSICAL_VALID:
            return [], (INVALID_TARGET, reported)
        if entry & PHYSICAL_BACKING_PAGE not in unit.memory.pages:
            return [], (INVALID_BACKING_PAGE, slot)
        found.append((index, reported))
    return found, None


def _reserved(unit: AvicUnit, index: int) -> bool:
    return index == 0xFF and unit.vmcb.x2apic_mode and unit.open["entry_255_x2avic"] == "reserved"


def self_ipi(unit: AvicUnit, vector: int) -> None:
    """The physical table is not looked at."""
    page = backing_page(unit)
    if software_enabled(page) or unit.open["avic_self_ipi_sw_disabled"] == "accepted":
        _set_irr(unit, page, unit.ident, vector)
        evaluate(unit)


def software_enabled(page: BackingPage) -> bool:
    return page.regs.get(hw.APIC_SPIV, 0) & hw.APIC_SPIV_APIC_ENABLED != 0


def _set_irr(unit: AvicUnit, page: BackingPage, ident: int, vector: int) -> None:
    """``ident``: whose page it is."""
    page.irr |= 1 << vector
    if unit.open["avic_ipi_tmr"] == "cleared":
        page.tmr &= ~(1 << vector)
    unit.emit(AvicSetIrr(ident, vector))


def is_broadcast(unit: AvicUnit, low: int, high: int) -> bool:
    """Both shorthands that mean all; or the destination that does."""
    if low & hw.APIC_SHORT_MASK:
        return True
    if unit.vmcb.x2apic_mode:
        return high == hw.X2APIC_BROADCAST and unit.open["x2avic_broadcast"] == "broadcast"
    return high >> 24 == hw.APIC_BROADCAST


def _broadcast_targets(unit: AvicUnit, low: int) -> Iterator[Target]:
    """Every valid entry; invalid ones are passed over without a word."""
    but_self = low & hw.APIC_SHORT_MASK == hw.APIC_DEST_ALLBUT
    for index, entry in sorted(unit.memory.tables[unit.vmcb.avic_physical_id].items()):
        if entry & PHYSICAL_VALID and index <= unit.vmcb.avic_max_index and not (but_self and index == unit.ident):
            yield index, index


def _directed_targets(unit: AvicUnit, low: int, high: int) -> Iterator[tuple[int | None, int]]:
    """As ``Target``; None for a logical ID that the logical table has no valid entry for."""
    x2apic = unit.vmcb.x2apic_mode
    dest = high if x2apic else high >> 24
    if not low & hw.APIC_DEST_LOGICAL:
        yield dest, dest
    elif x2apic:  # no logical table
        members = [(dest >> 16) << 4 | bit for bit in range(16) if dest >> bit & 1]
        yield from zip(members, members, strict=True)
    else:
        flat = backing_page(unit).regs.get(hw.APIC_DFR, hw.APIC_DFR_FLAT) == hw.APIC_DFR_FLAT
        bits, cluster = (dest, 0) if flat else (dest & 0xF, dest & 0xF0)
        table = unit.memory.tables[unit.vmcb.avic_logical_id]
        for bit in range(8):
            if bits >> bit & 1:
                slot = logical_index(cluster | 1 << bit, flat)
                entry = table.get(slot, 0) if slot is not None else 0
                yield (entry & LOGICAL_GUEST_ID if entry & LOGICAL_VALID else None), slot or 0


def _deliver(unit: AvicUnit, vector: int, targets: list[Target]) -> int | None:
    """First every IRR bit, then, target by target, a doorbell. What to report of the first that is not running."""
    table, waiting = unit.memory.tables[unit.vmcb.avic_physical_id], None
    pages = {index: unit.memory.pages[table[index] & PHYSICAL_BACKING_PAGE] for index, _ in targets}
    if unit.open["avic_ipi_sw_disabled"] == "dropped":
        targets = [target for target in targets if software_enabled(pages[target[0]])]
    for index, _ in targets:
        _set_irr(unit, pages[index], index, vector)
    for index, reported in targets:
        entry = table[index]
        running = entry & PHYSICAL_IS_RUNNING != 0
        unit.emit(AvicLookup(index, running))
        if running:
            unit.emit(AvicRing(index, entry & PHYSICAL_HOST_ID))
            if index == unit.ident:
                evaluate(unit)
            else:
                unit.ring(entry & PHYSICAL_HOST_ID)
        elif waiting is None:
            waiting = reported
    return waiting
