"""Who waits for a GSI: for the end of its interrupt at a pin that it is routed to, or for that pin's mask to change."""

from __future__ import annotations

from collections.abc import Callable

from kvmmodel.events import KvmAckIrq, ResampleSignal
from kvmmodel.kvm.host_types import trace
from kvmmodel.kvm.kvm_main import kvm_make_scan_ioapic_request
from kvmmodel.kvm.names import kernel
from kvmmodel.kvm.types import Kvm

EVENTFD, IOAPIC = "virt/kvm/eventfd.c", "arch/x86/kvm/ioapic.c"
KVM_IRQCHIP_PIC_MASTER, KVM_IRQCHIP_PIC_SLAVE, KVM_IRQCHIP_IOAPIC = 0, 1, 2
NAMES = ("PIC master", "PIC slave", "IOAPIC")


@kernel("virt/kvm/irqchip.c")
def kvm_irq_map_chip_pin(kvm: Kvm, irqchip: int, pin: int) -> int:
    """The GSI that is routed to a pin, -1: none. The secondary 8259's pins are 8 to 15."""
    return kvm.chip_pins.get((irqchip, pin), -1)


@kernel(EVENTFD)
def kvm_register_irq_ack_notifier(kvm: Kvm, gsi: int, notify: Callable[[], None]) -> None:
    kvm.irq_ack_notifiers.setdefault(gsi, []).append(notify)
    kvm_arch_post_irq_ack_notifier_list_update(kvm)


@kernel(EVENTFD)
def kvm_unregister_irq_ack_notifier(kvm: Kvm, gsi: int, notify: Callable[[], None]) -> None:
    kvm.irq_ack_notifiers[gsi].remove(notify)
    kvm_arch_post_irq_ack_notifier_list_update(kvm)


@kernel(IOAPIC)
def kvm_arch_post_irq_ack_notifier_list_update(kvm: Kvm) -> None:
    """Which EOIs the IOAPIC has to hear of depends on who waits for them."""
    if kvm.ioapic is not None:
        kvm_make_scan_ioapic_request(kvm)


@kernel(IOAPIC)  # this one and the next two are in irq_comm.c up to 6.12
def kvm_register_irq_mask_notifier(kvm: Kvm, gsi: int, notify: Callable[[bool], None]) -> None:
    kvm.irq_mask_notifiers.setdefault(gsi, []).append(notify)


@kernel(IOAPIC)
def kvm_unregister_irq_mask_notifier(kvm: Kvm, gsi: int, notify: Callable[[bool], None]) -> None:
    kvm.irq_mask_notifiers[gsi].remove(notify)


@kernel(IOAPIC)
def kvm_fire_mask_notifiers(kvm: Kvm, irqchip: int, pin: int, masked: bool) -> None:
    """A pin was masked or unmasked."""
    for notify in kvm.irq_mask_notifiers.get(kvm_irq_map_chip_pin(kvm, irqchip, pin), ()):
        notify(masked)


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
