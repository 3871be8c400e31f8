"""IsRunning: whether the processor may ring a doorbell for a vCPU instead of leaving it to KVM to wake it.

In the table that the processors of senders read, and in the remapping entries of the devices that post to the vCPU.
"""

from __future__ import annotations

from kvmmodel.kvm.amd_iommu import amd_iommu_activate_guest_mode, amd_iommu_deactivate_guest_mode, amd_iommu_update_ga
from kvmmodel.kvm.apicv import __kvm_vcpu_update_apicv
from kvmmodel.kvm.names import kernel
from kvmmodel.kvm.requests import KVM_REQ_APICV_UPDATE, kvm_check_request
from kvmmodel.kvm.svm.avic.tables import (
    FILE,
    GA_LOG_INTR,
    avic_is_addressable_vcpu,
    entry_of,
    ga_log_intr,
    with_host_id,
    write_is_running,
)
from kvmmodel.kvm.types import KvmVcpu
from kvmmodel.silicon.avic_tables import PHYSICAL_IS_RUNNING


def kvm_vcpu_is_blocking(vcpu: KvmVcpu) -> bool:
    """Strictly inside kvm_vcpu_block. 5.10 and 5.15 keep a flag of their own, which is set before halt polling."""
    return vcpu.wait is not None


@kernel(FILE)
def avic_vcpu_load(vcpu: KvmVcpu) -> None:
    """Not while it blocks: it was preempted on its way, and unblocking will do it."""
    if vcpu.kvm.host.has("avic_running_unless_blocking"):
        blocking = kvm_vcpu_is_blocking(vcpu)
    else:
        blocking = not vcpu.avic_is_running
    if vcpu.kvm.host.has("avic_running_unless_blocking") and blocking:
        return
    __avic_vcpu_load(vcpu, "run", running=not blocking)


@kernel(FILE, since="6.18")
def __avic_vcpu_load(vcpu: KvmVcpu, action: str, running: bool = True) -> None:
    """``action``: run, block or toggle. In 5.10 the core is noted even of a vCPU that does not count as running."""
    if not avic_is_addressable_vcpu(vcpu):
        return
    cpu = vcpu.kvm.host.current.id
    entry = with_host_id(entry_of(vcpu), cpu)
    write_is_running(vcpu, entry if running else entry & ~PHYSICAL_IS_RUNNING)
    avic_update_iommu_vcpu_affinity(vcpu, cpu if running else None, action)


@kernel(FILE)
def avic_vcpu_put(vcpu: KvmVcpu) -> None:
    """Nothing to do where it does not run by that account: it blocks, or is preempted while it does."""
    if entry_of(vcpu) & PHYSICAL_IS_RUNNING:
        __avic_vcpu_put(vcpu, "block" if kvm_vcpu_is_blocking(vcpu) else "run")


@kernel(FILE, since="6.18")
def __avic_vcpu_put(vcpu: KvmVcpu, action: str) -> None:
    """The core stays in the entry, so that a late doorbell goes where the vCPU was."""
    if not avic_is_addressable_vcpu(vcpu):
        return
    avic_update_iommu_vcpu_affinity(vcpu, None, action)
    entry = entry_of(vcpu) & ~PHYSICAL_IS_RUNNING
    write_is_running(vcpu, entry | GA_LOG_INTR if action == "block" else entry)


@kernel(FILE, was={"5.10": "svm_vcpu_blocking", "6.1": "avic_vcpu_blocking"})
def avic_vcpu_blocking(vcpu: KvmVcpu) -> None:
    """Before the vCPU's last look for a reason not to sleep: whoever sends later finds it not running."""
    vcpu.avic_is_running = False
    if vcpu.apic.apicv_active:
        __avic_vcpu_put(vcpu, "block")


@kernel(FILE, was={"5.10": "svm_vcpu_unblocking", "6.1": "avic_vcpu_unblocking"})
def avic_vcpu_unblocking(vcpu: KvmVcpu) -> None:
    """Up to 5.15 it follows an inhibit here already, before it counts as running."""
    early = not vcpu.kvm.host.has("unblocking_keeps_apicv_request")
    if early and kvm_check_request(KVM_REQ_APICV_UPDATE, vcpu):
        __kvm_vcpu_update_apicv(vcpu)
    vcpu.avic_is_running = True
    if vcpu.apic.apicv_active:
        avic_vcpu_load(vcpu)


@kernel(FILE, was={"5.10": "avic_update_iommu_vcpu_affinity"})
def avic_update_iommu_vcpu_affinity(vcpu: KvmVcpu, cpu: int | None, action: str) -> None:
    """Tell every remapping entry that posts to this vCPU where it runs. ``cpu`` None: it does not run."""
    log = ga_log_intr(vcpu.kvm, action == "block")
    for data in vcpu.ir_list:
        if action != "toggle":
            amd_iommu_update_ga(data, cpu, log)
        elif cpu is not None:
            amd_iommu_activate_guest_mode(data, cpu, log)
        else:
            amd_iommu_deactivate_guest_mode(data)


@kernel(FILE, until="6.18", was={"5.10": "svm_set_pi_irte_mode", "6.1": "avic_set_pi_irte_mode"})
def avic_set_pi_irte_mode(vcpu: KvmVcpu, active: bool) -> None:
    """Up to 6.12 the entries change their mode after the load, so they say not running until the next one."""
    for data in vcpu.ir_list:
        if active:
            amd_iommu_activate_guest_mode(data, None, ga_log_intr(vcpu.kvm, False))
        else:
            amd_iommu_deactivate_guest_mode(data)
