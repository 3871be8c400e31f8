"""The IOAPIC: 24 pins, edge and level, and the EOI that lets a level interrupt come again. arch/x86/kvm/ioapic.c.

Not modelled: the RTC's interrupts, pin 8, as coalesced until the EOI; the delay after 10,000 EOIs of a line
that stays up; mask notifiers, which only the PIT uses.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from kvmmodel.events import IoapicEntry, IoapicLine, IoapicMessage, KvmIoapicSetIrq
from kvmmodel.kvm.ack import (
    KVM_IRQCHIP_IOAPIC,
    kvm_irq_has_notifier,
    kvm_notify_acked_irq,
    kvm_notify_irqfd_resampler,
)
from kvmmodel.kvm.kvm_main import kvm_make_scan_ioapic_request, kvm_make_scan_ioapic_request_mask
from kvmmodel.kvm.lapic.accept import kvm_irq_delivery_to_apic
from kvmmodel.kvm.lapic.map import LapicIrq, kvm_apic_match_dest, kvm_bitmap_or_dest_vcpus
from kvmmodel.kvm.names import kernel
from kvmmodel.kvm.types import Kvm, KvmVcpu, trace
from kvmmodel.silicon import apic as hw

FILE = "arch/x86/kvm/ioapic.c"
IOAPIC_NUM_PINS = 24
RTC_GSI = 8
IOAPIC_DEFAULT_BASE_ADDRESS = 0xFEC00000
IOAPIC_MEM_LENGTH = 0x100
IOAPIC_REG_SELECT, IOAPIC_REG_WINDOW = 0x00, 0x10
IOAPIC_REG_ID, IOAPIC_REG_VERSION, IOAPIC_REG_ARB_ID = 0x00, 0x01, 0x02
IOAPIC_VERSION = 0x11 | (IOAPIC_NUM_PINS - 1) << 16

RTE_DELIVERY_STATUS = 1 << 12
RTE_REMOTE_IRR = 1 << 14
RTE_LEVEL = 1 << 15
RTE_MASKED = 1 << 16


@dataclass(slots=True)
class KvmIoapic:
    """struct kvm_ioapic. ``redirtbl`` entries are 64-bit; ``irr`` and ``irr_delivered`` are bitmaps of pins.

    ``line_states``: for each pin the sources that assert it.
    """

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
def kvm_ioapic_set_irq(kvm: Kvm, ioapic: KvmIoapic, pin: int, source: int, level: bool) -> int:
    """A source changes its level; the pin is the OR of its sources. Returns as ioapic_set_irq."""
    sources = ioapic.line_states[pin]
    if (source in sources) != level:
        (sources.add if level else sources.discard)(source)
        trace(kvm.host, IoapicLine, pin, tuple(sorted(sources)))
    return ioapic_set_irq(kvm, ioapic, pin, bool(sources))


@kernel(FILE)
def ioapic_set_irq(kvm: Kvm, ioapic: KvmIoapic, pin: int, level: bool) -> int:
    """1: the line fell. 0: coalesced. -1: masked, or the last level interrupt has not ended. Else how many accepted."""
    entry, mask = ioapic.redirtbl[pin], 1 << pin
    if not level:
        ioapic.irr &= ~mask
        result = 1
    else:
        again = ioapic.irr & mask
        ioapic.irr |= mask
        if not is_level(entry):
            ioapic.irr_delivered &= ~mask
        result = 0 if again and not is_level(entry) else ioapic_service(kvm, ioapic, pin)
    trace(kvm.host, KvmIoapicSetIrq, entry, pin, result == 0)
    return result


@kernel(FILE)
def ioapic_service(kvm: Kvm, ioapic: KvmIoapic, pin: int) -> int:
    """Send the pin's message. Remote IRR is set unless the message was dropped, also if nobody matched (-1)."""
    entry = ioapic.redirtbl[pin]
    if entry & RTE_MASKED or (is_level(entry) and entry & RTE_REMOTE_IRR):
        return -1
    if not is_level(entry):
        ioapic.irr_delivered |= 1 << pin
    trace(kvm.host, IoapicMessage, pin, entry)
    result = kvm_irq_delivery_to_apic(kvm, None, decode(entry))
    if result and is_level(entry):
        _change(kvm, ioapic, pin, entry | RTE_REMOTE_IRR)
    return result


def _change(kvm: Kvm, ioapic: KvmIoapic, pin: int, entry: int) -> None:
    """Give a pin another entry, and tell, unless it is the same."""
    old, ioapic.redirtbl[pin] = ioapic.redirtbl[pin], entry
    if entry != old:
        trace(kvm.host, IoapicEntry, pin, entry, old)


@kernel(FILE)
def kvm_ioapic_update_eoi(vcpu: KvmVcpu, ioapic: KvmIoapic, vector: int, level: bool) -> None:
    """An EOI for ``vector``, level by the local APIC's TMR. Every pin with that vector is told."""
    for pin, entry in enumerate(ioapic.redirtbl):
        if entry & 0xFF == vector:
            kvm_ioapic_update_eoi_one(vcpu, ioapic, pin, level)


@kernel(FILE)
def kvm_ioapic_update_eoi_one(vcpu: KvmVcpu, ioapic: KvmIoapic, pin: int, level: bool) -> None:
    kvm_notify_acked_irq(vcpu.kvm, KVM_IRQCHIP_IOAPIC, pin)
    if not level or vcpu.apic.regs.get(hw.APIC_SPIV, 0) & hw.APIC_SPIV_DIRECTED_EOI:
        return
    _change(vcpu.kvm, ioapic, pin, ioapic.redirtbl[pin] & ~RTE_REMOTE_IRR)
    if not ioapic.redirtbl[pin] & RTE_MASKED and ioapic.irr >> pin & 1:
        ioapic_service(vcpu.kvm, ioapic, pin)


@kernel("arch/x86/kvm/x86.c")
def vcpu_scan_ioapic(vcpu: KvmVcpu) -> None:
    """Refresh what this vCPU's EOIs mean to the IOAPIC. Only on the way into the guest."""
    if vcpu.apic.apic_base & hw.MSR_IA32_APICBASE_ENABLE and vcpu.kvm.ioapic is not None:
        vcpu.highest_stale_pending_ioapic_eoi = -1
        vcpu.ioapic_handled_vectors = frozenset(kvm_ioapic_scan_entry(vcpu, vcpu.kvm.ioapic))


@kernel(FILE)
def kvm_ioapic_scan_entry(vcpu: KvmVcpu, ioapic: KvmIoapic) -> set[int]:
    """The vectors whose EOI on this vCPU the IOAPIC has to hear of: level pins, those waited for, the RTC."""
    pending = vcpu.apic.irr | vcpu.apic.isr
    found = set()
    for pin, entry in enumerate(ioapic.redirtbl):
        waited_for = pin == RTC_GSI or kvm_irq_has_notifier(vcpu.kvm, KVM_IRQCHIP_IOAPIC, pin)
        if not is_level(entry) and not waited_for:
            continue
        irq = decode(entry)
        meant = kvm_apic_match_dest(vcpu, None, irq.shorthand, irq.dest_id, irq.dest_mode)
        if meant or pending >> irq.vector & 1:
            found.add(irq.vector)
        if not meant and pending >> irq.vector & 1:
            vcpu.highest_stale_pending_ioapic_eoi = max(vcpu.highest_stale_pending_ioapic_eoi, irq.vector)
    return found


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
    _change(kvm, ioapic, pin, new)
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
def kvm_get_ioapic(ioapic: KvmIoapic) -> tuple[int, tuple[int, ...]]:
    """KVM_GET_IRQCHIP: pending lines without the edges that were delivered, and the entries."""
    return ioapic.irr & ~ioapic.irr_delivered, tuple(ioapic.redirtbl)


@kernel(FILE)
def kvm_set_ioapic(kvm: Kvm, ioapic: KvmIoapic, irr: int, redirtbl: tuple[int, ...]) -> None:
    """KVM_SET_IRQCHIP: load the entries, then raise the lines that were pending."""
    for pin, entry in enumerate(redirtbl):
        _change(kvm, ioapic, pin, entry)
    ioapic.irr = ioapic.irr_delivered = 0
    kvm_make_scan_ioapic_request(kvm)
    for pin in range(IOAPIC_NUM_PINS):
        if irr >> pin & 1:
            ioapic_set_irq(kvm, ioapic, pin, True)
