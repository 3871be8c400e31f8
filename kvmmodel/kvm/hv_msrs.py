"""Hyper-V's MSRs: the SynIC's, the synthetic timers', and those that stand for registers of the local APIC; the SynIC's
activation by userspace.

The latter (EOI, ICR, TPR) are ordinary intercepted MSRs, whatever AVIC does: KVM hears of each write. The page of
VP_ASSIST_PAGE has, in its first bit, what PV EOI has in a cell. Read in 6.1.176, 6.12.117, 7.2.13 and 7.3.4.
"""

from __future__ import annotations

from kvmmodel.kvm.apicv import kvm_set_apicv_inhibit
from kvmmodel.kvm.hv_stimer import (
    HV_X64_MSR_STIMER0_CONFIG,
    is_stimer_msr,
    kvm_hv_vcpu_init,
    stimer_set_config,
    stimer_set_count,
)
from kvmmodel.kvm.hyperv import FILE, HV_SYNIC_CONTROL_ENABLE, is_synic_msr, synic_get_msr, synic_set_msr
from kvmmodel.kvm.lapic.access import kvm_lapic_msr_read, kvm_lapic_msr_write
from kvmmodel.kvm.lapic.eoi import KVM_MSR_ENABLED, kvm_lapic_set_pv_eoi
from kvmmodel.kvm.names import kernel
from kvmmodel.kvm.types import KvmVcpu
from kvmmodel.silicon import apic as hw

HV_X64_MSR_EOI, HV_X64_MSR_ICR, HV_X64_MSR_TPR = 0x40000070, 0x40000071, 0x40000072
HV_X64_MSR_VP_ASSIST_PAGE = 0x40000073
VP_ASSIST_PAGE_ENABLE = 1
APIC_REGISTERS = {HV_X64_MSR_EOI: hw.APIC_EOI, HV_X64_MSR_ICR: hw.APIC_ICR, HV_X64_MSR_TPR: hw.APIC_TASKPRI}


def is_hyperv_msr(index: int) -> bool:
    """Of Hyper-V's registers those that the model has."""
    own = index in APIC_REGISTERS or index == HV_X64_MSR_VP_ASSIST_PAGE
    return own or is_synic_msr(index) or is_stimer_msr(index)


@kernel(FILE)
def kvm_hv_activate_synic(vcpu: KvmVcpu) -> None:
    """KVM_ENABLE_CAP of KVM_CAP_HYPERV_SYNIC. In 5.10 this alone inhibits APICv, and for good."""
    kvm_hv_vcpu_init(vcpu)
    if not vcpu.kvm.host.has("hyperv_autoeoi_inhibit"):
        kvm_set_apicv_inhibit(vcpu.kvm, "HYPERV")
    vcpu.synic.active, vcpu.synic.control = True, HV_SYNIC_CONTROL_ENABLE


@kernel(FILE)
def kvm_hv_set_msr_common(vcpu: KvmVcpu, index: int, data: int, host_initiated: bool) -> int:
    """0, or 1: refused, as all are to a guest that does not see Hyper-V."""
    if not host_initiated and not vcpu.kvm.hyperv:
        return 1
    kvm_hv_vcpu_init(vcpu)
    return kvm_hv_set_msr(vcpu, index, data, host_initiated)


@kernel(FILE)
def kvm_hv_set_msr(vcpu: KvmVcpu, index: int, data: int, host_initiated: bool) -> int:
    if index in APIC_REGISTERS:
        return kvm_hv_vapic_msr_write(vcpu, APIC_REGISTERS[index], data)
    if index == HV_X64_MSR_VP_ASSIST_PAGE:
        return _set_assist_page(vcpu, data)
    if not is_stimer_msr(index):
        return synic_set_msr(vcpu, index, data, host_initiated)
    which, is_count = divmod(index - HV_X64_MSR_STIMER0_CONFIG, 2)
    act = stimer_set_count if is_count else stimer_set_config
    return act(vcpu, vcpu.stimers[which], data, host_initiated)


@kernel(FILE)
def kvm_hv_get_msr_common(vcpu: KvmVcpu, index: int) -> int | None:
    """The value, None: refused. The model does not tell a guest's read from userspace's."""
    if not vcpu.kvm.hyperv:
        return None
    kvm_hv_vcpu_init(vcpu)
    return kvm_hv_get_msr(vcpu, index)


@kernel(FILE)
def kvm_hv_get_msr(vcpu: KvmVcpu, index: int) -> int | None:
    if index in APIC_REGISTERS:
        return kvm_hv_vapic_msr_read(vcpu, APIC_REGISTERS[index])
    if index == HV_X64_MSR_VP_ASSIST_PAGE:
        return vcpu.hv_vapic
    if not is_stimer_msr(index):
        return synic_get_msr(vcpu, index)
    which, is_count = divmod(index - HV_X64_MSR_STIMER0_CONFIG, 2)
    return vcpu.stimers[which].count if is_count else vcpu.stimers[which].config


def _set_assist_page(vcpu: KvmVcpu, data: int) -> int:
    """The page's first four bytes become 0, and its first bit is PV EOI's from now on."""
    if not data & VP_ASSIST_PAGE_ENABLE:
        vcpu.hv_vapic = data
        return kvm_lapic_set_pv_eoi(vcpu, 0)
    page = data & ~0xFFF
    for byte in range(page, page + 4):
        vcpu.kvm.memory.pop(byte, None)
    vcpu.hv_vapic = data
    return kvm_lapic_set_pv_eoi(vcpu, page | KVM_MSR_ENABLED)


@kernel("arch/x86/kvm/lapic.c")
def kvm_hv_vapic_msr_write(vcpu: KvmVcpu, reg: int, data: int) -> int:
    """As the guest's own write to the register, in either mode of its APIC."""
    return kvm_lapic_msr_write(vcpu.apic, reg, data)


@kernel("arch/x86/kvm/lapic.c")
def kvm_hv_vapic_msr_read(vcpu: KvmVcpu, reg: int) -> int | None:
    return kvm_lapic_msr_read(vcpu.apic, reg)
