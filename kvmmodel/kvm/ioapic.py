"""The IOAPIC: 24 pins, edge and level, and the EOI that lets a level interrupt come again. arch/x86/kvm/ioapic.c.

The RTC, pin 8, is special: KVM_IRQ_LINE_STATUS tells userspace while its last interrupt has no EOI.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field, replace

from kvmmodel.events import IoapicMessage, KvmIoapicDelayedEoiInj, KvmIoapicSetIrq
from kvmmodel.kvm.ack import (
    KVM_IRQCHIP_IOAPIC,
    kvm_fire_mask_notifiers,
    kvm_notify_acked_irq,
    kvm_notify_irqfd_resampler,
)
from kvmmodel.kvm.kvm_main import kvm_make_scan_ioapic_request, kvm_make_scan_ioapic_request_mask
from kvmmodel.kvm.lapic.accept import RtcStatus, kvm_irq_delivery_to_apic
from kvmmodel.kvm.lapic.map import LapicIrq, kvm_apic_match_dest, kvm_bitmap_or_dest_vcpus
from kvmmodel.kvm.lapic.registers import kvm_lapic_suppress_eoi_broadcast
from kvmmodel.kvm.names import kernel
from kvmmodel.kvm.types import DelayedWork, Kvm, KvmVcpu, trace
from kvmmodel.kvm.workqueue import schedule_delayed_work
from kvmmodel.silicon import apic as hw

FILE = "arch/x86/kvm/ioapic.c"
IOAPIC_NUM_PINS = 24
RTC_GSI = 8
IOAPIC_DEFAULT_BASE_ADDRESS = 0xFEC00000
IOAPIC_MEM_LENGTH = 0x100
IOAPIC_REG_SELECT, IOAPIC_REG_WINDOW = 0x00, 0x10
IOAPIC_REG_ID, IOAPIC_REG_VERSION, IOAPIC_REG_ARB_ID = 0x00, 0x01, 0x02
IOAPIC_VERSION = 0x11 | (IOAPIC_NUM_PINS - 1) << 16

IOAPIC_STATE = "<QIIII24Q"  # struct kvm_ioapic_state: base, ioregsel, id, irr, padding, entries
IOAPIC_STATE_SIZE = struct.calcsize(IOAPIC_STATE)
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
    (sources.add if level else sources.discard)(source)
    return ioapic_set_irq(kvm, ioapic, pin, bool(sources), line_status)


@kernel(FILE)
def ioapic_set_irq(kvm: Kvm, ioapic: KvmIoapic, pin: int, level: bool, line_status: bool) -> int:
    """1: the line fell. 0: coalesced. -1: masked, or the last level interrupt has not ended. Else how many accepted."""
    entry, mask = ioapic.redirtbl[pin], 1 << pin
    if not level:
        ioapic.irr &= ~mask
        result = 1
    elif pin == RTC_GSI and line_status and ioapic.rtc_status.pending_eoi > 0:
        result = 0
    else:
        again = ioapic.irr & mask
        ioapic.irr |= mask
        if not is_level(entry):
            ioapic.irr_delivered &= ~mask
        result = 0 if again and not is_level(entry) else ioapic_service(kvm, ioapic, pin, line_status)
    trace(kvm.host, KvmIoapicSetIrq, entry, pin, result == 0)
    return result


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
        ioapic.redirtbl[pin] |= RTE_REMOTE_IRR
    return result


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
    ioapic.redirtbl[pin] &= ~RTE_REMOTE_IRR
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


def ioapic_in_range(ioapic: KvmIoapic | None, address: int) -> bool:
    base = IOAPIC_DEFAULT_BASE_ADDRESS
    return ioapic is not None and base <= address < base + IOAPIC_MEM_LENGTH


@kernel(FILE)
def ioapic_mmio_write(kvm: Kvm, ioapic: KvmIoapic, address: int, value: int) -> None:
    offset = address & 0xFF
    if offset == IOAPIC_REG_SELECT:
        ioapic.ioregsel = value & 0xFF
    elif offset == IOAPIC_REG_WINDOW:
        ioapic_write_indirect(kvm, ioapic, value & 0xFFFFFFFF)


@kernel(FILE)
def ioapic_mmio_read(ioapic: KvmIoapic, address: int) -> int:
    offset = address & 0xFF
    if offset == IOAPIC_REG_SELECT:
        return ioapic.ioregsel
    return ioapic_read_indirect(ioapic) if offset == IOAPIC_REG_WINDOW else 0


@kernel(FILE)
def ioapic_read_indirect(ioapic: KvmIoapic) -> int:
    """The register that IOREGSEL names. Beyond the last entry: all ones."""
    if ioapic.ioregsel == IOAPIC_REG_VERSION:
        return IOAPIC_VERSION
    if ioapic.ioregsel in (IOAPIC_REG_ID, IOAPIC_REG_ARB_ID):
        return (ioapic.id & 0xF) << 24
    pin, high = divmod(ioapic.ioregsel - 0x10, 2)
    entry = ioapic.redirtbl[pin] if 0 <= pin < IOAPIC_NUM_PINS else (1 << 64) - 1
    return entry >> 32 * high & 0xFFFFFFFF


@kernel(FILE)
def ioapic_write_indirect(kvm: Kvm, ioapic: KvmIoapic, value: int) -> None:
    """Write half of an entry. Read-only bits stay; writing it as edge clears remote IRR."""
    if ioapic.ioregsel == IOAPIC_REG_ID:
        ioapic.id = value >> 24 & 0xF
        return
    pin, high = divmod(ioapic.ioregsel - 0x10, 2)
    if not 0 <= pin < IOAPIC_NUM_PINS:
        return
    old = ioapic.redirtbl[pin]
    new = old & 0xFFFFFFFF | value << 32 if high else old & ~0xFFFFFFFF | value
    kept = RTE_REMOTE_IRR | RTE_DELIVERY_STATUS
    new = new & ~kept | old & kept
    if not is_level(new):
        new &= ~RTE_REMOTE_IRR
    ioapic.redirtbl[pin] = new
    if (old ^ new) & RTE_MASKED:
        kvm_fire_mask_notifiers(kvm, KVM_IRQCHIP_IOAPIC, pin, new & RTE_MASKED != 0)
    if is_level(new) and ioapic.irr >> pin & 1 and not new & (RTE_MASKED | RTE_REMOTE_IRR):
        if kvm.host.has("unmask_resamples") and kvm_notify_irqfd_resampler(kvm, KVM_IRQCHIP_IOAPIC, pin):
            ioapic.irr &= ~(1 << pin)  # the line may be down meanwhile; its owner raises it again if not
        else:
            ioapic_service(kvm, ioapic, pin)
    _ask_for_scans(kvm, decode(old), decode(new))


def _ask_for_scans(kvm: Kvm, old: LapicIrq, new: LapicIrq) -> None:
    """Of the vCPUs that a fixed entry meant or means; the old destination is read in the new mode. Else of all."""
    if new.delivery_mode != hw.APIC_DM_FIXED:
        kvm_make_scan_ioapic_request(kvm)
        return
    before = replace(new, dest_id=old.dest_id)
    moved = (old.dest_id, old.dest_mode) != (new.dest_id, new.dest_mode)
    meant = kvm_bitmap_or_dest_vcpus(kvm, new) + (kvm_bitmap_or_dest_vcpus(kvm, before) if moved else [])
    kvm_make_scan_ioapic_request_mask(kvm, [vcpu for vcpu in kvm.vcpus if any(vcpu is m for m in meant)])


@kernel(FILE)
def kvm_get_ioapic(ioapic: KvmIoapic) -> bytes:
    """KVM_GET_IRQCHIP, struct kvm_ioapic_state. Pending lines without the edges that were delivered."""
    lines = ioapic.irr & ~ioapic.irr_delivered
    return struct.pack(
        IOAPIC_STATE, ioapic.base_address, ioapic.ioregsel, ioapic.id, lines, ioapic.pad, *ioapic.redirtbl
    )


def entries_of(state: bytes) -> tuple[int, ...]:
    """The 24 redirection entries of a struct kvm_ioapic_state."""
    return struct.unpack(IOAPIC_STATE, state)[5:]


def lines_of(state: bytes) -> int:
    """Its pending lines, a bitmap."""
    lines: int = struct.unpack(IOAPIC_STATE, state)[3]
    return lines


def with_entry(state: bytes, pin: int, entry: int, lines: int | None = None) -> bytes:
    """The same state with another entry, and other pending lines if they are given."""
    fields = list(struct.unpack(IOAPIC_STATE, state))
    fields[5 + pin] = entry
    fields[3] = fields[3] if lines is None else lines
    return struct.pack(IOAPIC_STATE, *fields)


@kernel(FILE)
def kvm_set_ioapic(kvm: Kvm, ioapic: KvmIoapic, state: bytes) -> None:
    """KVM_SET_IRQCHIP: taken as it is; then the lines that were pending are raised."""
    ioapic.base_address, ioapic.ioregsel, ioapic.id, irr, ioapic.pad, *redirtbl = struct.unpack(IOAPIC_STATE, state)
    ioapic.redirtbl = list(redirtbl)
    ioapic.irr = ioapic.irr_delivered = 0
    kvm_make_scan_ioapic_request(kvm)
    kvm_ioapic_inject_all(kvm, ioapic, irr)


@kernel(FILE)
def kvm_ioapic_inject_all(kvm: Kvm, ioapic: KvmIoapic, irr: int) -> None:
    ioapic.rtc_status = RtcStatus()
    for pin in range(IOAPIC_NUM_PINS):
        if irr >> pin & 1:
            ioapic_set_irq(kvm, ioapic, pin, True, True)
    ioapic.rtc_status = RtcStatus()
    for vcpu in kvm.vcpus:
        kvm_rtc_eoi_tracking_restore_one(vcpu)
