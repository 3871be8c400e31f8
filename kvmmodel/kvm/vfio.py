"""A device given to a VM (VFIO): its interrupt on the host, the eventfd, and the bypass that KVM sets up past both."""

from __future__ import annotations

from dataclasses import dataclass

from kvmmodel.events import KvmPiIrteUpdate
from kvmmodel.kvm.amd_iommu import AmdIrData, can_post, irq_remapping_activate
from kvmmodel.kvm.apicv import enable_apicv
from kvmmodel.kvm.eventfd import __wake_up_common
from kvmmodel.kvm.host_types import HostKernel, trace
from kvmmodel.kvm.irq import kvm_msi_to_lapic_irq
from kvmmodel.kvm.irqchip import MsiRoute, Route
from kvmmodel.kvm.lapic.map import LapicIrq, kvm_apic_map_get_dest_lapic, kvm_apic_match_dest
from kvmmodel.kvm.lapic.registers import kvm_apic_hw_enabled
from kvmmodel.kvm.names import kernel
from kvmmodel.kvm.svm.avic.irte import avic_pi_update_irte
from kvmmodel.kvm.types import Kvm, KvmVcpu
from kvmmodel.silicon import apic as hw

IRQ, LAPIC = "arch/x86/kvm/irq.c", "arch/x86/kvm/lapic.c"
VFIO, BYPASS, EVENTFD = "drivers/vfio/pci/vfio_pci_intrs.c", "virt/lib/irqbypass.c", "virt/kvm/eventfd.c"


@dataclass(slots=True)
class Irqfd:
    """struct kvm_kernel_irqfd with a device behind it. ``vcpu``: who its interrupts are posted to, None: the host."""

    kvm: Kvm
    gsi: int
    data: AmdIrData
    vcpu: KvmVcpu | None = None


@kernel(VFIO)
def vfio_msi_set_vector_signal(irqfd: Irqfd) -> None:
    """VFIO_DEVICE_SET_IRQS: a handler for the device's interrupt, and the offer to get past it."""
    irqfd.data.host.device_irqs[irq_name(irqfd.data.irq)] = lambda: vfio_msihandler(irqfd.kvm, irqfd.gsi)
    irq_remapping_activate(irqfd.data)
    irqfd.kvm.routing_updates.append(lambda before: kvm_irq_routing_update(irqfd, before))
    irq_bypass_register_producer(irqfd)


def irq_name(irq: int) -> str:
    """As a host interrupt is called in events."""
    return f"vfio-msi, irq {irq}"


@kernel(BYPASS)
def irq_bypass_register_producer(irqfd: Irqfd) -> None:
    __connect(irqfd)


@kernel(BYPASS)
def __connect(irqfd: Irqfd) -> None:
    kvm_arch_irq_bypass_add_producer(irqfd)


@kernel(VFIO)
def vfio_msihandler(kvm: Kvm, gsi: int) -> None:
    """The host's handler of the device's interrupt, while that is not posted."""
    eventfd_signal_mask(kvm, gsi)


@kernel("fs/eventfd.c", was={"5.10": "eventfd_signal", "6.12": "eventfd_signal_mask"})
def eventfd_signal_mask(kvm: Kvm, gsi: int) -> None:
    __wake_up_common(kvm, gsi)


def posts_device_irqs(host: HostKernel) -> bool:
    """enable_device_posted_irqs, from 6.16 on a parameter. Before 6.12 KVM looked at the message without AVIC, too."""
    wanted = bool(host.params.get("enable_device_posted_irqs", True))
    return wanted and can_post(host) and (enable_apicv(host) or not host.has("irq_bypass_needs_apicv"))


@kernel(IRQ)
def kvm_arch_irq_bypass_add_producer(irqfd: Irqfd) -> None:
    """The device and the irqfd have found each other."""
    if posts_device_irqs(irqfd.kvm.host):
        kvm_pi_update_irte(irqfd)


@kernel(EVENTFD)
def kvm_irq_routing_update(irqfd: Irqfd, before: dict[int, list[Route]]) -> None:
    """KVM_SET_GSI_ROUTING: the guest has another address or other data in the device's message."""
    if irqfd.kvm.routing.get(irqfd.gsi) != before.get(irqfd.gsi):
        kvm_arch_update_irqfd_routing(irqfd)


@kernel(IRQ)
def kvm_arch_update_irqfd_routing(irqfd: Irqfd) -> None:
    if posts_device_irqs(irqfd.kvm.host):
        kvm_pi_update_irte(irqfd)


@kernel(IRQ, since="6.18")
def kvm_pi_update_irte(irqfd: Irqfd) -> None:
    """Posted if it is a message for one vCPU, Fixed or lowest priority; else the host gets it, and KVM after it.

    The tracepoint says of a message for one vCPU that posting is enabled, even if AVIC is inhibited there. Up to 6.12
    it says nothing of one that is not posted any more.
    """
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
    if vcpu is not None:
        page = vcpu.avic_backing_page
        trace(kvm.host, KvmPiIrteUpdate, irqfd.data.irq, vcpu.vcpu_id, irqfd.gsi, vector, page, True)
    elif kvm.host.has("pi_irte_unset_traced"):
        trace(kvm.host, KvmPiIrteUpdate, irqfd.data.irq, None, irqfd.gsi, vector, 0, False)


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
