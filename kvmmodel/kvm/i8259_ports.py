"""The 8259s' ports: commands, masks, initialization, polling, ELCR. The rest of arch/x86/kvm/i8259.c."""

from __future__ import annotations

from kvmmodel.kvm.ack import kvm_fire_mask_notifiers
from kvmmodel.kvm.i8259 import (
    CASCADE,
    FILE,
    NONE,
    SPURIOUS,
    KvmKpicState,
    KvmPic,
    get_priority,
    pic_clear_isr,
    pic_get_irq,
    pic_unlock,
    pic_update_irq,
)
from kvmmodel.kvm.lapic.registers import kvm_apic_accept_pic_intr
from kvmmodel.kvm.names import kernel
from kvmmodel.kvm.types import Kvm

PORTS = {0x20: 0, 0x21: 0, 0xA0: 1, 0xA1: 1}  # even: commands, odd: data
ELCR_PORTS = {0x4D0: 0, 0x4D1: 1}

ICW1, ICW1_IC4 = 0x10, 0x01
OCW3, OCW3_POLL, OCW3_SELECTS, OCW3_SETS_MASK_MODE = 0x08, 0x04, 0x02, 0x40
POLL_FOUND = 0x80


@kernel(FILE)
def kvm_pic_reset(kvm: Kvm, chip: int) -> None:
    """ICW1. Edges that waited are forgotten and count as acknowledged; what is in service stays in service."""
    s: KvmKpicState = kvm.pic.pics[chip]
    edges = s.irr & ~s.elcr
    s.last_irr, s.irr, s.imr = 0, s.irr & s.elcr, 0
    s.priority_add = s.special_mask = s.read_reg_select = 0
    if not s.init4:
        s.special_fully_nested_mode = s.auto_eoi = 0
    s.init_state = 1
    if any(kvm_apic_accept_pic_intr(vcpu) for vcpu in kvm.vcpus):
        for irq in range(8):
            if edges >> irq & 1:
                pic_clear_isr(kvm, chip, irq)


@kernel(FILE)
def pic_ioport_write(kvm: Kvm, chip: int, address: int, value: int) -> None:
    s: KvmKpicState = kvm.pic.pics[chip]
    if address & 1:
        _data(kvm, chip, value)
    elif value & ICW1:
        s.init4 = value & ICW1_IC4  # single mode and level mode, the other bits, are not supported
        kvm_pic_reset(kvm, chip)
    elif value & OCW3:
        if value & OCW3_POLL:
            s.poll = 1
        if value & OCW3_SELECTS:
            s.read_reg_select = value & 1
        if value & OCW3_SETS_MASK_MODE:
            s.special_mask = value >> 5 & 1
    else:
        _end_or_rotate(kvm, chip, value)


def _end_or_rotate(kvm: Kvm, chip: int, value: int) -> None:
    """OCW2. Bits 7:5: rotate, a specific line, end of interrupt."""
    s: KvmKpicState = kvm.pic.pics[chip]
    rotate, specific, end = value >> 7 & 1, value >> 6 & 1, value >> 5 & 1
    irq = value & 7
    if not end:
        if not specific:
            s.rotate_on_auto_eoi = rotate
        elif rotate:
            s.priority_add = irq + 1 & 7
            pic_update_irq(kvm)
        return
    if not specific:
        priority = get_priority(s, s.isr)
        if priority == NONE:
            return
        irq = priority + s.priority_add & 7
    if rotate:
        s.priority_add = irq + 1 & 7
    pic_clear_isr(kvm, chip, irq)
    pic_update_irq(kvm)


def _data(kvm: Kvm, chip: int, value: int) -> None:
    """The mask, or the next initialization word."""
    s: KvmKpicState = kvm.pic.pics[chip]
    if s.init_state == 0:
        changed, s.imr = s.imr ^ value, value
        for irq in range(8):
            if changed >> irq & 1:
                kvm_fire_mask_notifiers(kvm, chip, irq + 8 * chip, value >> irq & 1 == 1)
        pic_update_irq(kvm)
    elif s.init_state == 1:
        s.irq_base = value & 0xF8
        s.init_state = 2
    elif s.init_state == 2:  # how the chips are wired, which KVM knows
        s.init_state = 3 if s.init4 else 0
    elif s.init_state == 3:
        s.special_fully_nested_mode, s.auto_eoi = value >> 4 & 1, value >> 1 & 1
        s.init_state = 0


@kernel(FILE)
def pic_poll_read(kvm: Kvm, chip: int) -> int:
    """A poll: acknowledge and end of interrupt in one. Bit 7, not in old releases, says that there was one."""
    pic: KvmPic = kvm.pic
    irq = pic_get_irq(pic, chip)
    if irq < 0:
        pic_update_irq(kvm)
        return SPURIOUS
    if chip:
        pic.pics[0].isr &= ~(1 << CASCADE)
        pic.pics[0].irr &= ~(1 << CASCADE)
    pic.pics[chip].irr &= ~(1 << irq)
    pic_clear_isr(kvm, chip, irq)
    if chip or irq != CASCADE:
        pic_update_irq(kvm)
    return irq | POLL_FOUND if kvm.host.has("pic_poll_bit_7") else irq


@kernel(FILE)
def pic_ioport_read(kvm: Kvm, chip: int, address: int) -> int:
    s: KvmKpicState = kvm.pic.pics[chip]
    if s.poll:
        value = pic_poll_read(kvm, chip)
        s.poll = 0
        return value
    if address & 1:
        return s.imr
    return s.isr if s.read_reg_select else s.irr


@kernel(FILE)
def elcr_ioport_write(s: KvmKpicState, value: int) -> None:
    """Only some lines can be level-triggered; a line's request is not looked at again."""
    s.elcr = value & s.elcr_mask


@kernel(FILE)
def elcr_ioport_read(s: KvmKpicState) -> int:
    return s.elcr


def in_range(kvm: Kvm, address: int) -> bool:
    return kvm.pic is not None and (address in PORTS or address in ELCR_PORTS)


@kernel(FILE)
def picdev_write(kvm: Kvm, address: int, size: int, value: int) -> None:
    """Writes of more than a byte are dropped."""
    if size != 1:
        return
    if address in PORTS:
        pic_ioport_write(kvm, PORTS[address], address, value & 0xFF)
    else:
        elcr_ioport_write(kvm.pic.pics[ELCR_PORTS[address]], value & 0xFF)
    pic_unlock(kvm)


@kernel(FILE)
def picdev_read(kvm: Kvm, address: int, size: int) -> int:
    """Reads of more than a byte give 0."""
    if size != 1:
        return 0
    if address in PORTS:
        value = pic_ioport_read(kvm, PORTS[address], address)
    else:
        value = elcr_ioport_read(kvm.pic.pics[ELCR_PORTS[address]])
    pic_unlock(kvm)
    return value
