"""Userspace's ioctls of a VM: KVM_CREATE_VM, and what concerns its irqchip. Those of a vCPU: vcpu_ioctl.py."""

from __future__ import annotations

from collections.abc import Callable

from kvmmodel.kvm import (
    i8259,
    svm,  # noqa: F401 -- loads the vendor module
)
from kvmmodel.kvm.ack import KVM_IRQCHIP_IOAPIC
from kvmmodel.kvm.apicv import kvm_apicv_init, kvm_clear_apicv_inhibit, kvm_set_apicv_inhibit
from kvmmodel.kvm.eventfd import kvm_irqfd
from kvmmodel.kvm.i8254 import kvm_create_pit, kvm_pit_set_reinject, kvm_vm_ioctl_get_pit2, kvm_vm_ioctl_set_pit2
from kvmmodel.kvm.ioapic import kvm_ioapic_init
from kvmmodel.kvm.ioapic_registers import kvm_get_ioapic, kvm_set_ioapic
from kvmmodel.kvm.irq import kvm_send_userspace_msi
from kvmmodel.kvm.irqchip import (
    Route,
    kvm_set_irq_routing,
    kvm_setup_default_ioapic_and_pic_routing,
    kvm_vm_ioctl_irq_line,
)
from kvmmodel.kvm.names import kernel
from kvmmodel.kvm.syscall import entry_SYSCALL_64_after_hwframe, kvm_dev_ioctl, vm_ioctl
from kvmmodel.kvm.types import (
    Kvm,
)

# the irqchip ioctls are in x86.c up to 6.12
X86, IRQ, MAIN = "arch/x86/kvm/x86.c", "arch/x86/kvm/irq.c", "virt/kvm/kvm_main.c"


@kernel(X86)
def kvm_arch_init_vm(kvm: Kvm) -> None:
    kvm_apicv_init(kvm)


@kernel(MAIN)
def kvm_create_vm(kvm: Kvm) -> None:
    kvm_arch_init_vm(kvm)


def create_vm(kvm: Kvm) -> None:
    """KVM_CREATE_VM, and KVM_CREATE_IRQCHIP or KVM_CAP_SPLIT_IRQCHIP. A split irqchip has no routes at first."""
    entry_SYSCALL_64_after_hwframe(kvm_dev_ioctl, kvm_create_vm, kvm)
    if kvm.irqchip == "kernel":
        kvm.pic = i8259.KvmPic()
        kvm_ioapic_init(kvm)
        kvm_setup_default_ioapic_and_pic_routing(kvm)
    kvm_clear_apicv_inhibit(kvm, "ABSENT")
    if kvm.sev:
        vm_ioctl(sev_guest_init, kvm)


@kernel("arch/x86/kvm/svm/sev.c")
def sev_guest_init(kvm: Kvm) -> None:
    """KVM_SEV_INIT, as far as AVIC goes."""
    kvm_set_apicv_inhibit(kvm, "SEV")


def create_pit2(kvm: Kvm, cpu: int) -> None:
    """KVM_CREATE_PIT2, with the speaker's port; its kernel thread runs on that physical CPU."""
    vm_ioctl(kvm_create_pit, kvm, cpu)


def get_pit2(kvm: Kvm) -> bytes:
    state: bytes = vm_ioctl(kvm_vm_ioctl_get_pit2, kvm)
    return state


def set_pit2(kvm: Kvm, state: bytes) -> None:
    vm_ioctl(kvm_vm_ioctl_set_pit2, kvm, state)


def reinject_control(kvm: Kvm, reinject: bool) -> None:
    """KVM_REINJECT_CONTROL."""
    vm_ioctl(kvm_vm_ioctl_reinject, kvm, reinject)


@kernel("arch/x86/kvm/i8254.c")
def kvm_vm_ioctl_reinject(kvm: Kvm, reinject: bool) -> None:
    kvm_pit_set_reinject(kvm, reinject)


def irq_line(kvm: Kvm, gsi: int, level: bool) -> int:
    return vm_ioctl(kvm_vm_ioctl_irq_line, kvm, gsi, level)


def set_gsi_routing(kvm: Kvm, table: dict[int, list[Route]]) -> int:
    return vm_ioctl(kvm_set_irq_routing, kvm, table)


def get_irqchip(kvm: Kvm, chip: int) -> bytes:
    state: bytes = vm_ioctl(kvm_vm_ioctl_get_irqchip, kvm, chip)
    return state


def set_irqchip(kvm: Kvm, chip: int, state: bytes) -> None:
    vm_ioctl(kvm_vm_ioctl_set_irqchip, kvm, chip, state)


@kernel(IRQ)
def kvm_vm_ioctl_get_irqchip(kvm: Kvm, chip: int) -> bytes:
    """KVM_GET_IRQCHIP."""
    return kvm_get_ioapic(kvm.ioapic) if chip == KVM_IRQCHIP_IOAPIC else i8259.get_state(kvm.pic, chip)


@kernel(IRQ)
def kvm_vm_ioctl_set_irqchip(kvm: Kvm, chip: int, state: bytes) -> None:
    """KVM_SET_IRQCHIP. Whichever chip it was, the 8259s compute their output afterwards."""
    if chip == KVM_IRQCHIP_IOAPIC:
        kvm_set_ioapic(kvm, kvm.ioapic, state)
    else:
        i8259.set_state(kvm.pic, chip, state)
    i8259.kvm_pic_update_irq(kvm)


def irqfd_resample(kvm: Kvm, gsi: int, signal: Callable[[], None]) -> None:
    vm_ioctl(kvm_irqfd, kvm, gsi, signal)


def signal_msi(kvm: Kvm, address: int, data: int) -> int:
    return vm_ioctl(kvm_send_userspace_msi, kvm, address, data)
