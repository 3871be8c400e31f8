"""irqfd: an eventfd whose writer raises an interrupt. virt/kvm/eventfd.c."""

from __future__ import annotations

from collections.abc import Callable

from kvmmodel.kvm.ack import kvm_register_irq_ack_notifier
from kvmmodel.kvm.irq import kvm_msi_to_lapic_irq
from kvmmodel.kvm.irqchip import (
    KVM_IRQFD_RESAMPLE_IRQ_SOURCE_ID,
    KVM_USERSPACE_IRQ_SOURCE_ID,
    MsiRoute,
    kvm_set_irq,
)
from kvmmodel.kvm.lapic.accept import kvm_irq_delivery_to_apic_fast
from kvmmodel.kvm.names import kernel
from kvmmodel.kvm.types import Kvm


def write(kvm: Kvm, gsi: int) -> None:
    """write(2) on the eventfd of an irqfd."""
    entry_SYSCALL_64_after_hwframe(kvm, gsi)


@kernel("arch/x86/entry/entry_64.S")
def entry_SYSCALL_64_after_hwframe(kvm: Kvm, gsi: int) -> None:
    do_syscall_64(kvm, gsi)


@kernel("arch/x86/entry/common.c")
def do_syscall_64(kvm: Kvm, gsi: int) -> None:
    ksys_write(kvm, gsi)


@kernel("fs/read_write.c")
def ksys_write(kvm: Kvm, gsi: int) -> None:
    vfs_write(kvm, gsi)


@kernel("fs/read_write.c")
def vfs_write(kvm: Kvm, gsi: int) -> None:
    eventfd_write(kvm, gsi)


@kernel("fs/eventfd.c")
def eventfd_write(kvm: Kvm, gsi: int) -> None:
    __wake_up_common(kvm, gsi)


@kernel("kernel/sched/wait.c")
def __wake_up_common(kvm: Kvm, gsi: int) -> None:
    irqfd_wakeup(kvm, gsi)


@kernel("virt/kvm/eventfd.c")
def irqfd_wakeup(kvm: Kvm, gsi: int) -> None:
    """In the writer's context, interrupts off. What cannot be done here is left to a work item."""
    routes = kvm.routing.get(gsi, [])
    if len(routes) == 1 and isinstance(routes[0], MsiRoute) and kvm_arch_set_irq_inatomic(kvm, routes[0]):
        return
    process_one_work(kvm, gsi)


@kernel("arch/x86/kvm/irq.c")
def kvm_arch_set_irq_inatomic(kvm: Kvm, route: MsiRoute) -> bool:
    """A message that the APIC map resolves is delivered at once. False: it needs the slow path."""
    irq = kvm_msi_to_lapic_irq(kvm, route.address, route.data)
    return kvm_irq_delivery_to_apic_fast(kvm, None, irq) is not None


@kernel("kernel/workqueue.c")
def process_one_work(kvm: Kvm, gsi: int) -> None:
    irqfd_inject(kvm, gsi)


def assign_resampler(kvm: Kvm, gsi: int, signal: Callable[[], None]) -> None:
    """KVM_IRQFD with KVM_IRQFD_FLAG_RESAMPLE: listen for the acknowledge of the pins that the GSI reaches."""
    kvm.resamplers.setdefault(gsi, []).append(signal)
    kvm_register_irq_ack_notifier(kvm, gsi, lambda: irqfd_resampler_ack(kvm, gsi, signal))


@kernel("virt/kvm/eventfd.c")
def irqfd_resampler_ack(kvm: Kvm, gsi: int, signal: Callable[[], None]) -> None:
    """The EOI takes the line down and tells the device's owner, who raises it again if the device still wants to."""
    kvm_set_irq(kvm, KVM_IRQFD_RESAMPLE_IRQ_SOURCE_ID, gsi, False)
    signal()


@kernel("virt/kvm/eventfd.c")
def irqfd_inject(kvm: Kvm, gsi: int) -> None:
    """An edge: up and down. With a resampler: up, and the EOI takes it down."""
    if gsi in kvm.resamplers:
        kvm_set_irq(kvm, KVM_IRQFD_RESAMPLE_IRQ_SOURCE_ID, gsi, True)
        return
    kvm_set_irq(kvm, KVM_USERSPACE_IRQ_SOURCE_ID, gsi, True)
    kvm_set_irq(kvm, KVM_USERSPACE_IRQ_SOURCE_ID, gsi, False)
