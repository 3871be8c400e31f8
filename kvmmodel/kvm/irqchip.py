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
