"""The ops on interrupt lines, routes, the IOAPIC and the 8259s."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

from kvmmodel.cases import guest
from kvmmodel.cases.bench import Bench, on_cpu
from kvmmodel.kvm.ack import KVM_IRQCHIP_IOAPIC
from kvmmodel.kvm.i8254 import CHANNEL
from kvmmodel.kvm.i8259 import PIC_NUM_PINS, kvm_pic_read_irq, kvm_pic_set_irq
from kvmmodel.kvm.ioapic import (
    IOAPIC_DEFAULT_BASE_ADDRESS,
    IOAPIC_NUM_PINS,
    RTE_DELIVERY_STATUS,
    RTE_LEVEL,
    RTE_MASKED,
    RTE_REMOTE_IRR,
    is_level,
    kvm_ioapic_set_irq,
    kvm_ioapic_update_eoi,
)
from kvmmodel.kvm.ioapic_registers import IOAPIC_REG_SELECT, IOAPIC_REG_WINDOW, with_entry
from kvmmodel.kvm.irqchip import KVM_USERSPACE_IRQ_SOURCE_ID, IoapicRoute, MsiRoute, PicRoute, Route

Args = dict[str, Any]
DELIVERY = {"fixed": 0, "lowest": 1, "smi": 2, "nmi": 4, "init": 5, "startup": 6, "extint": 7}
POLARITY = 1 << 13
MSI_ADDRESS = 0xFEE00000
CHIPS = ("primary", "secondary")
PIC_PORTS = {"cmd": (0x20, 0xA0), "data": (0x21, 0xA1), "elcr": (0x4D0, 0x4D1)}
WRITTEN_BITS = {
    "trigger": RTE_LEVEL,
    "mask": RTE_MASKED,
    "polarity": POLARITY,
    "remote_irr": RTE_REMOTE_IRR,
    "delivery_status": RTE_DELIVERY_STATUS,
}


def irq_line(bench: Bench, args: Args) -> int:
    pin, level, kvm = args["pin"], bool(args["level"]), bench.vm.machine.kvm
    if args["to"] == "gsi":
        return bench.vm.irq_line(pin, level)
    if args["to"] == "pic":
        return kvm_pic_set_irq(kvm, pin, KVM_USERSPACE_IRQ_SOURCE_ID, level) if 0 <= pin < PIC_NUM_PINS else -1
    if not 0 <= pin < IOAPIC_NUM_PINS:
        return -1
    return kvm_ioapic_set_irq(kvm, kvm.ioapic, pin, KVM_USERSPACE_IRQ_SOURCE_ID, level, bool(args.get("status")))


def irqfd_resample(bench: Bench, args: Args) -> None:
    def signalled() -> None:
        bench.resampled = True

    bench.vm.irqfd_resample(args["gsi"], signalled)
    bench.vm.eventfd_write(args["gsi"])


def _select(bench: Bench, index: int) -> None:
    guest.mmio_write(bench, bench.vm.vcpus[0], IOAPIC_DEFAULT_BASE_ADDRESS + IOAPIC_REG_SELECT, index)


def _write(bench: Bench, index: int, value: int) -> None:
    _select(bench, index)
    guest.mmio_write(bench, bench.vm.vcpus[0], IOAPIC_DEFAULT_BASE_ADDRESS + IOAPIC_REG_WINDOW, value)


def _read(bench: Bench, index: int) -> int:
    _select(bench, index)
    return guest.mmio_read(bench, bench.vm.vcpus[0], IOAPIC_DEFAULT_BASE_ADDRESS + IOAPIC_REG_WINDOW)


def ioapic_write(bench: Bench, args: Args) -> None:
    if args["index"] == "IOREGSEL":
        _select(bench, args["value"])
    else:
        _write(bench, args["index"], args["value"])


def ioapic_read(bench: Bench, args: Args) -> int:
    if args["index"] == "IOREGSEL":
        return guest.mmio_read(bench, bench.vm.vcpus[0], IOAPIC_DEFAULT_BASE_ADDRESS + IOAPIC_REG_SELECT)
    return _read(bench, args["index"])


def ioapic_rte(bench: Bench, args: Args) -> None:
    """The upper half first, so that the entry is whole once the lower half is there."""
    low = args["vector"] | DELIVERY[args.get("delivery") or "fixed"] << 8
    low |= (args.get("dest_mode") == "logical") << 11
    low |= (args["trigger"] == "level") << 15 | bool(args.get("mask")) << 16
    _write(bench, 0x11 + 2 * args["pin"], (args.get("dest") or 0) << 24)
    _write(bench, 0x10 + 2 * args["pin"], low)


def ioapic_update(bench: Bench, args: Args) -> None:
    """Read, change the named fields, write back the halves that they are in."""
    index = 0x10 + 2 * args["pin"]
    if args.get("dest") is not None:
        _write(bench, index + 1, _read(bench, index + 1) & 0xFFFFFF | args["dest"] << 24)
    named = {name: bit for name, bit in WRITTEN_BITS.items() if args.get(name) is not None}
    if not named:
        return
    low = _read(bench, index)
    for name, bit in named.items():
        on = args[name] == "level" if name == "trigger" else bool(args[name])
        low = low | bit if on else low & ~bit
    _write(bench, index, low)


def ioapic_set(bench: Bench, args: Args) -> None:
    lines = args.get("lines")
    irr = None if lines is None else sum(1 << pin for pin in set(lines))
    state = bench.vm.get_irqchip(KVM_IRQCHIP_IOAPIC)
    bench.vm.set_irqchip(KVM_IRQCHIP_IOAPIC, with_entry(state, args["pin"], args["rte"], irr))


def ioapic_eoi(bench: Bench, args: Args) -> None:
    """Of a level vector, unless all its pins are edge."""
    vcpu = bench.vm.vcpus[0].kvm_vcpu
    pins = [entry for entry in vcpu.kvm.ioapic.redirtbl if entry & 0xFF == args["vector"]]
    kvm_ioapic_update_eoi(vcpu, vcpu.kvm.ioapic, args["vector"], not pins or any(map(is_level, pins)))


def _pic_out(bench: Bench, pic: str, port: str, value: int) -> None:
    guest.outb(bench, bench.vm.vcpus[0], PIC_PORTS[port][CHIPS.index(pic)], value)


def pic_init(bench: Bench, args: Args) -> None:
    first, *others = args["icw"]
    _pic_out(bench, args["pic"], "cmd", first)
    for word in others:
        _pic_out(bench, args["pic"], "data", word)


def pic_write(bench: Bench, args: Args) -> None:
    _pic_out(bench, args["pic"], args["port"], args["value"])


def pic_read(bench: Bench, args: Args) -> int:
    return guest.inb(bench, bench.vm.vcpus[0], PIC_PORTS["cmd"][CHIPS.index(args["pic"])])


def pic_ack(bench: Bench, args: Args) -> int | None:
    kvm = bench.vm.machine.kvm
    if not kvm.pic.output:
        return None
    with on_cpu(bench, bench.vm.vcpus[0]):
        return kvm_pic_read_irq(kvm)


def pit_peek(bench: Bench, args: Args) -> int:
    """A VM of the cases has a PIT once one is looked at."""
    if bench.vm.machine.kvm.vpit is None:
        bench.vm.create_pit2()
    count: int = struct.unpack_from("<I", bench.vm.get_pit2(), args["channel"] * struct.calcsize(CHANNEL))[0]
    return count


def _route(chip: str, pin: int) -> Route:
    if chip == "msi":
        return MsiRoute(MSI_ADDRESS, pin)
    return IoapicRoute(pin) if chip == "ioapic" else PicRoute(CHIPS.index(chip.removeprefix("pic_")), pin)


def routes_set(bench: Bench, args: Args) -> int:
    table = dict[int, list[Route]]()
    for gsi, chip, pin in args["routes"]:
        table.setdefault(gsi, []).append(_route(chip, pin))
    return bench.vm.set_gsi_routing(table)


def routes_add(bench: Bench, args: Args) -> int:
    table = {gsi: list(entries) for gsi, entries in bench.vm.machine.kvm.routing.items()}
    table.setdefault(args["gsi"], []).append(_route(args["to"], args["pin"]))
    return bench.vm.set_gsi_routing(table)


def routes_count(bench: Bench, args: Args) -> int:
    return len(bench.vm.machine.kvm.routing.get(args["gsi"], ()))


OPS: dict[str, Callable[[Bench, Args], Any]] = {
    "irq.line": irq_line,
    "irqfd.resample": irqfd_resample,
    "ioapic.rte": ioapic_rte,
    "ioapic.update": ioapic_update,
    "ioapic.set": ioapic_set,
    "ioapic.write": ioapic_write,
    "ioapic.read": ioapic_read,
    "ioapic.eoi": ioapic_eoi,
    "pic.init": pic_init,
    "pic.write": pic_write,
    "pic.read": pic_read,
    "pic.ack": pic_ack,
    "pit.peek": pit_peek,
    "routes.set": routes_set,
    "routes.add": routes_add,
    "routes.count": routes_count,
}
