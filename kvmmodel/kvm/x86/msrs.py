"""Intercepted MSR accesses, of the guest and of userspace."""

from __future__ import annotations

from kvmmodel.events import KvmMsr
from kvmmodel.kvm.host_types import trace
from kvmmodel.kvm.hv_msrs import is_hyperv_msr, kvm_hv_get_msr_common, kvm_hv_set_msr_common
from kvmmodel.kvm.lapic.access import kvm_x2apic_msr_read, kvm_x2apic_msr_write
from kvmmodel.kvm.lapic.eoi import kvm_lapic_set_pv_eoi
from kvmmodel.kvm.lapic.state import kvm_apic_set_base
from kvmmodel.kvm.lapic.timer import kvm_get_lapic_tscdeadline_msr, kvm_set_lapic_tscdeadline_msr
from kvmmodel.kvm.names import kernel
from kvmmodel.kvm.ops import kvm_x86_ops
from kvmmodel.kvm.types import KvmVcpu
from kvmmodel.kvm.x86.inject import kvm_queue_exception
from kvmmodel.silicon import apic as hw

FILE = "arch/x86/kvm/x86.c"
GP_VECTOR = 13
MSR_EFER = 0xC0000080
EFER_BITS = 1 << 0 | 1 << 8 | 1 << 10 | 1 << 11 | 1 << 14  # SCE, LME, LMA, NX, FFXSR
EFER_SVM_BITS = 1 << 12 | 1 << 13  # SVME, LMSLE


@kernel(FILE)
def kvm_emulate_wrmsr(vcpu: KvmVcpu) -> int:
    return __kvm_emulate_wrmsr(vcpu, vcpu.regs.ecx, vcpu.regs.value)


@kernel(FILE, since="6.18")
def __kvm_emulate_wrmsr(vcpu: KvmVcpu, msr: int, data: int) -> int:
    """#GP if KVM refuses the write. It is traced after it was done."""
    failed = kvm_set_msr_ignored_check(vcpu, msr, data, False)
    trace(vcpu.kvm.host, KvmMsr, True, msr, data, bool(failed))
    return complete_emulated_msr(vcpu, failed)


@kernel(FILE)
def kvm_emulate_rdmsr(vcpu: KvmVcpu) -> int:
    msr = vcpu.regs.ecx
    value = kvm_x86_ops.get_msr(vcpu, msr)
    if value is not None:
        vcpu.regs.value = value
    trace(vcpu.kvm.host, KvmMsr, False, msr, value or 0, value is None)
    return complete_emulated_msr(vcpu, int(value is None))


def complete_emulated_msr(vcpu: KvmVcpu, failed: int) -> int:
    if failed:
        kvm_queue_exception(vcpu, GP_VECTOR, 0)
    else:
        kvm_x86_ops.skip_emulated_instruction(vcpu)
    return 1


@kernel(FILE)
def kvm_set_msr_ignored_check(vcpu: KvmVcpu, index: int, data: int, host_initiated: bool) -> int:
    return __kvm_set_msr(vcpu, index, data, host_initiated)


@kernel(FILE)
def __kvm_set_msr(vcpu: KvmVcpu, index: int, data: int, host_initiated: bool) -> int:
    return kvm_x86_ops.set_msr(vcpu, index, data, host_initiated)


@kernel(FILE)
def kvm_set_msr_common(vcpu: KvmVcpu, index: int, data: int, host_initiated: bool) -> int:
    """0, or 1: refused."""
    if index == hw.MSR_IA32_APICBASE:
        return kvm_apic_set_base(vcpu, data, host_initiated)
    if hw.APIC_BASE_MSR <= index <= hw.APIC_BASE_MSR + 0xFF:
        return kvm_x2apic_msr_write(vcpu.apic, index, data)
    if index == hw.MSR_IA32_TSC_DEADLINE:
        kvm_set_lapic_tscdeadline_msr(vcpu, data)
        return 0
    if index == hw.MSR_KVM_PV_EOI_EN:
        return kvm_lapic_set_pv_eoi(vcpu, data)
    if index == MSR_EFER:
        return set_efer(vcpu, data)
    if is_hyperv_msr(index):
        return kvm_hv_set_msr_common(vcpu, index, data, host_initiated)
    return 1


@kernel(FILE)
def set_efer(vcpu: KvmVcpu, efer: int) -> int:
    """1 (#GP) for a bit that the guest does not have; SVME needs the parameter ``nested``."""
    if efer & ~(EFER_BITS | (EFER_SVM_BITS if vcpu.kvm.host.params["nested"] else 0)):
        return 1
    kvm_x86_ops.set_efer(vcpu, efer)
    return 0


@kernel(FILE)
def kvm_get_msr_common(vcpu: KvmVcpu, index: int) -> int | None:
    """The value, None: refused."""
    if index == hw.MSR_IA32_APICBASE:
        return vcpu.apic.apic_base
    if hw.APIC_BASE_MSR <= index <= hw.APIC_BASE_MSR + 0xFF:
        return kvm_x2apic_msr_read(vcpu.apic, index)
    if index == hw.MSR_IA32_TSC_DEADLINE:
        return kvm_get_lapic_tscdeadline_msr(vcpu)
    if index == hw.MSR_KVM_PV_EOI_EN:
        return vcpu.pv_eoi_msr
    if index == MSR_EFER:
        return vcpu.efer
    if is_hyperv_msr(index):
        return kvm_hv_get_msr_common(vcpu, index)
    return None
