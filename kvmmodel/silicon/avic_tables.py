"""What AVIC keeps in memory: backing pages, the physical and the logical APIC ID table. AMD APM volume 2, 15.29."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

# Physical APIC ID table: 64-bit entries, the index is the guest's APIC ID
PHYSICAL_VALID = 1 << 63
PHYSICAL_IS_RUNNING = 1 << 62
PHYSICAL_BACKING_PAGE = (1 << 52) - (1 << 12)
PHYSICAL_HOST_ID = 0xFFF

# Logical APIC ID table, xAPIC mode only: 32-bit entries
LOGICAL_VALID = 1 << 31
LOGICAL_GUEST_ID = 0xFF


class BackingPage(Protocol):
    """The register page of a virtual APIC: the three banks as ints, every other register by its offset."""

    irr: int
    isr: int
    tmr: int
    regs: dict[int, int]


@dataclass(slots=True)
class HostMemory:
    """Host-physical memory as far as AVIC uses it, by the address of a page. A table's missing entries are 0."""

    pages: dict[int, BackingPage] = field(default_factory=dict)
    tables: dict[int, dict[int, int]] = field(default_factory=dict)
    free: int = 1 << 32  # the next page to be given away

    def alloc(self) -> int:
        """The address of a page that nobody has yet."""
        self.free += 4096
        return self.free - 4096


def physical_entry(backing_page: int, host_id: int = 0, running: bool = False, valid: bool = True) -> int:
    """Only bits 51:12 of the page's address go into it; ``host_id`` counts only while ``running``."""
    flags = PHYSICAL_VALID * valid | PHYSICAL_IS_RUNNING * running
    return flags | backing_page & PHYSICAL_BACKING_PAGE | host_id & PHYSICAL_HOST_ID


def logical_index(logical_id: int, flat: bool) -> int | None:
    """Slot of a logical ID with one bit: 8 of the flat model, or 4 in each of 15 clusters. None: it has no slot."""
    cluster, bits = (0, logical_id & 0xFF) if flat else (logical_id >> 4 & 0xF, logical_id & 0xF)
    if cluster == 15 or bits.bit_count() != 1:
        return None
    return 4 * cluster + bits.bit_length() - 1
