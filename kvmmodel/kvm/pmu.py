"""The guest's performance counters, as far as they interrupt: arch/x86/kvm/pmu.c. The counters are not modelled."""

from __future__ import annotations

from kvmmodel.kvm.kvm_main import kvm_vcpu_kick
from kvmmodel.kvm.lapic.timer import kvm_apic_local_deliver
from kvmmodel.kvm.names import kernel
from kvmmodel.kvm.requests import KVM_REQ_PMI, kvm_make_request
from kvmmodel.kvm.types import KvmVcpu
from kvmmodel.silicon import apic as hw

FILE = "arch/x86/kvm/pmu.c"


@kernel(FILE)
def kvm_perf_overflow(vcpu: KvmVcpu) -> None:
    """A counter of the guest's overflowed. On a host that NMI itself takes the vCPU out; here a kick stands for it."""
    kvm_make_request(KVM_REQ_PMI, vcpu)
    kvm_vcpu_kick(vcpu)


@kernel(FILE)
def kvm_pmu_deliver_pmi(vcpu: KvmVcpu) -> None:
    """The local APIC has an entry for it."""
    kvm_apic_local_deliver(vcpu.apic, hw.APIC_LVTPC)
