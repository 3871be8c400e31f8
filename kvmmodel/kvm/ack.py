"""Who waits for the end of an interrupt: notifiers of a GSI, called when a pin that it is routed to is acknowledged."""

from __future__ import annotations

from collections.abc import Callable

from kvmmodel.events import KvmAckIrq, ResampleSignal
from kvmmodel.kvm.names import kernel
from kvmmodel.kvm.types import Kvm, trace

EVENTFD = "virt/kvm/eventfd.c"
KVM_IRQCHIP_PIC_MASTER, KVM_IRQCHIP_PIC_SLAVE, KVM_IRQCHIP_IOAPIC = 0, 1, 2
NAMES = ("PIC master", "PIC slave", "IOAPIC")


@kernel("virt/kvm/irqchip.c")
def kvm_irq_map_chip_pin(kvm: Kvm, irqchip: int, pin: int) -> int:
    """The GSI that is routed to a pin, -1: none. The secondary 8259's pins are 8 to 15."""
    return kvm.chip_pins.get((irqchip, pin), -1)


@kernel(EVENTFD)
def kvm_register_irq_ack_notifier(kvm: Kvm, gsi: int, notify: Callable[[], None]) -> None:
    kvm.irq_ack_notifiers.setdefault(gsi, []).append(notify)


@kernel(EVENTFD)
def kvm_irq_has_notifier(kvm: Kvm, irqchip: int, pin: int) -> bool:
    return bool(kvm.irq_ack_notifiers.get(kvm_irq_map_chip_pin(kvm, irqchip, pin)))


@kernel(EVENTFD, since="6.6")
def kvm_notify_irqfd_resampler(kvm: Kvm, irqchip: int, pin: int) -> bool:
    """Have those who own a line say anew whether it is up. False: nobody does."""
    gsi = kvm_irq_map_chip_pin(kvm, irqchip, pin)
    if gsi not in kvm.resamplers:
        return False
    irqfd_resampler_notify(kvm, gsi)
    return True


@kernel(EVENTFD, since="6.6")
def irqfd_resampler_notify(kvm: Kvm, gsi: int) -> None:
    """Signal the resample eventfd of every irqfd of the GSI."""
    for signal in kvm.resamplers[gsi]:
        trace(kvm.host, ResampleSignal, gsi)
        signal()


@kernel(EVENTFD)
def kvm_notify_acked_irq(kvm: Kvm, irqchip: int, pin: int) -> None:
    """This pin's interrupt has ended."""
    trace(kvm.host, KvmAckIrq, NAMES[irqchip], pin)
    for notify in kvm.irq_ack_notifiers.get(kvm_irq_map_chip_pin(kvm, irqchip, pin), ()):
        notify()
