"""The IOAPIC: 24 pins, edge and level, and the EOI that lets a level interrupt come again. arch/x86/kvm/ioapic.c.

The RTC, pin 8, is special: KVM_IRQ_LINE_STATUS tells userspace while its last interrupt has no EOI.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from kvmmodel.events import IoapicEntry, IoapicLine, IoapicMessage, KvmIoapicDelayedEoiInj, KvmIoapicSetIrq
from kvmmodel.kvm.ack import (
    KVM_IRQCHIP_IOAPIC,
    kvm_notify_acked_irq,
)
from kvmmodel.kvm.apicv import kvm_apicv_activated
from kvmmodel.kvm.host_types import DelayedWork, trace
from kvmmodel.kvm.lapic.accept import RtcStatus, kvm_irq_delivery_to_apic
from kvmmodel.kvm.lapic.map import LapicIrq, kvm_apic_match_dest
from kvmmodel.kvm.lapic.registers import kvm_lapic_suppress_eoi_broadcast
from kvmmodel.kvm.names import kernel
from kvmmodel.kvm.types import Kvm, KvmVcpu
from kvmmodel.kvm.workqueue import schedule_delayed_work
from kvmmodel.silicon import apic as hw

FILE = "arch/x86/kvm/ioapic.c"
IOAPIC_NUM_PINS = 24
RTC_GSI = 8
IOAPIC_DEFAULT_BASE_ADDRESS = 0xFEC00000

IOAPIC_SUCCESSIVE_IRQ_MAX_COUNT, EOI_INJECT_DELAY = 10_000, 10_000_000  # EOIs; ns

RTE_DELIVERY_STATUS = 1 << 12
RTE_REMOTE_IRR = 1 << 14
RTE_LEVEL = 1 << 15
RTE_MASKED = 1 << 16


@dataclass(slots=True)
class KvmIoapic:
    """struct kvm_ioapic. ``redirtbl`` entries are 64-bit; ``irr`` and ``irr_delivered`` are bitmaps of pins.

    ``line_states``: for each pin the sources that assert it; ``irq_eoi``: EOIs in a row that found the line still up.
    """

    eoi_inject: DelayedWork
    base_address: int = IOAPIC_DEFAULT_BASE_ADDRESS
    pad: int = 0
    rtc_status: RtcStatus = field(default_factory=RtcStatus)
    irq_eoi: list[int] = field(default_factory=lambda: [0] * IOAPIC_NUM_PINS)
    redirtbl: list[int] = field(default_factory=lambda: [RTE_MASKED] * IOAPIC_NUM_PINS)
    irr: int = 0
    irr_delivered: int = 0
    ioregsel: int = 0
    id: int = 0
    line_states: list[set[int]] = field(default_factory=lambda: [set() for _ in range(IOAPIC_NUM_PINS)])


def is_level(entry: int) -> bool:
    return entry & RTE_LEVEL != 0


def decode(entry: int) -> LapicIrq:
    """The message that a redirection entry sends."""
    return LapicIrq(
        vector=entry & 0xFF,
        delivery_mode=entry & 0x700,
        dest_mode=hw.APIC_DEST_LOGICAL if entry >> 11 & 1 else 0,
        level=True,
        trig_mode=is_level(entry),
        shorthand=hw.APIC_DEST_NOSHORT,
        dest_id=entry >> 56 & 0xFF,
    )


@kernel(FILE)
def kvm_ioapic_init(kvm: Kvm) -> None:
    kvm.ioapic = KvmIoapic(DelayedWork(lambda: kvm_ioapic_eoi_inject_work(kvm)))


@kernel(FILE)
def kvm_ioapic_set_irq(
    kvm: Kvm, ioapic: KvmIoapic, pin: int, source: int, level: bool, line_status: bool = False
) -> int:
    """A source changes its level; the pin is the OR of its sources. Returns as ioapic_set_irq."""
    sources = ioapic.line_states[pin]
    if (source in sources) != level:
        (sources.add if level else sources.discard)(source)
        trace(kvm.host, IoapicLine, pin, tuple(sorted(sources)))
    return ioapic_set_irq(kvm, ioapic, pin, bool(sources), line_status)


@kernel(FILE)
def ioapic_set_irq(kvm: Kvm, ioapic: KvmIoapic, pin: int, level: bool, line_status: bool) -> int:
    """1: the line fell. 0: coalesced. -1: masked, or the last level interrupt has not ended. Else how many accepted."""
    entry, mask = ioapic.redirtbl[pin], 1 << pin
    if not level:
        ioapic.irr &= ~mask
        result = 1
    else:
        result = _raise(kvm, ioapic, pin, line_status)
    trace(kvm.host, KvmIoapicSetIrq, entry, pin, result == 0)
    return result


def _raise(kvm: Kvm, ioapic: KvmIoapic, pin: int, line_status: bool) -> int:
    entry, mask = ioapic.redirtbl[pin], 1 << pin
    if not is_level(entry) and kvm_apicv_activated(kvm):
        ioapic_lazy_update_eoi(kvm, ioapic, pin)
    if pin == RTC_GSI and line_status and ioapic.rtc_status.pending_eoi > 0:
        return 0
    again = ioapic.irr & mask
    ioapic.irr |= mask
    if not is_level(entry):
        ioapic.irr_delivered &= ~mask
    return 0 if again and not is_level(entry) else ioapic_service(kvm, ioapic, pin, line_status)


@kernel(FILE)
def ioapic_lazy_update_eoi(kvm: Kvm, ioapic: KvmIoapic, pin: int) -> None:
    """AVIC keeps the EOI of an edge to itself: look now whether the last one has been ended."""
    irq = decode(ioapic.redirtbl[pin])
    for vcpu in kvm.vcpus:
        meant = kvm_apic_match_dest(vcpu, None, irq.shorthand, irq.dest_id, irq.dest_mode)
        if meant and not (vcpu.apic.irr | vcpu.apic.isr) >> irq.vector & 1:
            rtc_irq_eoi(ioapic, vcpu, irq.vector)
            break


@kernel(FILE)
def ioapic_service(kvm: Kvm, ioapic: KvmIoapic, pin: int, line_status: bool = False) -> int:
    """Send the pin's message. Remote IRR is set unless the message was dropped, also if nobody matched (-1)."""
    entry = ioapic.redirtbl[pin]
    if entry & RTE_MASKED or (is_level(entry) and entry & RTE_REMOTE_IRR):
        return -1
    if not is_level(entry):
        ioapic.irr_delivered |= 1 << pin
    trace(kvm.host, IoapicMessage, pin, entry)
    if pin == RTC_GSI and line_status:
        result = kvm_irq_delivery_to_apic(kvm, None, decode(entry), ioapic.rtc_status)
        ioapic.rtc_status.pending_eoi = max(result, 0)
    else:
        result = kvm_irq_delivery_to_apic(kvm, None, decode(entry))
    if result and is_level(entry):
        change_entry(kvm, ioapic, pin, entry | RTE_REMOTE_IRR)
    return result


def change_entry(kvm: Kvm, ioapic: KvmIoapic, pin: int, entry: int) -> None:
    """Give a pin another entry, and tell, unless it is the same."""
    old, ioapic.redirtbl[pin] = ioapic.redirtbl[pin], entry
    if entry != old:
        trace(kvm.host, IoapicEntry, pin, entry, old)


@kernel(FILE)
def kvm_ioapic_update_eoi(vcpu: KvmVcpu, ioapic: KvmIoapic, vector: int, level: bool) -> None:
    """An EOI for ``vector``, level by the local APIC's TMR. Every pin with that vector is told."""
    rtc_irq_eoi(ioapic, vcpu, vector)
    for pin, entry in enumerate(ioapic.redirtbl):
        if entry & 0xFF == vector:
            kvm_ioapic_update_eoi_one(vcpu, ioapic, pin, level)


@kernel(FILE)
def kvm_ioapic_update_eoi_one(vcpu: KvmVcpu, ioapic: KvmIoapic, pin: int, level: bool) -> None:
    kvm_notify_acked_irq(vcpu.kvm, KVM_IRQCHIP_IOAPIC, pin)
    if not level or kvm_lapic_suppress_eoi_broadcast(vcpu.apic):
        return
    change_entry(vcpu.kvm, ioapic, pin, ioapic.redirtbl[pin] & ~RTE_REMOTE_IRR)
    if ioapic.redirtbl[pin] & RTE_MASKED or not ioapic.irr >> pin & 1:
        ioapic.irq_eoi[pin] = 0
        return
    ioapic.irq_eoi[pin] += 1
    if ioapic.irq_eoi[pin] < IOAPIC_SUCCESSIVE_IRQ_MAX_COUNT:
        ioapic_service(vcpu.kvm, ioapic, pin)
        return
    # A guest that does not quiet its device gets some time for other things, as on hardware, which is not so quick.
    ioapic.irq_eoi[pin] = 0
    schedule_delayed_work(vcpu.kvm.host, ioapic.eoi_inject, EOI_INJECT_DELAY)
    trace(vcpu.kvm.host, KvmIoapicDelayedEoiInj, ioapic.redirtbl[pin])


@kernel(FILE)
def kvm_ioapic_eoi_inject_work(kvm: Kvm) -> None:
    """Send for every level line that is up and has no interrupt on its way."""
    ioapic: KvmIoapic = kvm.ioapic
    for pin, entry in enumerate(ioapic.redirtbl):
        if is_level(entry) and ioapic.irr >> pin & 1 and not entry & RTE_REMOTE_IRR:
            ioapic_service(kvm, ioapic, pin)


@kernel(FILE)
def rtc_irq_eoi(ioapic: KvmIoapic, vcpu: KvmVcpu, vector: int) -> None:
    status = ioapic.rtc_status
    if status.vectors.get(vcpu.vcpu_id) == vector:
        del status.vectors[vcpu.vcpu_id]
        status.pending_eoi -= 1


@kernel(FILE)
def kvm_rtc_eoi_tracking_restore_one(vcpu: KvmVcpu) -> None:
    """Userspace loaded a local APIC: does it have the RTC's interrupt still to end?"""
    ioapic: KvmIoapic = vcpu.kvm.ioapic
    irq, status = decode(ioapic.redirtbl[RTC_GSI]), ioapic.rtc_status
    if not kvm_apic_match_dest(vcpu, None, irq.shorthand, irq.dest_id, irq.dest_mode):
        return
    pending = (vcpu.apic.irr | vcpu.apic.isr) >> irq.vector & 1 == 1
    if pending == (vcpu.vcpu_id in status.vectors):
        return
    if pending:
        status.vectors[vcpu.vcpu_id] = irq.vector
        status.pending_eoi += 1
    else:
        del status.vectors[vcpu.vcpu_id]
        status.pending_eoi -= 1
