"""kvmclock, as far as it wakes and kicks vCPUs. Not modelled: the clock itself, and an unstable TSC of the host.

A vCPU that is loaded for the first time has every vCPU of the VM update its clock. On a host whose TSC is unstable, as
under the emulator that the recordings were made with, every load does so, and a vCPU that changes its CPU as well.
"""

from __future__ import annotations

from kvmmodel.kvm.host_types import DelayedWork
from kvmmodel.kvm.kvm_main import kvm_vcpu_kick
from kvmmodel.kvm.names import kernel
from kvmmodel.kvm.requests import (
    KVM_REQ_CLOCK_UPDATE,
    KVM_REQ_GLOBAL_CLOCK_UPDATE,
    kvm_check_request,
    kvm_make_request,
)
from kvmmodel.kvm.types import Kvm, KvmVcpu
from kvmmodel.kvm.workqueue import schedule_delayed_work

FILE = "arch/x86/kvm/x86.c"
KVMCLOCK_UPDATE_DELAY = 100_000_000  # ns


def take_clock_requests(vcpu: KvmVcpu) -> None:
    """The request phase's part of kvmclock."""
    if kvm_check_request(KVM_REQ_GLOBAL_CLOCK_UPDATE, vcpu):
        kvm_gen_kvmclock_update(vcpu)
    kvm_check_request(KVM_REQ_CLOCK_UPDATE, vcpu)  # kvm_guest_time_update would write the guest's page


@kernel(FILE)
def kvm_gen_kvmclock_update(vcpu: KvmVcpu) -> None:
    """All vCPUs at once, from 7.2 on. Before: this one at once, all of them a while later, however many asked."""
    kvm = vcpu.kvm
    if kvm.host.has("kvmclock_updates_at_once"):
        update_all(kvm)
        return
    kvm_make_request(KVM_REQ_CLOCK_UPDATE, vcpu)
    if kvm.kvmclock_update_work is None:
        kvm.kvmclock_update_work = DelayedWork(lambda: kvmclock_update_fn(kvm), background=True)
    schedule_delayed_work(kvm.host, kvm.kvmclock_update_work, KVMCLOCK_UPDATE_DELAY)


@kernel(FILE, until="7.2")
def kvmclock_update_fn(kvm: Kvm) -> None:
    update_all(kvm)


def update_all(kvm: Kvm) -> None:
    for vcpu in kvm.vcpus:
        kvm_make_request(KVM_REQ_CLOCK_UPDATE, vcpu)
        kvm_vcpu_kick(vcpu)
