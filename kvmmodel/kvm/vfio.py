"""A device given to a VM (VFIO): its interrupt on the host, the eventfd, and the bypass that KVM sets up past both."""

from __future__ import annotations

from dataclasses import dataclass

from kvmmodel.events import KvmPiIrteUpdate
from kvmmodel.kvm.amd_iommu import AmdIrData, can_post
from kvmmodel.kvm.apicv import enable_apicv
from kvmmodel.kvm.eventfd import irqfd_wakeup
from kvmmodel.kvm.irq import kvm_msi_to_lapic_irq
from kvmmodel.kvm.irqchip import MsiRoute
from kvmmodel.kvm.lapic.map import LapicIrq, kvm_apic_map_get_dest_lapic, kvm_apic_match_dest
from kvmmodel.kvm.lapic.registers import kvm_apic_hw_enabled
from kvmmodel.kvm.names import kernel
from kvmmodel.kvm.svm.avic.irte import avic_pi_update_irte
from kvmmodel.kvm.types import HostKernel, Kvm, KvmVcpu, trace
from kvmmodel.silicon import apic as hw

IRQ, LAPIC = "arch/x86/kvm/irq.c", "arch/x86/kvm/lapic.c"


@dataclass(slots=True)
class Irqfd:
    """struct kvm_kernel_irqfd with a device behind it. ``vcpu``: who its interrupts are posted to, None: the host."""

    kvm: Kvm
    gsi: int
    data: AmdIrData
    vcpu: KvmVcpu | None = None


@kernel("drivers/vfio/pci/vfio_pci_intrs.c")
def vfio_msihandler(kvm: Kvm, gsi: int) -> None:
    """The host's handler of the device's interrupt, while that is not posted."""
    eventfd_signal(kvm, gsi)


@kernel("fs/eventfd.c", was={"5.10": "eventfd_signal", "6.12": "eventfd_signal_mask"})
def eventfd_signal(kvm: Kvm, gsi: int) -> None:
    __wake_up_locked_key(kvm, gsi)


@kernel("kernel/sched/wait.c")
def __wake_up_locked_key(kvm: Kvm, gsi: int) -> None:
    irqfd_wakeup(kvm, gsi)


def posts_device_irqs(host: HostKernel) -> bool:
    """enable_device_posted_irqs, from 6.16 on a parameter."""
    return enable_apicv(host) and can_post(host) and bool(host.params.get("enable_device_posted_irqs", True))


@kernel(IRQ)
def kvm_arch_irq_bypass_add_producer(irqfd: Irqfd) -> None:
    """The device and the irqfd have found each other."""
    if posts_device_irqs(irqfd.kvm.host):
        kvm_pi_update_irte(irqfd)


@kernel(IRQ)
def kvm_arch_update_irqfd_routing(irqfd: Irqfd) -> None:
    """The guest sent the device's interrupt elsewhere."""
    if posts_device_irqs(irqfd.kvm.host):
        kvm_pi_update_irte(irqfd)


@kernel(IRQ, since="6.18")
def kvm_pi_update_irte(irqfd: Irqfd) -> None:
    """Posted if it is a message for one vCPU, Fixed or lowest priority; else the host gets it, and KVM after it."""
    kvm, routes = irqfd.kvm, irqfd.kvm.routing.get(irqfd.gsi, [])
    vcpu, vector = None, 0
    if len(routes) == 1 and isinstance(routes[0], MsiRoute):
        irq = kvm_msi_to_lapic_irq(kvm, routes[0].address, routes[0].data)
        vector = irq.vector
        if irq.delivery_mode in (hw.APIC_DM_FIXED, hw.APIC_DM_LOWEST):
            vcpu = kvm_intr_is_single_vcpu(kvm, irq)
    if irqfd.vcpu is None and vcpu is None:
        return
    avic_pi_update_irte(kvm, irqfd.data, irqfd.vcpu, vcpu, vector)
    irqfd.vcpu = vcpu
    ident = vcpu.vcpu_id if vcpu is not None else None
    trace(kvm.host, KvmPiIrteUpdate, irqfd.data.irq, ident, irqfd.gsi, vector, vcpu is not None)


@kernel(LAPIC)
def kvm_intr_is_single_vcpu(kvm: Kvm, irq: LapicIrq) -> KvmVcpu | None:
    """The vCPU that a message is for, None unless it is one.

    The map has chosen one already of several that a lowest-priority message means, so such a message counts as for one.
    """
    found = kvm_apic_map_get_dest_lapic(kvm, None, irq)
    if found is not None:
        slots, mask = found
        if mask.bit_count() == 1:
            apic = slots[mask.bit_length() - 1]
            if apic is not None:
                return apic.vcpu
    present = [v for v in kvm.vcpus if kvm_apic_hw_enabled(v.apic)]
    meant = [v for v in present if kvm_apic_match_dest(v, None, irq.shorthand, irq.dest_id, irq.dest_mode)]
    return meant[0] if len(meant) == 1 else None
