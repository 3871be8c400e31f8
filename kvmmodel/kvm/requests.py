"""vcpu->requests: the bits, and making, testing and clearing them.

Bit numbers: arch/x86/include/asm/kvm_host.h; 14 (EVENT) is seen in the recorded kvm_exit lines of 7.3.4.
"""

from __future__ import annotations

from kvmmodel.events import Barrier, CheckRequest, MakeRequest
from kvmmodel.kvm.host_types import HostKernel, trace
from kvmmodel.kvm.names import kernel
from kvmmodel.kvm.types import KvmVcpu

KVM_REQ_UNBLOCK = 2  # KVM_REQ_PENDING_TIMER in 5.10
KVM_REQ_UNHALT = 3  # up to 5.15
KVM_REQ_MIGRATE_TIMER = 8
KVM_REQ_TRIPLE_FAULT = 10
KVM_REQ_CLOCK_UPDATE = 12
KVM_REQ_EVENT = 14
KVM_REQ_NMI = 17
KVM_REQ_PMI = 19
KVM_REQ_SMI = 20
KVM_REQ_SCAN_IOAPIC = 23
KVM_REQ_GLOBAL_CLOCK_UPDATE = 24
KVM_REQ_IOAPIC_EOI_EXIT = 27
KVM_REQ_HV_EXIT = 29
KVM_REQ_HV_STIMER = 30
KVM_REQ_APICV_UPDATE = 33
KVM_REQ_TLB_FLUSH_CURRENT = 34

NAMES = {
    KVM_REQ_UNBLOCK: "UNBLOCK",
    KVM_REQ_UNHALT: "UNHALT",
    KVM_REQ_MIGRATE_TIMER: "MIGRATE_TIMER",
    KVM_REQ_TRIPLE_FAULT: "TRIPLE_FAULT",
    KVM_REQ_CLOCK_UPDATE: "CLOCK_UPDATE",
    KVM_REQ_EVENT: "EVENT",
    KVM_REQ_NMI: "NMI",
    KVM_REQ_PMI: "PMI",
    KVM_REQ_SMI: "SMI",
    KVM_REQ_SCAN_IOAPIC: "SCAN_IOAPIC",
    KVM_REQ_GLOBAL_CLOCK_UPDATE: "GLOBAL_CLOCK_UPDATE",
    KVM_REQ_IOAPIC_EOI_EXIT: "IOAPIC_EOI_EXIT",
    KVM_REQ_HV_EXIT: "HV_EXIT",
    KVM_REQ_HV_STIMER: "HV_STIMER",
    KVM_REQ_APICV_UPDATE: "APICV_UPDATE",
    KVM_REQ_TLB_FLUSH_CURRENT: "TLB_FLUSH_CURRENT",
}


@kernel("include/linux/kvm_host.h")
def kvm_make_request(request: int, vcpu: KvmVcpu) -> None:
    """The payload is visible before the bit: smp_wmb, then set_bit."""
    vcpu.requests |= 1 << request
    trace(vcpu.kvm.host, MakeRequest, vcpu.vcpu_id, name_of(request, vcpu.kvm.host))


@kernel("include/linux/kvm_host.h")
def kvm_clear_request(request: int, vcpu: KvmVcpu) -> None:
    """Clear without a look at it."""
    vcpu.requests &= ~(1 << request)


@kernel("include/linux/kvm_host.h")
def kvm_check_request(request: int, vcpu: KvmVcpu) -> bool:
    """Test and clear; a full barrier follows the clearing."""
    if not vcpu.requests >> request & 1:
        return False
    vcpu.requests &= ~(1 << request)
    trace(vcpu.kvm.host, CheckRequest, vcpu.vcpu_id, name_of(request, vcpu.kvm.host))
    return True


def barrier(vcpu: KvmVcpu, name: str) -> None:
    """A barrier that the reader should see. The model is sequentially consistent, so it changes nothing."""
    trace(vcpu.kvm.host, Barrier, name)


def name_of(request: int, host: HostKernel) -> str:
    """What the release calls it."""
    return "PENDING_TIMER" if request == KVM_REQ_UNBLOCK and not host.has("req_unblock") else NAMES[request]


def names(requests: int, host: HostKernel) -> tuple[str, ...]:
    """The names of a mask's bits, ascending."""
    return tuple(name_of(bit, host) for bit in range(requests.bit_length()) if requests >> bit & 1)
