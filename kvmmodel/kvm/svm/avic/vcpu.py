"""What a VM and a vCPU get at their creation: the two tables, an entry, and the memory slot of the xAPIC page."""

from __future__ import annotations

from kvmmodel.kvm.apicv import enable_apicv, kvm_alloc_apic_access_page, kvm_apicv_activated, kvm_set_apicv_inhibit
from kvmmodel.kvm.names import kernel
from kvmmodel.kvm.svm.avic.tables import FILE, avic_is_addressable_vcpu, physical_table
from kvmmodel.kvm.types import Kvm, KvmVcpu
from kvmmodel.silicon.avic_tables import physical_entry

EINVAL = 22


@kernel(FILE, was={"5.10": "avic_vm_init", "7.3": "avic_vcpu_precreate"})
def avic_vcpu_precreate(kvm: Kvm) -> None:
    """Once per VM. Up to 7.2 when the VM is created."""
    memory = kvm.host.memory
    if enable_apicv(kvm.host) and not kvm.avic_physical_id_table:
        kvm.avic_physical_id_table, kvm.avic_logical_id_table = memory.alloc(), memory.alloc()
        memory.tables |= {kvm.avic_physical_id_table: {}, kvm.avic_logical_id_table: {}}
        kvm.avic_vm_id = 1  # 0 is never used; the model's host has one VM


@kernel(FILE)
def avic_init_vcpu(vcpu: KvmVcpu) -> int:
    """0, or -22 (EINVAL) for an ID that the tables have no place for: up to 6.12, later an inhibit."""
    return avic_init_backing_page(vcpu) if enable_apicv(vcpu.kvm.host) else 0


@kernel(FILE)
def avic_init_backing_page(vcpu: KvmVcpu) -> int:
    """Valid from now on, running or not: a broadcast passes over invalid entries without a word."""
    kvm, memory = vcpu.kvm, vcpu.kvm.host.memory
    if not avic_is_addressable_vcpu(vcpu):
        if not kvm.host.has("physical_id_too_big"):
            return -EINVAL
        kvm_set_apicv_inhibit(kvm, "PHYSICAL_ID_TOO_BIG")
        vcpu.apic.apicv_active = False
        return 0
    if kvm_apicv_activated(kvm):
        kvm_alloc_apic_access_page(kvm)
    vcpu.avic_backing_page = memory.alloc()
    memory.pages[vcpu.avic_backing_page] = vcpu.apic
    vcpu.avic_physical_id = vcpu.vcpu_id
    vcpu.avic_physical_id_entry = physical_table(kvm)[vcpu.vcpu_id] = physical_entry(vcpu.avic_backing_page)
    return 0
