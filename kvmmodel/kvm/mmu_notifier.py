"""The MMU notifier, as far as it wakes anybody: the VMM's page tables changed. virt/kvm/kvm_main.c.

KVM hears of every change in the VMM's address space, guest memory or not, and a memslot update waits until none goes
on. What KVM does to its own page tables is not modelled, so nobody ever waits.
"""

from __future__ import annotations

from kvmmodel.kvm.names import kernel
from kvmmodel.kvm.sched import rcuwait_wake_up
from kvmmodel.kvm.types import Kvm

MPROTECT = "mm/mprotect.c"


def mprotect(kvm: Kvm) -> None:
    """mprotect(2) of the VMM, for one by pthread_create for the stack of a vCPU's thread."""
    entry_SYSCALL_64_after_hwframe(kvm)


@kernel("arch/x86/entry/entry_64.S")
def entry_SYSCALL_64_after_hwframe(kvm: Kvm) -> None:
    do_syscall_64(kvm)


@kernel("arch/x86/entry/common.c")
def do_syscall_64(kvm: Kvm) -> None:
    __x64_sys_mprotect(kvm)


@kernel(MPROTECT)
def __x64_sys_mprotect(kvm: Kvm) -> None:
    do_mprotect_pkey(kvm)


@kernel(MPROTECT)
def do_mprotect_pkey(kvm: Kvm) -> None:
    mprotect_fixup(kvm)


@kernel(MPROTECT)
def mprotect_fixup(kvm: Kvm) -> None:
    change_protection(kvm)


@kernel(MPROTECT)
def change_protection(kvm: Kvm) -> None:
    __mmu_notifier_invalidate_range_end(kvm)


@kernel("mm/mmu_notifier.c")
def __mmu_notifier_invalidate_range_end(kvm: Kvm) -> None:
    kvm_mmu_notifier_invalidate_range_end(kvm)


@kernel("virt/kvm/kvm_main.c")
def kvm_mmu_notifier_invalidate_range_end(kvm: Kvm) -> None:
    """The last change is over. Newer compilers make the call a jump, so this frame is missing in their stacks."""
    if kvm.host.has("memslot_updates_wait"):
        rcuwait_wake_up(kvm.host, kvm.memslots_update_wait)
