"""From a message to the APICs that it is for: the fast path, the slow path, and acceptance by one APIC.

kvm_irq_delivery_to_apic lives in irq_comm.c up to 6.12 and in lapic.c from 6.18; 7.2 renamed the bodies.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from kvmmodel.events import KvmApicAcceptIrq, PvUnhalted
from kvmmodel.kvm.host_types import trace
from kvmmodel.kvm.kvm_main import kvm_vcpu_kick
from kvmmodel.kvm.lapic.map import (
    LapicIrq,
    kvm_apic_map_get_dest_lapic,
    kvm_lowest_prio_delivery,
    kvm_vector_to_index,
    sw_enabled_matches,
)
from kvmmodel.kvm.lapic.priority import kvm_lapic_set_irr
from kvmmodel.kvm.lapic.registers import apic_enabled
from kvmmodel.kvm.names import kernel
from kvmmodel.kvm.ops import kvm_x86_ops
from kvmmodel.kvm.requests import KVM_REQ_EVENT, KVM_REQ_NMI, kvm_make_request
from kvmmodel.kvm.smm import kvm_inject_smi
from kvmmodel.kvm.types import Kvm, KvmLapic, KvmVcpu
from kvmmodel.silicon import apic as hw

FILE = "arch/x86/kvm/lapic.c"


@dataclass(slots=True)
class RtcStatus:
    """struct rtc_status: who has the RTC's interrupt still to end. ``vectors``: vcpu_id -> vector that it came as."""

    pending_eoi: int = 0
    vectors: dict[int, int] = field(default_factory=dict)


@kernel(FILE)
def kvm_irq_delivery_to_apic_fast(
    kvm: Kvm, src: KvmLapic | None, irq: LapicIrq, rtc: RtcStatus | None = None
) -> int | None:
    return __kvm_irq_delivery_to_apic_fast(kvm, src, irq, rtc)


@kernel(FILE, since="7.2")
def __kvm_irq_delivery_to_apic_fast(
    kvm: Kvm, src: KvmLapic | None, irq: LapicIrq, rtc: RtcStatus | None = None
) -> int | None:
    """None: the map cannot resolve the destination. Else how many accepted; 0 also when the slots are empty."""
    found = kvm_apic_map_get_dest_lapic(kvm, src, irq)
    if found is None:
        return None
    slots, mask = found
    meant = [apic for i, apic in enumerate(slots) if mask >> i & 1 and apic is not None]
    return sum(kvm_apic_set_irq(apic.vcpu, irq, rtc) for apic in meant)


@kernel(FILE)
def kvm_irq_delivery_to_apic(kvm: Kvm, src: KvmLapic | None, irq: LapicIrq, rtc: RtcStatus | None = None) -> int:
    return __kvm_irq_delivery_to_apic(kvm, src, irq, rtc)


@kernel(FILE, since="7.2")
def __kvm_irq_delivery_to_apic(kvm: Kvm, src: KvmLapic | None, irq: LapicIrq, rtc: RtcStatus | None = None) -> int:
    """-1: nobody matched (the slow path only). 0: dropped, or the APIC is disabled. Else how many accepted.

    ``rtc`` notes who accepted.
    """
    done = kvm_irq_delivery_to_apic_fast(kvm, src, irq, rtc)
    if done is not None:
        return done
    if irq.dest_mode == 0 and irq.dest_id == 0xFF and kvm_lowest_prio_delivery(irq):
        kvm.dmesg.append("kvm: apic: phys broadcast and lowest prio")
        irq = replace(irq, delivery_mode=hw.APIC_DM_FIXED)
    matches = sw_enabled_matches(kvm, src, irq)
    if kvm_lowest_prio_delivery(irq) and matches:
        matches = [_lowest(kvm, irq.vector, matches)]
    if not matches:
        return -1
    return sum(kvm_apic_set_irq(vcpu, irq, rtc) for vcpu in matches)


def _lowest(kvm: Kvm, vector: int, matches: list[KvmVcpu]) -> KvmVcpu:
    """One of the matching, enabled vCPUs: by vector hashing, or the one that got the fewest so far."""
    if kvm.host.params["vector_hashing"]:
        return matches[kvm_vector_to_index(vector, (1 << len(matches)) - 1)]
    return min(matches, key=lambda vcpu: vcpu.apic.arb_prio)


@kernel(FILE)
def kvm_apic_set_irq(vcpu: KvmVcpu, irq: LapicIrq, rtc: RtcStatus | None = None) -> int:
    return __apic_accept_irq(vcpu.apic, irq.delivery_mode, irq.vector, irq.level, irq.trig_mode, rtc)


@kernel(FILE)
def __apic_accept_irq(
    apic: KvmLapic, delivery_mode: int, vector: int, level: bool, trig_mode: bool, rtc: RtcStatus | None = None
) -> int:
    """One APIC takes, or refuses, one message. Returns 1 if it took it, even if the IRR bit was set already."""
    vcpu = apic.vcpu
    trace(vcpu.kvm.host, KvmApicAcceptIrq, vcpu.vcpu_id, delivery_mode, int(trig_mode), vector)
    if delivery_mode in (hw.APIC_DM_FIXED, hw.APIC_DM_LOWEST):
        if delivery_mode == hw.APIC_DM_LOWEST:
            apic.arb_prio += 1
        if (trig_mode and not level) or not apic_enabled(apic):
            return 0
        if rtc is not None:
            rtc.vectors[vcpu.vcpu_id] = vector
        apic.tmr = apic.tmr | 1 << vector if trig_mode else apic.tmr & ~(1 << vector)
        if vcpu.kvm.host.has("deliver_interrupt_hook"):
            kvm_x86_ops.deliver_interrupt(apic, delivery_mode, int(trig_mode), vector)
        elif kvm_x86_ops.deliver_posted_interrupt(vcpu, vector):  # the vendor declined: AVIC is off
            kvm_lapic_set_irr(vector, apic)
            kvm_make_request(KVM_REQ_EVENT, vcpu)
            kvm_vcpu_kick(vcpu)
        return 1
    if delivery_mode == hw.APIC_DM_NMI:
        kvm_inject_nmi(vcpu)
        kvm_vcpu_kick(vcpu)
        return 1
    if delivery_mode == hw.APIC_DM_INIT:
        if trig_mode and not level:
            return 0
        apic.pending_init, apic.pending_sipi = True, False  # an INIT overwrites a waiting SIPI
        kvm_make_request(KVM_REQ_EVENT, vcpu)
        kvm_vcpu_kick(vcpu)
        return 1
    if delivery_mode == hw.APIC_DM_STARTUP:
        apic.sipi_vector, apic.pending_sipi = vector, True
        kvm_make_request(KVM_REQ_EVENT, vcpu)
        kvm_vcpu_kick(vcpu)
        return 1
    if delivery_mode == hw.APIC_DM_REMRD:
        if "no-unhalt" not in vcpu.kvm.broken:
            vcpu.pv_unhalted = True
            trace(vcpu.kvm.host, PvUnhalted, vcpu.vcpu_id, True)
        kvm_make_request(KVM_REQ_EVENT, vcpu)
        kvm_vcpu_kick(vcpu)
        return 1
    if delivery_mode == hw.APIC_DM_SMI and not kvm_inject_smi(vcpu):
        kvm_vcpu_kick(vcpu)
        return 1
    return 0  # ExtINT: no message brings one


@kernel("arch/x86/kvm/x86.c")
def kvm_inject_nmi(vcpu: KvmVcpu) -> None:
    vcpu.nmi_queued += 1
    kvm_make_request(KVM_REQ_NMI, vcpu)
