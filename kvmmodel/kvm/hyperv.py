"""Hyper-V's synthetic interrupt controller (SynIC), as far as AVIC goes: which of its sources have AutoEOI.

A source (SINT) names a vector. With AutoEOI that vector counts as done once it is injected, which KVM has to do itself:
AVIC knows nothing of it. Not modelled: messages, events and timers, the pages for them, who is told of a SINT's EOI.
Read in 7.3.4; of 5.10 and 5.15 facts/avic.md and facts/changes say what differs.
"""

from __future__ import annotations

from kvmmodel.events import KvmUserspaceExit
from kvmmodel.kvm.apicv import __kvm_set_or_clear_apicv_inhibit, enable_apicv, kvm_set_apicv_inhibit
from kvmmodel.kvm.host_types import trace
from kvmmodel.kvm.names import kernel
from kvmmodel.kvm.requests import KVM_REQ_HV_EXIT, KVM_REQ_SCAN_IOAPIC, kvm_make_request
from kvmmodel.kvm.types import HvSynic, KvmVcpu

FILE = "arch/x86/kvm/hyperv.c"
HV_X64_MSR_SCONTROL = 0x40000080
HV_X64_MSR_SINT0, HV_X64_MSR_SINT15 = 0x40000090, 0x4000009F
HV_SYNIC_CONTROL_ENABLE = 1
HV_SYNIC_SINT_VECTOR_MASK, HV_SYNIC_SINT_MASKED, HV_SYNIC_SINT_AUTO_EOI = 0xFF, 1 << 16, 1 << 17
HV_SYNIC_FIRST_VALID_VECTOR = 16
KVM_EXIT_HYPERV = 27


def is_synic_msr(index: int) -> bool:
    """Of SynIC's registers those that the model has."""
    return index == HV_X64_MSR_SCONTROL or HV_X64_MSR_SINT0 <= index <= HV_X64_MSR_SINT15


@kernel(FILE)
def kvm_hv_activate_synic(vcpu: KvmVcpu) -> None:
    """KVM_ENABLE_CAP of KVM_CAP_HYPERV_SYNIC. In 5.10 this alone inhibits APICv, and for good."""
    if not vcpu.kvm.host.has("hyperv_autoeoi_inhibit"):
        kvm_set_apicv_inhibit(vcpu.kvm, "HYPERV")
    vcpu.synic.active, vcpu.synic.control = True, HV_SYNIC_CONTROL_ENABLE


@kernel(FILE)
def synic_set_msr(vcpu: KvmVcpu, index: int, data: int, host_initiated: bool) -> int:
    """0, or 1: refused. Userspace hears of the guest's writes to SCONTROL."""
    synic = vcpu.synic
    if not synic.active and (not host_initiated or data):
        return 1
    if index != HV_X64_MSR_SCONTROL:
        return synic_set_sint(vcpu, index - HV_X64_MSR_SINT0, data, host_initiated)
    synic.control = data
    if not host_initiated:
        kvm_make_request(KVM_REQ_HV_EXIT, vcpu)
    return 0


@kernel(FILE)
def synic_get_msr(vcpu: KvmVcpu, index: int) -> int | None:
    """The value, None: refused. Userspace may read an inactive one, too; the model does not."""
    synic = vcpu.synic
    if not synic.active:
        return None
    return synic.control if index == HV_X64_MSR_SCONTROL else synic.sint[index - HV_X64_MSR_SINT0]


@kernel(FILE)
def synic_set_sint(vcpu: KvmVcpu, sint: int, data: int, host_initiated: bool) -> int:
    """0, or 1: a vector below 16, unless it is masked."""
    vector = data & HV_SYNIC_SINT_VECTOR_MASK
    if vector < HV_SYNIC_FIRST_VALID_VECTOR and not host_initiated and not data & HV_SYNIC_SINT_MASKED:
        return 1
    old = vcpu.synic.sint[sint] & HV_SYNIC_SINT_VECTOR_MASK
    vcpu.synic.sint[sint] = data
    synic_update_vector(vcpu, old)
    synic_update_vector(vcpu, vector)
    kvm_make_request(KVM_REQ_SCAN_IOAPIC, vcpu)
    return 0


def synic_has_vector_auto_eoi(synic: HvSynic, vector: int) -> bool:
    wanted = HV_SYNIC_SINT_AUTO_EOI | vector
    mask = HV_SYNIC_SINT_AUTO_EOI | HV_SYNIC_SINT_MASKED | HV_SYNIC_SINT_VECTOR_MASK
    return any(value & mask == wanted for value in synic.sint)


@kernel(FILE)
def synic_update_vector(vcpu: KvmVcpu, vector: int) -> None:
    """The VM counts its vCPUs that have a vector with AutoEOI: the first sets the inhibit, the last clears it."""
    kvm, synic = vcpu.kvm, vcpu.synic
    if vector < HV_SYNIC_FIRST_VALID_VECTOR:
        return
    before = bool(synic.auto_eoi)
    synic.auto_eoi = (
        synic.auto_eoi | {vector} if synic_has_vector_auto_eoi(synic, vector) else synic.auto_eoi - {vector}
    )
    counted = kvm.host.has("hyperv_autoeoi_inhibit") and enable_apicv(kvm.host)
    if bool(synic.auto_eoi) == before or not counted:
        return
    kvm.synic_auto_eoi_used += 1 if synic.auto_eoi else -1
    __kvm_set_or_clear_apicv_inhibit(kvm, "HYPERV", kvm.synic_auto_eoi_used > 0)


def exit_for_hyperv(vcpu: KvmVcpu) -> None:
    """vcpu_enter_guest's part: to userspace, with SynIC's state."""
    vcpu.exit = ("hyperv", "synic", vcpu.synic.control)
    trace(vcpu.kvm.host, KvmUserspaceExit, "KVM_EXIT_HYPERV", KVM_EXIT_HYPERV)
