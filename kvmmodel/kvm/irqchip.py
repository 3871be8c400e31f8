"""GSI routing: from a line's number to pins of the 8259s and the IOAPIC, or to a message. virt/kvm/irqchip.c."""

from __future__ import annotations

from dataclasses import dataclass

from kvmmodel.events import KvmSetIrq
from kvmmodel.kvm.ack import KVM_IRQCHIP_IOAPIC
from kvmmodel.kvm.host_types import trace
from kvmmodel.kvm.i8259 import PIC_NUM_PINS, kvm_pic_set_irq
from kvmmodel.kvm.ioapic import IOAPIC_NUM_PINS, kvm_ioapic_set_irq
from kvmmodel.kvm.irq import kvm_msi_route_invalid, kvm_set_msi
from kvmmodel.kvm.kvm_main import kvm_make_scan_ioapic_request
from kvmmodel.kvm.names import kernel
from kvmmodel.kvm.types import Kvm

FILE, IRQ_COMM = "virt/kvm/irqchip.c", "arch/x86/kvm/irq_comm.c"
KVM_USERSPACE_IRQ_SOURCE_ID = 0
KVM_IRQFD_RESAMPLE_IRQ_SOURCE_ID = 1
KVM_MAX_IRQ_ROUTES = 4096


@dataclass(frozen=True, slots=True)
class PicRoute:
    """A GSI leads to a pin of an 8259. ``chip``: 0 the primary, 1 the secondary: two chips, each with pins 0 to 7."""

    chip: int
    pin: int


@dataclass(frozen=True, slots=True)
class IoapicRoute:
    """A GSI leads to a pin of the IOAPIC."""

    pin: int


@dataclass(frozen=True, slots=True)
class MsiRoute:
    """A GSI stands for a message: a 64-bit address and 32-bit data."""

    address: int
    data: int


Route = PicRoute | IoapicRoute | MsiRoute


def default_routes() -> dict[int, list[Route]]:
    """It is not known which of the two a guest uses, so a line goes to both; only the IOAPIC has more than 16."""
    routes: dict[int, list[Route]] = {gsi: [IoapicRoute(gsi)] for gsi in range(IOAPIC_NUM_PINS)}
    for gsi in range(PIC_NUM_PINS):
        routes[gsi].append(PicRoute(*divmod(gsi, 8)))
    return routes


@kernel(
    "arch/x86/kvm/irq.c",
    was={"5.10": "kvm_setup_default_irq_routing", "6.18": "kvm_setup_default_ioapic_and_pic_routing"},
)
def kvm_setup_default_ioapic_and_pic_routing(kvm: Kvm) -> int:
    return kvm_set_irq_routing(kvm, default_routes())


@kernel(FILE)
def kvm_set_irq_routing(kvm: Kvm, table: dict[int, list[Route]]) -> int:
    """KVM_SET_GSI_ROUTING: replace the table. -22 (EINVAL), and no change, if an entry is refused.

    A split irqchip knows its IOAPIC by the routes, so every vCPU has to look at them again.
    """
    made: dict[int, list[Route]] = {}
    for gsi, entries in table.items():
        for route in entries:
            if setup_routing_entry(kvm, made, gsi, route):
                return -22
    before, kvm.routing = kvm.routing, made
    kvm.chip_pins = {_pin(r): gsi for gsi, routes in made.items() for r in routes if not isinstance(r, MsiRoute)}
    if kvm.irqchip == "split":
        kvm_make_scan_ioapic_request(kvm)
    for update in kvm.routing_updates:
        update(before)
    return 0


def _pin(route: PicRoute | IoapicRoute) -> tuple[int, int]:
    """Its chip, and its pin there; those of the secondary 8259 count from 8."""
    if isinstance(route, PicRoute):
        return route.chip, route.pin + 8 * route.chip
    return KVM_IRQCHIP_IOAPIC, route.pin


@kernel(FILE)
def setup_routing_entry(kvm: Kvm, made: dict[int, list[Route]], gsi: int, route: Route) -> int:
    """A GSI reaches one pin of each chip, or exactly one message."""
    if not 0 <= gsi < KVM_MAX_IRQ_ROUTES:
        return -22
    if isinstance(route, IoapicRoute) and not 0 <= route.pin < IOAPIC_NUM_PINS:
        return -22
    if isinstance(route, PicRoute) and (route.chip not in (0, 1) or not 0 <= route.pin < PIC_NUM_PINS // 2):
        return -22
    if isinstance(route, MsiRoute):
        if kvm_msi_route_invalid(kvm, route.address):
            return -22
    elif kvm.irqchip == "split":
        return -22
    before = made.setdefault(gsi, [])
    if any(
        isinstance(route, MsiRoute) or isinstance(old, MsiRoute) or _pin(old)[0] == _pin(route)[0] for old in before
    ):
        return -22
    before.append(route)
    return 0


@kernel(FILE)
def kvm_set_irq(kvm: Kvm, source: int, gsi: int, level: bool, line_status: bool = False) -> int:
    """A line changes. The sum of what its entries, in the table's order, return; -1 if all refuse or there is none.

    KVM keeps each GSI's entries with the last one first, and goes through them from the end.
    """
    trace(kvm.host, KvmSetIrq, gsi, int(level), source)
    result = -1
    for route in kvm.routing.get(gsi, []):
        got = set_route(kvm, route, source, level, line_status)
        if got >= 0:
            result = got + max(result, 0)
    return result


def set_route(kvm: Kvm, route: Route, source: int, level: bool, line_status: bool) -> int:
    """One entry's set function. A message has only a rising edge."""
    if isinstance(route, MsiRoute):
        return kvm_set_msi(kvm, route.address, route.data) if level else -1
    if isinstance(route, PicRoute):
        return kvm_set_pic_irq(kvm, route, source, level)
    return kvm_set_ioapic_irq(kvm, route, source, level, line_status)


@kernel(IRQ_COMM, until="6.18")
def kvm_set_pic_irq(kvm: Kvm, route: PicRoute, source: int, level: bool) -> int:
    return kvm_pic_set_irq(kvm, _pin(route)[1], source, level)


@kernel(IRQ_COMM, until="6.18")
def kvm_set_ioapic_irq(kvm: Kvm, route: IoapicRoute, source: int, level: bool, line_status: bool) -> int:
    return kvm_ioapic_set_irq(kvm, kvm.ioapic, route.pin, source, level, line_status)


@kernel("arch/x86/kvm/irq.c")
def kvm_vm_ioctl_irq_line(kvm: Kvm, gsi: int, level: bool) -> int:
    """KVM_IRQ_LINE_STATUS."""
    return kvm_set_irq(kvm, KVM_USERSPACE_IRQ_SOURCE_ID, gsi, level, True)
