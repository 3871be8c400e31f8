"""Hyper-V's synthetic interrupt controller (SynIC): its sources, which of them have AutoEOI, and who hears of an EOI.

A source (SINT) names a vector. With AutoEOI that vector counts as done once it is injected, which KVM has to do itself:
AVIC knows nothing of it. Timers and their messages are in hv_stimer.py. Not modelled: event flags and their page,
version and index registers, GSIs of SINTs, so that userspace hears of no SINT's EOI.
Read in 6.1.176, 6.12.117, 7.2.13 and 7.3.4; of 5.10 and 5.15 facts/changes says what differs.
"""

from __future__ import annotations

from kvmmodel.events import KvmHvNotifyAckedSint, KvmHvSynicSendEoi, KvmUserspaceExit
from kvmmodel.kvm.apicv import __kvm_set_or_clear_apicv_inhibit, enable_apicv
from kvmmodel.kvm.host_types import trace
from kvmmodel.kvm.kvm_main import kvm_vcpu_kick
from kvmmodel.kvm.names import kernel
from kvmmodel.kvm.requests import KVM_REQ_HV_EXIT, KVM_REQ_HV_STIMER, KVM_REQ_SCAN_IOAPIC, kvm_make_request
from kvmmodel.kvm.types import HvStimer, HvSynic, KvmVcpu

FILE = "arch/x86/kvm/hyperv.c"
HV_X64_MSR_SCONTROL, HV_X64_MSR_SIMP, HV_X64_MSR_EOM = 0x40000080, 0x40000083, 0x40000084
HV_X64_MSR_SINT0, HV_X64_MSR_SINT15 = 0x40000090, 0x4000009F
HV_SYNIC_CONTROL_ENABLE = 1
HV_SYNIC_SIMP_ENABLE = 1
HV_SYNIC_SINT_COUNT = 16
HV_STIMER_ENABLE, HV_STIMER_PERIODIC, HV_STIMER_AUTOENABLE, HV_STIMER_DIRECT = 1 << 0, 1 << 1, 1 << 3, 1 << 12
HV_SYNIC_SINT_VECTOR_MASK, HV_SYNIC_SINT_MASKED, HV_SYNIC_SINT_AUTO_EOI = 0xFF, 1 << 16, 1 << 17
HV_SYNIC_FIRST_VALID_VECTOR = 16
KVM_EXIT_HYPERV = 27


def is_synic_msr(index: int) -> bool:
    """Of SynIC's registers those that the model has."""
    known = (HV_X64_MSR_SCONTROL, HV_X64_MSR_SIMP, HV_X64_MSR_EOM)
    return index in known or HV_X64_MSR_SINT0 <= index <= HV_X64_MSR_SINT15


@kernel(FILE)
def synic_set_msr(vcpu: KvmVcpu, index: int, data: int, host_initiated: bool) -> int:
    """0, or 1: refused. Userspace hears of the guest's writes to SCONTROL and SIMP. EOM: all sources are done."""
    synic = vcpu.synic
    if not synic.active and (not host_initiated or data):
        return 1
    if index == HV_X64_MSR_EOM:
        for sint in range(HV_SYNIC_SINT_COUNT if synic.active else 0):
            kvm_hv_notify_acked_sint(vcpu, sint)
        return 0
    if index == HV_X64_MSR_SIMP:
        if data & HV_SYNIC_SIMP_ENABLE and not host_initiated:
            _clear_page(vcpu, data & ~0xFFF)
        synic.msg_page = data
    elif index == HV_X64_MSR_SCONTROL:
        synic.control = data
    else:
        return synic_set_sint(vcpu, index - HV_X64_MSR_SINT0, data, host_initiated)
    if not host_initiated:
        kvm_make_request(KVM_REQ_HV_EXIT, vcpu)
    return 0


def _clear_page(vcpu: KvmVcpu, address: int) -> None:
    for byte in range(address, address + 0x1000):
        vcpu.kvm.memory.pop(byte, None)


@kernel(FILE)
def synic_get_msr(vcpu: KvmVcpu, index: int) -> int | None:
    """The value, None: refused. Userspace may read an inactive one, too; the model does not."""
    synic = vcpu.synic
    if not synic.active:
        return None
    if index == HV_X64_MSR_EOM:
        return 0
    if index == HV_X64_MSR_SIMP:
        return synic.msg_page
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


def synic_get_sint_vector(value: int) -> int:
    """-1: the source is masked."""
    return -1 if value & HV_SYNIC_SINT_MASKED else value & HV_SYNIC_SINT_VECTOR_MASK


def synic_has_vector_auto_eoi(synic: HvSynic, vector: int) -> bool:
    return any(synic_get_sint_vector(v) == vector and v & HV_SYNIC_SINT_AUTO_EOI for v in synic.sint)


@kernel(FILE)
def synic_update_vector(vcpu: KvmVcpu, vector: int) -> None:
    """The VM counts its vCPUs that have a vector with AutoEOI: the first sets the inhibit, the last clears it."""
    kvm, synic = vcpu.kvm, vcpu.synic
    if vector < HV_SYNIC_FIRST_VALID_VECTOR:
        return
    connected = any(synic_get_sint_vector(value) == vector for value in synic.sint)
    synic.vectors = synic.vectors | {vector} if connected else synic.vectors - {vector}
    before = bool(synic.auto_eoi)
    synic.auto_eoi = (
        synic.auto_eoi | {vector} if synic_has_vector_auto_eoi(synic, vector) else synic.auto_eoi - {vector}
    )
    counted = kvm.host.has("hyperv_autoeoi_inhibit") and enable_apicv(kvm.host)
    if bool(synic.auto_eoi) == before or not counted or "no-autoeoi-inhibit" in kvm.broken:
        return
    kvm.synic_auto_eoi_used += 1 if synic.auto_eoi else -1
    __kvm_set_or_clear_apicv_inhibit(kvm, "HYPERV", kvm.synic_auto_eoi_used > 0)


@kernel(FILE)
def kvm_hv_synic_send_eoi(vcpu: KvmVcpu, vector: int) -> None:
    """KVM carried out the EOI of a source's vector. Of one that AVIC ended it does not know."""
    trace(vcpu.kvm.host, KvmHvSynicSendEoi, vcpu.vcpu_id, vector)
    for sint, value in enumerate(vcpu.synic.sint):
        if synic_get_sint_vector(value) == vector:
            kvm_hv_notify_acked_sint(vcpu, sint)


@kernel(FILE)
def kvm_hv_notify_acked_sint(vcpu: KvmVcpu, sint: int) -> None:
    """The guest is done with a source's message: timers whose message found the slot taken try again."""
    trace(vcpu.kvm.host, KvmHvNotifyAckedSint, vcpu.vcpu_id, sint)
    for stimer in vcpu.stimers:
        enabled = stimer.config & (HV_STIMER_ENABLE | HV_STIMER_DIRECT) == HV_STIMER_ENABLE
        if stimer.msg_pending and enabled and stimer_sint(stimer) == sint:
            stimer_mark_pending(vcpu, stimer, False)


def stimer_sint(stimer: HvStimer) -> int:
    return stimer.config >> 16 & 0xF


@kernel(FILE)
def stimer_mark_pending(vcpu: KvmVcpu, stimer: HvStimer, vcpu_kick: bool) -> None:
    """Something is to do for the timer, in the vCPU's own thread."""
    vcpu.stimer_pending |= 1 << stimer.index
    kvm_make_request(KVM_REQ_HV_STIMER, vcpu)
    if vcpu_kick:
        kvm_vcpu_kick(vcpu)


def exit_for_hyperv(vcpu: KvmVcpu) -> None:
    """vcpu_enter_guest's part: to userspace, with SynIC's state."""
    vcpu.exit = ("hyperv", "synic", vcpu.synic.control)
    trace(vcpu.kvm.host, KvmUserspaceExit, "KVM_EXIT_HYPERV", KVM_EXIT_HYPERV)
