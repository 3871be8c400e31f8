"""The small tables of the page on level interrupts: which pins' EOIs are passed on, and what unmasking does."""

from __future__ import annotations

from dataclasses import dataclass

from kvmmodel import events as ev
from kvmmodel.machine.host import Host
from kvmmodel.machine.vm import Vm
from kvmmodel.widgets.page import Html
from kvmmodel.widgets.svg import el

VECTOR = 0x62
LEVEL, MASKED = 1 << 15, 1 << 16


@dataclass(frozen=True, slots=True)
class Pin:
    """A pin to try: its GSI, its entry's trigger mode, and who waits for its end."""

    label: str
    gsi: int
    level: bool = False
    resampled: bool = False
    pit: str | None = None


PINS = (
    Pin("20, edge", 20),
    Pin("20, level", 20, level=True),
    Pin("20, edge, resampling irqfd", 20, resampled=True),
    Pin("8, the RTC's, edge", 8),
    Pin("0, edge, PIT that reinjects", 0, pit="reinject"),
    Pin("0, edge, PIT that discards", 0, pit="discard"),
)


def _ready(kernel: str, pin: int, entry: int, pit: str | None = None) -> Vm:
    """A guest with PV EOI whose IOAPIC has this entry, and that is about to enter."""
    vm = Host(kernel=kernel, avic=False).create_vm(vcpus=1, boot=True, pit=pit)
    writes = (f"mmio_write 0xfec00000 {0x10 + 2 * pin:#x}", f"mmio_write 0xfec00010 {entry:#x}")
    vm.world.bodies["eoi"] = vm.world.bodies["pv_eoi"]
    vm.execute(0, ("pv_eoi_on 0x5000", *writes))
    vm.run()
    vm.trace.records.clear()
    return vm


def heard(pin: Pin, kernel: str = "6.12") -> tuple[bool, bool]:
    """Of one interrupt of the pin: whether its EOI was passed on to the IOAPIC, whether PV EOI could be used for it."""
    vm = _ready(kernel, pin.gsi, VECTOR | (LEVEL if pin.level else 0), pin.pit)
    if pin.resampled:
        vm.irqfd_resample(pin.gsi, lambda: None)
    vm.irq_line(pin.gsi, True)
    vm.irq_line(pin.gsi, False)
    vm.run(limit_ns=1_000_000)
    told = [event for event in vm.trace.events if isinstance(event, ev.KvmAckIrq) and event.irqchip == "IOAPIC"]
    return bool(told), any(isinstance(event, ev.PvEoiByGuest) for event in vm.trace.events)


def level_listeners(kernel: str = "6.12") -> Html:
    """For each pin: whether the IOAPIC hears of its EOI, and whether PV EOI is offered."""
    rows = []
    for pin in PINS:
        passed, paravirtual = heard(pin, kernel)
        cells = (el("td", "yes" if passed else "no"), el("td", "yes" if paravirtual else "no"))
        rows.append(el("tr", el("th", pin.label, scope="row"), *cells))
    return _table(("pin", "EOI passed on", "PV EOI offered"), rows)


HOLDERS = (("KVM_IRQ_LINE", (0,)), ("resampling irqfd", (1,)), ("both", (0, 1)))


def unmasked(sources: tuple[int, ...], kernel: str) -> tuple[bool, bool, bool]:
    """A masked level pin whose line is up by ``sources`` is unmasked. Whether it sends its message, whether the
    resample eventfd is signalled, and whether the pin still has the line as pending."""
    vm = _ready(kernel, 20, VECTOR | LEVEL | MASKED)
    if 1 in sources:
        vm.irqfd_resample(20, lambda: None)
        vm.eventfd_write(20)
    if 0 in sources:
        vm.irq_line(20, True)
    vm.execute(0, ("cli", f"mmio_write 0xfec00010 {VECTOR | LEVEL:#x}"))
    vm.run()
    events = vm.trace.events
    return (
        any(isinstance(event, ev.IoapicMessage) for event in events),
        any(isinstance(event, ev.ResampleSignal) for event in events),
        vm.machine.kvm.ioapic.irr >> 20 & 1 == 1,
    )


def unmask_table(kernels: tuple[str, ...] = ("6.1", "6.12")) -> Html:
    """Unmasking a level pin whose line is up, by kernel and by who holds it up."""
    rows = []
    for kernel in kernels:
        for label, sources in HOLDERS:
            cells = [el("td", "yes" if value else "no") for value in unmasked(sources, kernel)]
            rows.append(el("tr", el("th", kernel, scope="row"), el("td", label), *cells))
    return _table(("kernel", "line up by", "message", "eventfd signalled", "still pending"), rows)


def _table(names: tuple[str, ...], rows: list[str]) -> Html:
    head = el("tr", *(el("th", name, scope="col") for name in names))
    return Html(el("table", el("thead", head), el("tbody", *rows), class_="km-table"))
