"""The IOMMU's interrupt remapping: a device's message becomes a host interrupt, or is posted into a backing page.

128-bit entries of a table that the IOMMU reads; drivers/iommu/amd names their fields. Its manual is known second hand.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from kvmmodel.events import Event, IommuGaLog, IommuPost
from kvmmodel.silicon.avic_tables import HostMemory


@dataclass(slots=True)
class Irte:
    """A remapping entry. ``guest_mode``: post to the page at ``ga_root_ptr``; else interrupt the host with ``vector``.

    ``is_run``: ring the core ``destination``. ``ga_log_intr``: else write ``ga_tag`` into the guest APIC log.
    """

    guest_mode: bool = False
    destination: int = 0
    vector: int = 0
    is_run: bool = False
    ga_log_intr: bool = False
    ga_tag: int = 0
    ga_root_ptr: int = 0

    def __str__(self) -> str:
        """In one line, numbers as people write them."""
        if not self.guest_mode:
            return f"remapped: vector {self.vector:#x} of the host, to CPU {self.destination}"
        runs = f"is_run 1, CPU {self.destination}" if self.is_run else "is_run 0"
        page = f"page {self.ga_root_ptr:#x}, tag {self.ga_tag:#x}"
        return f"posted: guest's vector {self.vector:#x}, {page}, {runs}, GALogIntr {int(self.ga_log_intr)}"


VALID, GA_LOG_INTR, IS_RUN, GUEST_MODE = 1 << 0, 1 << 2, 1 << 6, 1 << 7


def words(irte: Irte) -> tuple[int, int]:
    """The entry as the IOMMU reads it, low word first. Remapped, the model's are Fixed and to a physical APIC ID."""
    low = VALID | (irte.destination & 0xFFFFFF) << 8
    high = irte.vector | (irte.destination >> 24) << 56
    if not irte.guest_mode:
        return low, high
    low |= GUEST_MODE | GA_LOG_INTR * irte.ga_log_intr | IS_RUN * irte.is_run | irte.ga_tag << 32
    return low, high | irte.ga_root_ptr & ((1 << 52) - (1 << 12))


@dataclass(slots=True)
class Iommu:
    """``log`` is the guest APIC log: tags of vCPUs that somebody has to look at, with an interrupt to the host."""

    memory: HostMemory
    emit: Callable[[Event], None]
    ring: Callable[[int], None]
    interrupt_host: Callable[[Irte], None]
    interrupt_log: Callable[[], None]
    log: list[int] = field(default_factory=list)


def message(iommu: Iommu, irte: Irte) -> None:
    """A device sends the MSI that this entry remaps."""
    if not irte.guest_mode:
        iommu.interrupt_host(irte)
        return
    iommu.memory.pages[irte.ga_root_ptr].irr |= 1 << irte.vector
    iommu.emit(IommuPost(irte.vector, irte.is_run, irte.ga_tag))
    if irte.is_run:
        iommu.ring(irte.destination)
    elif irte.ga_log_intr:
        iommu.log.append(irte.ga_tag)
        iommu.emit(IommuGaLog(irte.ga_tag))
        iommu.interrupt_log()
