"""What the VMCB says of AVIC, and switching it on and off: xAVIC, x2AVIC, the hybrid of the two, or none.

Hybrid: an x2APIC guest on a processor without x2AVIC. Its MSR accesses exit; what arrives, the processor delivers.
"""

from __future__ import annotations

from kvmmodel.events import AvicMode
from kvmmodel.kvm.apicv import enable_apicv, x2avic_enabled
from kvmmodel.kvm.host_types import HostKernel, trace
from kvmmodel.kvm.lapic.access import READABLE, XAPIC_ONLY
from kvmmodel.kvm.lapic.registers import LVT_MASKS, apic_x2apic_mode
from kvmmodel.kvm.names import kernel
from kvmmodel.kvm.requests import KVM_REQ_TLB_FLUSH_CURRENT, kvm_make_request
from kvmmodel.kvm.svm.avic.load import (
    __avic_vcpu_load,
    __avic_vcpu_put,
    avic_set_pi_irte_mode,
    avic_vcpu_load,
    avic_vcpu_put,
)
from kvmmodel.kvm.svm.avic.tables import FILE, __avic_get_max_physical_id, avic_apicv_post_state_restore
from kvmmodel.kvm.svm.intercepts import svm_clr_intercept, svm_set_intercept
from kvmmodel.kvm.svm.predicates import vmcb12_is_intercept
from kvmmodel.kvm.types import KvmVcpu
from kvmmodel.silicon import apic as hw
from kvmmodel.silicon.vmcb import SVM_EXIT_MSR, SVM_EXIT_WRITE_CR8

BANKS = frozenset(base + 0x10 * i for base in hw.BANKS for i in range(8))
# Up to 7.0 reads and writes of the same registers pass, of each bank only the first word (a bug), and not SELF_IPI.
COARSE = (READABLE | {hw.APIC_EOI, hw.APIC_RRR, *hw.BANKS}) - {hw.APIC_LVTT}
XAPIC = frozenset(XAPIC_ONLY)
WRITES = frozenset((hw.APIC_TASKPRI, hw.APIC_EOI, hw.APIC_SELF_IPI, hw.APIC_ICR))
READS = (READABLE | BANKS) - XAPIC - {hw.APIC_TMCCT}
assert set(LVT_MASKS) <= READS  # LVTT too: reading it never needed the exit that writing it does


def _msrs(offsets: frozenset[int]) -> frozenset[int]:
    return frozenset(hw.APIC_BASE_MSR + (offset >> 4) for offset in offsets)


def passed_msrs(host: HostKernel) -> tuple[frozenset[int], frozenset[int]]:
    """Which x2APIC MSRs a guest may read, and write, without an exit while x2AVIC is active."""
    if host.has("x2avic_msrs_read_all_write_four"):
        return _msrs(READS), _msrs(WRITES)
    return _msrs(COARSE), _msrs(COARSE)


@kernel(FILE, since="6.1", was={"6.1": "svm_set_x2apic_msr_interception", "6.18": "avic_set_x2apic_msr_interception"})
def avic_set_x2apic_msr_interception(vcpu: KvmVcpu, intercept: bool) -> None:
    vmcb = vcpu.vmcb01
    if intercept and "no-msr-intercept" in vcpu.kvm.broken:
        return
    if x2avic_enabled(vcpu.kvm.host):
        vmcb.msr_reads, vmcb.msr_writes = (frozenset(), frozenset()) if intercept else passed_msrs(vcpu.kvm.host)


def avic_mode(vcpu: KvmVcpu) -> str:
    """off, xavic, x2avic or hybrid."""
    if not vcpu.vmcb01.avic_enable:
        return "off"
    if not apic_x2apic_mode(vcpu.apic):
        return "xavic"
    return "x2avic" if vcpu.vmcb01.x2apic_mode else "hybrid"


@kernel(FILE)
def avic_init_vmcb(vcpu: KvmVcpu) -> None:
    vmcb, kvm = vcpu.vmcb01, vcpu.kvm
    vmcb.avic_backing_page = vcpu.avic_backing_page
    vmcb.avic_logical_id, vmcb.avic_physical_id = kvm.avic_logical_id_table, kvm.avic_physical_id_table
    vmcb.avic_vapic_bar = hw.APIC_DEFAULT_PHYS_BASE
    if vcpu.apic.apicv_active:
        avic_activate_vmcb(vcpu)
    else:
        avic_deactivate_vmcb(vcpu)


@kernel(FILE, since="6.1")
def avic_activate_vmcb(vcpu: KvmVcpu) -> None:
    """The translations of the xAPIC page change their meaning with the mode, so the TLB has to be flushed."""
    vmcb, host = vcpu.vmcb01, vcpu.kvm.host
    vmcb.avic_max_index, vmcb.avic_enable = __avic_get_max_physical_id(vcpu.kvm, vcpu), True
    if host.has("cr8_intercept_follows_avic"):
        svm_clr_intercept(vcpu, SVM_EXIT_WRITE_CR8)
    vmcb.x2apic_mode = x2avic_enabled(host) and apic_x2apic_mode(vcpu.apic)
    if host.has("x2avic_flush_on_toggle" if vmcb.x2apic_mode else "apicv_flush_on_toggle"):
        kvm_make_request(KVM_REQ_TLB_FLUSH_CURRENT, vcpu)
    avic_set_x2apic_msr_interception(vcpu, not vmcb.x2apic_mode)
    trace(host, AvicMode, vcpu.vcpu_id, avic_mode(vcpu))


@kernel(FILE, since="6.1")
def avic_deactivate_vmcb(vcpu: KvmVcpu) -> None:
    vmcb = vcpu.vmcb01
    vmcb.avic_enable = vmcb.x2apic_mode = False
    vmcb.avic_max_index = 0
    if vcpu.kvm.host.has("cr8_intercept_follows_avic"):
        svm_set_intercept(vcpu, SVM_EXIT_WRITE_CR8)
    if not _left_to_l1(vcpu):
        avic_set_x2apic_msr_interception(vcpu, True)
    trace(vcpu.kvm.host, AvicMode, vcpu.vcpu_id, "off")


def _left_to_l1(vcpu: KvmVcpu) -> bool:
    """A bug of older releases: L2's MSRs are L1's business, so they keep theirs for L1 as it was."""
    own_bitmap = vcpu.guest_mode and vmcb12_is_intercept(vcpu, SVM_EXIT_MSR)
    return own_bitmap and not vcpu.kvm.host.has("inhibited_in_l2_intercepts_msrs")


@kernel(FILE, since="6.1", was={"6.1": "avic_refresh_virtual_apic_mode"})
def avic_refresh_virtual_apic_mode(vcpu: KvmVcpu) -> None:
    """Bring the VMCB in line with apicv_active and the APIC's mode."""
    if not enable_apicv(vcpu.kvm.host):
        return
    if vcpu.apic.apicv_active:
        avic_apicv_post_state_restore(vcpu)
        avic_activate_vmcb(vcpu)
    else:
        avic_deactivate_vmcb(vcpu)


@kernel(FILE, was={"5.10": "svm_refresh_apicv_exec_ctrl", "6.1": "avic_refresh_apicv_exec_ctrl"})
def avic_refresh_apicv_exec_ctrl(vcpu: KvmVcpu) -> None:
    """AVIC goes on or off on a vCPU that is loaded: VMCB, IsRunning, and the devices that post to it."""
    host, active = vcpu.kvm.host, vcpu.apic.apicv_active
    if not enable_apicv(host):
        return
    avic_refresh_virtual_apic_mode(vcpu)
    if host.has("irte_activated_with_the_vcpu"):
        (__avic_vcpu_load if active else __avic_vcpu_put)(vcpu, "toggle")
        return
    if host.has("apicv_update_by_request"):  # not in 5.10, whose IsRunning stays as it was
        (avic_vcpu_load if active else avic_vcpu_put)(vcpu)
    avic_set_pi_irte_mode(vcpu, active)
