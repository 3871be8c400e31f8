"""Removing a memory slot of KVM's own, as far as a vCPU waits for it: nobody may use the old slots any more.

Not modelled: slots as such, page tables, and the lock for which a second vCPU waits meanwhile; it waits by itself.
"""

from __future__ import annotations

from kvmmodel.kvm.host_types import DelayedWork, Run
from kvmmodel.kvm.names import kernel
from kvmmodel.kvm.sched import schedule, try_to_wake_up
from kvmmodel.kvm.types import KvmVcpu

MAIN = "virt/kvm/kvm_main.c"


@kernel("arch/x86/kvm/x86.c")
def __x86_set_memory_region(vcpu: KvmVcpu) -> Run:
    yield from kvm_set_memslot(vcpu)


@kernel(MAIN)
def kvm_set_memslot(vcpu: KvmVcpu) -> Run:
    yield from kvm_swap_active_memslots(vcpu)


@kernel(MAIN)
def kvm_swap_active_memslots(vcpu: KvmVcpu) -> Run:
    yield from __synchronize_srcu(vcpu)


@kernel("kernel/rcu/srcutree.c")
def __synchronize_srcu(vcpu: KvmVcpu) -> Run:
    """Sleep until every reader is done. A vCPU is none while it is in the guest, so it takes no exit."""
    host = vcpu.kvm.host
    done = DelayedWork(lambda: _complete(vcpu), host.current.now + host.costs["srcu"], host.current.id)
    host.delayed.append(done)
    yield from __wait_for_common(vcpu)


def _complete(vcpu: KvmVcpu) -> None:
    try_to_wake_up(vcpu.kvm.host, vcpu.task)


@kernel("kernel/sched/completion.c")
def __wait_for_common(vcpu: KvmVcpu) -> Run:
    yield from schedule_timeout(vcpu)


@kernel("kernel/time/sleep_timeout.c")
def schedule_timeout(vcpu: KvmVcpu) -> Run:
    vcpu.task.interruptible, vcpu.task.state = True, "blocked"
    yield from schedule(vcpu)
