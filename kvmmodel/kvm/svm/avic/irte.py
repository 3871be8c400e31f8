"""A device whose messages go straight into a vCPU's registers: setting up its remapping entry, and the wake-up."""

from __future__ import annotations

from kvmmodel.events import KvmAvicGaLog
from kvmmodel.kvm.amd_iommu import AmdIrData, PiData, amd_iommu_update_ga, irq_set_vcpu_affinity
from kvmmodel.kvm.host_types import HostKernel, trace
from kvmmodel.kvm.kvm_main import kvm_vcpu_wake_up
from kvmmodel.kvm.names import kernel
from kvmmodel.kvm.svm.avic.tables import FILE, GA_LOG_INTR, entry_of, ga_log_intr
from kvmmodel.kvm.types import Kvm, KvmVcpu
from kvmmodel.silicon.avic_tables import PHYSICAL_HOST_ID, PHYSICAL_IS_RUNNING


def tag_bits(host: HostKernel) -> int:
    """How many bits of a GA tag name the vCPU; the rest names the VM."""
    return 12 if host.has("avic_4096") else 9 if host.has("gatag_9_bits") else 8


def ga_tag(kvm: Kvm, vcpu: KvmVcpu) -> int:
    """Up to 6.12 by the vcpu_id, later by the index."""
    cookie = kvm.vcpus.index(vcpu) if kvm.host.has("gatag_by_index") else vcpu.vcpu_id
    return kvm.avic_vm_id << tag_bits(kvm.host) | cookie


@kernel(FILE, was={"5.10": "svm_update_pi_irte", "6.1": "avic_pi_update_irte"})
def avic_pi_update_irte(kvm: Kvm, data: AmdIrData, old: KvmVcpu | None, vcpu: KvmVcpu | None, vector: int) -> int:
    """``old``: who it was posted to. Guest mode needs AVIC on this vCPU now; later releases also note it for later."""
    if old is not None and data in old.ir_list:
        old.ir_list.remove(data)
    host = kvm.host
    if vcpu is None or not (vcpu.apic.apicv_active or host.has("irte_tracked_while_inhibited")):
        return irq_set_vcpu_affinity(data, None)
    entry = entry_of(vcpu)
    running = entry & PHYSICAL_IS_RUNNING != 0
    log = ga_log_intr(kvm, entry & GA_LOG_INTR != 0)
    cpu = entry & PHYSICAL_HOST_ID if running else None
    tag, page = ga_tag(kvm, vcpu), vcpu.avic_backing_page
    if host.has("irte_activated_with_the_vcpu"):
        result = irq_set_vcpu_affinity(data, PiData(tag, vector, page, vcpu.apic.apicv_active, cpu, log))
        vcpu.ir_list.append(data)
    else:
        result = irq_set_vcpu_affinity(data, PiData(tag, vector, page, True, None, log))
        svm_ir_list_add(vcpu, data, cpu)
    return result


@kernel(FILE, until="6.18")
def svm_ir_list_add(vcpu: KvmVcpu, data: AmdIrData, cpu: int | None) -> None:
    """Up to 6.12 an entry is posted as that of a vCPU that does not run, and only then gets the core of one that does.

    ``cpu`` None: it does not.
    """
    if cpu is not None:
        amd_iommu_update_ga(data, cpu, True)
    vcpu.ir_list.append(data)


@kernel(FILE)
def avic_ga_log_notifier(kvm: Kvm, tag: int) -> None:
    """The IOMMU has set the IRR bit; the vCPU has to wake up for it. Nothing if it does not sleep."""
    bits = tag_bits(kvm.host)
    vm_id, cookie = tag >> bits, tag & (1 << bits) - 1
    trace(kvm.host, KvmAvicGaLog, vm_id, cookie)
    if vm_id != kvm.avic_vm_id:
        return
    if kvm.host.has("gatag_by_index"):
        found = kvm.vcpus[cookie : cookie + 1]
    else:
        found = [vcpu for vcpu in kvm.vcpus if vcpu.vcpu_id == cookie]
    for vcpu in found:
        kvm_vcpu_wake_up(vcpu)
