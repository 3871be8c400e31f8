"""#VMEXIT(AVIC_INCOMPLETE_IPI): the processor could not send an IPI, or not to everybody; and KVM's own doorbell."""

from __future__ import annotations

from kvmmodel.events import KvmAvicDoorbell, KvmAvicIncompleteIpi, KvmAvicKickVcpuSlowpath, RingDoorbell
from kvmmodel.kvm.host_irqs import ring
from kvmmodel.kvm.host_types import HostKernel, trace
from kvmmodel.kvm.kvm_main import kvm_vcpu_wake_up
from kvmmodel.kvm.lapic.access import kvm_lapic_reg_write
from kvmmodel.kvm.lapic.icr import kvm_apic_send_ipi
from kvmmodel.kvm.lapic.map import kvm_apic_match_dest
from kvmmodel.kvm.lapic.nodecode import kvm_apic_write_nodecode
from kvmmodel.kvm.lapic.registers import apic_x2apic_mode, kvm_lapic_get_reg
from kvmmodel.kvm.names import kernel
from kvmmodel.kvm.sched import cpu_of
from kvmmodel.kvm.svm.avic.tables import FILE, entry_of, logical_table
from kvmmodel.kvm.types import Kvm, KvmLapic, KvmVcpu
from kvmmodel.silicon import apic as hw
from kvmmodel.silicon.avic import (
    INVALID_BACKING_PAGE,
    INVALID_INT_TYPE,
    INVALID_IPI_VECTOR,
    INVALID_TARGET,
    TARGET_NOT_RUNNING,
)
from kvmmodel.silicon.avic_tables import LOGICAL_GUEST_ID, LOGICAL_VALID, PHYSICAL_IS_RUNNING


@kernel(FILE, since="6.1")
def avic_ring_doorbell(vcpu: KvmVcpu) -> None:
    """WRMSR of the doorbell. To the core where it was last: if it has moved since, it has been through a VMRUN."""
    host = vcpu.kvm.host
    if vcpu.cpu != host.current.id:
        ring(host, cpu_of(host, vcpu.cpu))
        trace(host, RingDoorbell, vcpu.vcpu_id, vcpu.cpu)
        if host.has("avic_doorbell_traced"):
            trace(host, KvmAvicDoorbell, vcpu.vcpu_id, vcpu.cpu)


@kernel(FILE, since="6.6")
def avic_kick_vcpu(vcpu: KvmVcpu, icrl: int) -> None:
    """The processor has set the IRR bit; the target has to look."""
    from kvmmodel.kvm.svm.interrupts import svm_complete_interrupt_delivery

    vcpu.apic.irr_pending = True
    mode, vector = icrl & hw.APIC_MODE_MASK, icrl & hw.APIC_VECTOR_MASK
    svm_complete_interrupt_delivery(vcpu, mode, int(icrl & hw.APIC_INT_LEVELTRIG != 0), vector)


def _by_id(kvm: Kvm, ident: int) -> KvmVcpu | None:
    return next((vcpu for vcpu in kvm.vcpus if vcpu.vcpu_id == ident), None)


@kernel(FILE, since="6.6")
def avic_kick_vcpu_by_physical_id(kvm: Kvm, physical_id: int, icrl: int) -> None:
    target = _by_id(kvm, physical_id)
    if target is not None:
        avic_kick_vcpu(target, icrl)


@kernel(FILE, since="6.6")
def avic_kick_vcpu_by_logical_id(kvm: Kvm, table: dict[int, int] | None, index: int, icrl: int) -> None:
    """By the slot of the logical table; in x2APIC mode it is the ID itself."""
    if table is not None:
        entry = table.get(index, 0)
        if not entry & LOGICAL_VALID:
            return
        index = entry & LOGICAL_GUEST_ID
    avic_kick_vcpu_by_physical_id(kvm, index, icrl)


@kernel(FILE, since="6.1")
def avic_kick_target_vcpus_fast(kvm: Kvm, source: KvmLapic, icrl: int, icrh: int, index: int) -> bool:
    """Straight to the targets. False: look at every vCPU instead."""
    x2apic = apic_x2apic_mode(source)
    dest = icrh if x2apic else icrh >> 24
    if icrl & hw.APIC_SHORT_MASK:
        return False
    if not icrl & hw.APIC_DEST_LOGICAL:
        if dest == (hw.X2APIC_BROADCAST if x2apic else hw.APIC_BROADCAST) or dest != index:
            return False
        avic_kick_vcpu_by_physical_id(kvm, dest, icrl)
        return True
    if not kvm.host.has("kick_fast_multi_target"):
        return _kick_one_logical(kvm, source, dest, icrl, index)
    if x2apic:
        bitmap, cluster = dest & 0xFFFF, dest >> 16 << 4
    elif kvm_lapic_get_reg(source, hw.APIC_DFR) == hw.APIC_DFR_FLAT:
        bitmap, cluster = dest, 0
    else:
        bitmap, cluster = dest & 0xF, dest >> 4 << 2
    for bit in range(16):
        if bitmap >> bit & 1:
            avic_kick_vcpu_by_logical_id(kvm, None if x2apic else logical_table(kvm), cluster + bit, icrl)
    return True


def _kick_one_logical(kvm: Kvm, source: KvmLapic, dest: int, icrl: int, index: int) -> bool:
    """5.19 to 6.2: one target, whose slot the exit has to report. In x2APIC mode the mask is the cluster's bits.

    So of cluster 0 nobody is woken there.
    """
    if apic_x2apic_mode(source):
        return not dest & 0xFFFF0000
    flat = kvm_lapic_get_reg(source, hw.APIC_DFR) == hw.APIC_DFR_FLAT
    bitmap, cluster = (dest, 0) if flat else (dest & 0xF, dest >> 4 << 2)
    if bitmap.bit_count() > 1:
        return False
    slot = cluster + bitmap.bit_length() - 1
    if bitmap and slot != index:
        return False
    if bitmap:
        avic_kick_vcpu_by_logical_id(kvm, logical_table(kvm), slot, icrl)
    return True


@kernel(FILE, since="6.1")
def avic_kick_target_vcpus(kvm: Kvm, source: KvmLapic, icrl: int, icrh: int, index: int) -> None:
    """Of those meant, all: which of them were not running is not asked."""
    if kvm.host.has("kick_fast_path") and avic_kick_target_vcpus_fast(kvm, source, icrl, icrh, index):
        return
    trace(kvm.host, KvmAvicKickVcpuSlowpath, icrh, icrl, index)
    for vcpu in _meant(kvm, source, icrl, icrh):
        avic_kick_vcpu(vcpu, icrl)


def _meant(kvm: Kvm, source: KvmLapic, icrl: int, icrh: int) -> list[KvmVcpu]:
    """Up to 6.1 the destination's width is that of the vCPU that is looked at, not of the sender."""
    by_sender = kvm.host.has("kick_slow_by_sender")
    short, mode = icrl & hw.APIC_SHORT_MASK, icrl & hw.APIC_DEST_LOGICAL

    def dest(vcpu: KvmVcpu) -> int:
        return icrh if apic_x2apic_mode(source if by_sender else vcpu.apic) else icrh >> 24

    return [vcpu for vcpu in kvm.vcpus if kvm_apic_match_dest(vcpu, source, short, dest(vcpu), mode)]


def _index_mask(host: HostKernel) -> int:
    return 0xFFF if host.has("avic_4096") else 0x1FF if host.has("x2avic") else 0xFF


@kernel(FILE)
def avic_incomplete_ipi_interception(vcpu: KvmVcpu) -> int:
    """The ICR is written and RIP is behind the instruction. What is left depends on the reason."""
    host, apic, info = vcpu.kvm.host, vcpu.apic, vcpu.vmcb
    icrh, icrl = info.exit_info_1 >> 32, info.exit_info_1 & 0xFFFFFFFF
    reason, index = info.exit_info_2 >> 32, info.exit_info_2 & _index_mask(host)
    trace(host, KvmAvicIncompleteIpi, vcpu.vcpu_id, icrh, icrl, reason, index)
    if "no-avic-exits" in vcpu.kvm.broken:
        return 1
    if reason == INVALID_INT_TYPE or (reason == INVALID_TARGET and host.has("incomplete_ipi_reason2_emulated")):
        _emulate(vcpu, icrl, icrh)
    elif reason == TARGET_NOT_RUNNING:
        if host.has("kick_every_target"):
            avic_kick_target_vcpus(vcpu.kvm, apic, icrl, icrh, index)
        else:
            _wake_those_not_running(vcpu.kvm, apic, icrl, icrh)
    elif reason == INVALID_BACKING_PAGE and "Invalid backing page" not in vcpu.kvm.dmesg:  # WARN_ONCE
        vcpu.kvm.dmesg.append("Invalid backing page")
    elif reason == INVALID_IPI_VECTOR and not host.has("incomplete_ipi_reason4_known"):
        known = host.has("kick_fast_path")
        vcpu.kvm.dmesg.append("Unknown avic incomplete IPI interception" if known else "Unknown IPI interception")
    return 1  # INVALID_TARGET in 5.10: the IPI is lost


def _emulate(vcpu: KvmVcpu, icrl: int, icrh: int) -> None:
    """Send it all over in software. A BUSY bit that hardware left is cleared by writing the ICR again."""
    if not vcpu.kvm.host.has("avic_busy_rewrite"):
        kvm_lapic_reg_write(vcpu.apic, hw.APIC_ICR2, icrh)
        kvm_lapic_reg_write(vcpu.apic, hw.APIC_ICR, icrl)
    elif icrl & hw.APIC_ICR_BUSY:
        kvm_apic_write_nodecode(vcpu, hw.APIC_ICR)
    else:
        kvm_apic_send_ipi(vcpu.apic, icrl, icrh)


def _wake_those_not_running(kvm: Kvm, source: KvmLapic, icrl: int, icrh: int) -> None:
    """5.10 and 5.15."""
    for vcpu in _meant(kvm, source, icrl, icrh):
        if not entry_of(vcpu) & PHYSICAL_IS_RUNNING:
            kvm_vcpu_wake_up(vcpu)
