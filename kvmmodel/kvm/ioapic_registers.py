"""The IOAPIC's registers, behind IOREGSEL and IOWIN, and its state for userspace. The rest of arch/x86/kvm/ioapic.c."""

from __future__ import annotations

import struct
from dataclasses import replace

from kvmmodel.kvm.ack import (
    KVM_IRQCHIP_IOAPIC,
    kvm_fire_mask_notifiers,
    kvm_notify_irqfd_resampler,
)
from kvmmodel.kvm.ioapic import (
    FILE,
    IOAPIC_DEFAULT_BASE_ADDRESS,
    IOAPIC_NUM_PINS,
    RTE_DELIVERY_STATUS,
    RTE_MASKED,
    RTE_REMOTE_IRR,
    KvmIoapic,
    change_entry,
    decode,
    ioapic_service,
    ioapic_set_irq,
    is_level,
    kvm_rtc_eoi_tracking_restore_one,
)
from kvmmodel.kvm.kvm_main import kvm_make_scan_ioapic_request, kvm_make_scan_ioapic_request_mask
from kvmmodel.kvm.lapic.accept import RtcStatus
from kvmmodel.kvm.lapic.map import LapicIrq, kvm_bitmap_or_dest_vcpus
from kvmmodel.kvm.names import kernel
from kvmmodel.kvm.types import Kvm
from kvmmodel.silicon import apic as hw

IOAPIC_MEM_LENGTH = 0x100
IOAPIC_REG_SELECT, IOAPIC_REG_WINDOW = 0x00, 0x10
IOAPIC_REG_ID, IOAPIC_REG_VERSION, IOAPIC_REG_ARB_ID = 0x00, 0x01, 0x02
IOAPIC_VERSION = 0x11 | (IOAPIC_NUM_PINS - 1) << 16
IOAPIC_STATE = "<QIIII24Q"  # struct kvm_ioapic_state: base, ioregsel, id, irr, padding, entries
IOAPIC_STATE_SIZE = struct.calcsize(IOAPIC_STATE)


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
    change_entry(kvm, ioapic, pin, new)
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
    for pin, entry in enumerate(redirtbl):
        change_entry(kvm, ioapic, pin, entry)
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
