"""KVM_CHECK_EXTENSION and KVM_ENABLE_CAP of a VM, for the one capability that a test of other code asks about.

KVM_CAP_X86_APIC_BUS_CYCLES_NS: how long a cycle of the APIC timer's bus takes, in ns. Read in 7.3.4; the
model has it in every release.
"""

from __future__ import annotations

from kvmmodel.kvm import syscall
from kvmmodel.kvm.errno import EINVAL, ENXIO
from kvmmodel.kvm.names import kernel
from kvmmodel.kvm.types import Kvm

FILE = "arch/x86/kvm/x86.c"
APIC_BUS_CYCLES_NS = "X86_APIC_BUS_CYCLES_NS"
U64 = (1 << 64) - 1
LONGEST_COUNT = 0xFFFFFFFF * 128  # of bus cycles: the largest TMICT, divided by 128


def check_extension(kvm: Kvm, cap: str) -> int:
    return syscall.vm_ioctl(kvm_vm_ioctl_check_extension, kvm, cap)


def enable_cap(kvm: Kvm, cap: str, value: int) -> int:
    return syscall.vm_ioctl(kvm_vm_ioctl_enable_cap, kvm, cap, value)


@kernel(FILE)
def kvm_vm_ioctl_check_extension(kvm: Kvm, cap: str) -> int:
    """The VM's value; 0 for a capability that the model does not know."""
    return kvm.bus_cycle_ns if cap == APIC_BUS_CYCLES_NS else 0


@kernel(FILE)
def kvm_vm_ioctl_enable_cap(kvm: Kvm, cap: str, value: int) -> int:
    """0, or a negative error: timers must not overflow, and no vCPU may have a timer yet."""
    if cap != APIC_BUS_CYCLES_NS or not value or value * LONGEST_COUNT > U64:
        return -EINVAL
    if kvm.irqchip is None:
        return -ENXIO
    if kvm.vcpus:
        return -EINVAL
    kvm.bus_cycle_ns = value
    return 0
