"""GSI routing: from an interrupt line's number to IOAPIC pins and messages. virt/kvm/irqchip.c.

This version has no 8259: by default GSI 0 to 23 reach the IOAPIC only.
"""

from __future__ import annotations

from dataclasses import dataclass

from kvmmodel.events import KvmSetIrq
from kvmmodel.kvm.ioapic import IOAPIC_NUM_PINS, kvm_ioapic_set_irq
from kvmmodel.kvm.irq import kvm_set_msi
from kvmmodel.kvm.names import kernel
from kvmmodel.kvm.types import Kvm, trace

FILE = "virt/kvm/irqchip.c"
KVM_USERSPACE_IRQ_SOURCE_ID = 0
KVM_IRQFD_RESAMPLE_IRQ_SOURCE_ID = 1
KVM_MAX_IRQ_ROUTES = 4096


@dataclass(frozen=True, slots=True)
class IoapicRoute:
    pin: int


@dataclass(frozen=True, slots=True)
class MsiRoute:
    address: int
    data: int


Route = IoapicRoute | MsiRoute


def default_routes() -> dict[int, list[Route]]:
    return {gsi: [IoapicRoute(gsi)] for gsi in range(IOAPIC_NUM_PINS)}


@kernel(FILE)
def kvm_set_irq_routing(kvm: Kvm, table: dict[int, list[Route]]) -> int:
    """KVM_SET_GSI_ROUTING: replace the table. -22 (EINVAL), and no change, if an entry is refused."""
    made: dict[int, list[Route]] = {}
    for gsi, entries in table.items():
        for route in entries:
            if setup_routing_entry(made, gsi, route):
                return -22
    kvm.routing = made
    return 0


@kernel(FILE)
def setup_routing_entry(made: dict[int, list[Route]], gsi: int, route: Route) -> int:
    """A GSI reaches one pin of each chip, or exactly one message."""
    if not 0 <= gsi < KVM_MAX_IRQ_ROUTES:
        return -22
    if isinstance(route, IoapicRoute) and not 0 <= route.pin < IOAPIC_NUM_PINS:
        return -22
    before = made.setdefault(gsi, [])
    if any(isinstance(route, MsiRoute) or isinstance(old, MsiRoute) or type(old) is type(route) for old in before):
        return -22
    before.append(route)
    return 0


@kernel(FILE)
def kvm_set_irq(kvm: Kvm, source: int, gsi: int, level: bool) -> int:
    """A line changes. The sum of what its entries, last one first, return; -1 if all refuse or there is none."""
    trace(kvm.host, KvmSetIrq, gsi, int(level), source)
    result = -1
    for route in reversed(kvm.routing.get(gsi, [])):
        got = set_route(kvm, route, source, level)
        if got >= 0:
            result = got + max(result, 0)
    return result


def set_route(kvm: Kvm, route: Route, source: int, level: bool) -> int:
    """One entry's set function. A message has only a rising edge."""
    if isinstance(route, MsiRoute):
        return kvm_set_msi(kvm, route.address, route.data) if level else -1
    return kvm_ioapic_set_irq(kvm, kvm.ioapic, route.pin, source, level)


@kernel("arch/x86/kvm/irq.c")
def kvm_vm_ioctl_irq_line(kvm: Kvm, gsi: int, level: bool) -> int:
    """KVM_IRQ_LINE_STATUS."""
    return kvm_set_irq(kvm, KVM_USERSPACE_IRQ_SOURCE_ID, gsi, level)
