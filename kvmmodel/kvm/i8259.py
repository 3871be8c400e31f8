"""The 8259 pair: two chips of eight lines, the secondary on line 2 of the primary. arch/x86/kvm/i8259.c.

Here is what a line does on its way to the output, and the acknowledge; i8259_ports.py has what a guest programs.
The lock is not modelled, only what its release does.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields

from kvmmodel.events import KvmPicSetIrq, PicAck, PicLine, PicOutput
from kvmmodel.kvm.ack import KVM_IRQCHIP_PIC_MASTER, KVM_IRQCHIP_PIC_SLAVE, kvm_notify_acked_irq
from kvmmodel.kvm.host_types import trace
from kvmmodel.kvm.kvm_main import kvm_vcpu_kick
from kvmmodel.kvm.lapic.registers import kvm_apic_accept_pic_intr
from kvmmodel.kvm.names import kernel
from kvmmodel.kvm.requests import KVM_REQ_EVENT, kvm_make_request
from kvmmodel.kvm.types import Kvm

FILE = "arch/x86/kvm/i8259.c"
PIC_NUM_PINS = 16
CASCADE = 2  # the primary's line that the secondary is on
SPURIOUS = 7
ELCR_MASKS = 0xF8, 0xDE  # not: the timer, the keyboard, the cascade; the clock, the FPU
NONE = 8  # what get_priority says of an empty mask


@dataclass(slots=True)
class KvmKpicState:
    """struct kvm_kpic_state: one chip. Each field is a byte; this is their order in KVM_GET_IRQCHIP, too.

    ``special_mask`` is kept and read by nothing: KVM has no special mask mode.
    """

    last_irr: int = 0  # lines as they were, to see edges
    irr: int = 0
    imr: int = 0
    isr: int = 0
    priority_add: int = 0  # the line of the highest priority
    irq_base: int = 0
    read_reg_select: int = 0  # reads of the command port: 0 IRR, 1 ISR
    poll: int = 0
    special_mask: int = 0
    init_state: int = 0  # which initialization word the data port takes next, 0: none, it is the IMR
    auto_eoi: int = 0
    rotate_on_auto_eoi: int = 0
    special_fully_nested_mode: int = 0
    init4: int = 0
    elcr: int = 0  # which lines are level-triggered
    elcr_mask: int = 0  # which of them a guest may make so


STATE = tuple(f.name for f in fields(KvmKpicState))


@dataclass(slots=True)
class KvmPic:
    """struct kvm_pic. ``irq_states``: for each of the 16 lines, the sources that assert it."""

    pics: list[KvmKpicState] = field(default_factory=lambda: [KvmKpicState(elcr_mask=mask) for mask in ELCR_MASKS])
    output: bool = False
    wakeup_needed: bool = False
    irq_states: list[set[int]] = field(default_factory=lambda: [set() for _ in range(PIC_NUM_PINS)])


@kernel(FILE)
def pic_unlock(kvm: Kvm) -> None:
    """If the output asked for it: an event pass for the first vCPU that takes the 8259's interrupts, and a kick."""
    pic: KvmPic = kvm.pic
    wakeup, pic.wakeup_needed = pic.wakeup_needed, False
    vcpu = next((v for v in kvm.vcpus if kvm_apic_accept_pic_intr(v)), None) if wakeup else None
    if vcpu is not None:
        kvm_make_request(KVM_REQ_EVENT, vcpu)
        kvm_vcpu_kick(vcpu)


@kernel(FILE)
def pic_clear_isr(kvm: Kvm, chip: int, irq: int) -> None:
    """A line's interrupt has ended. The lock is dropped meanwhile, as whoever waits for that may change lines."""
    kvm.pic.pics[chip].isr &= ~(1 << irq)
    pic_unlock(kvm)
    if chip:
        kvm_notify_acked_irq(kvm, KVM_IRQCHIP_PIC_SLAVE, irq + 8)
    else:
        kvm_notify_acked_irq(kvm, KVM_IRQCHIP_PIC_MASTER, irq)


@kernel(FILE)
def pic_set_irq1(s: KvmKpicState, irq: int, level: bool) -> int:
    """0: coalesced, its IRR bit was set already. -1: masked. Else 1. An edge stays in IRR when the line falls."""
    mask, result = 1 << irq, 1
    edge = not s.elcr & mask
    if not level:
        s.last_irr &= ~mask
        s.irr &= 0xFF if edge else ~mask
    else:
        if not edge or not s.last_irr & mask:
            result = 0 if s.irr & mask else 1
            s.irr |= mask
        s.last_irr |= mask
    return -1 if s.imr & mask else result


@kernel(FILE)
def get_priority(s: KvmKpicState, mask: int) -> int:
    """The best priority in a mask of lines: 0 is that of line priority_add, then they go round. 8: none."""
    return next((p for p in range(8) if mask >> (p + s.priority_add & 7) & 1), NONE)


@kernel(FILE)
def pic_get_irq(pic: KvmPic, chip: int) -> int:
    """The line that a chip wants served now, -1 for none: it must beat all that is in service."""
    s = pic.pics[chip]
    priority = get_priority(s, s.irr & ~s.imr)
    in_service = s.isr
    if s.special_fully_nested_mode and chip == 0:
        in_service &= ~(1 << CASCADE)  # so that a better line of the secondary gets through
    return priority + s.priority_add & 7 if priority < get_priority(s, in_service) else -1


@kernel(FILE)
def pic_update_irq(kvm: Kvm) -> None:
    """After anything that may change what the pair wants. The secondary gives its request as an edge."""
    pic: KvmPic = kvm.pic
    if pic_get_irq(pic, 1) >= 0:
        pic_set_irq1(pic.pics[0], CASCADE, True)
        pic_set_irq1(pic.pics[0], CASCADE, False)
    pic_irq_request(kvm, pic_get_irq(pic, 0) >= 0)


@kernel(FILE)
def pic_irq_request(kvm: Kvm, level: bool) -> None:
    """The output's new level. Older releases ask for a wake-up whenever it was low, risen or not."""
    pic: KvmPic = kvm.pic
    if not pic.output and (level or not kvm.host.has("pic_wakes_on_rise")):
        pic.wakeup_needed = True
    _set_output(kvm, level)


def _set_output(kvm: Kvm, level: bool) -> None:
    before, kvm.pic.output = kvm.pic.output, level
    if before != level:
        trace(kvm.host, PicOutput, level)


@kernel(FILE)
def kvm_pic_update_irq(kvm: Kvm) -> None:
    pic_update_irq(kvm)
    pic_unlock(kvm)


@kernel(FILE)
def kvm_pic_set_irq(kvm: Kvm, irq: int, source: int, level: bool) -> int:
    """A source changes its level; the line, 0 to 15, is the OR of its sources. Returns as pic_set_irq1."""
    pic: KvmPic = kvm.pic
    sources, (chip, pin) = pic.irq_states[irq], divmod(irq, 8)
    (sources.add if level else sources.discard)(source)
    result = pic_set_irq1(pic.pics[chip], pin, bool(sources))
    trace(kvm.host, PicLine, irq, tuple(sorted(sources)))
    pic_update_irq(kvm)
    trace(kvm.host, KvmPicSetIrq, chip, pin, pic.pics[chip].elcr, pic.pics[chip].imr, result == 0)
    pic_unlock(kvm)
    return result


@kernel(FILE)
def pic_intack(kvm: Kvm, chip: int, irq: int) -> None:
    """A line goes into service. A level stays in IRR, as its device still asserts it."""
    s: KvmKpicState = kvm.pic.pics[chip]
    s.isr |= 1 << irq
    if not s.elcr >> irq & 1:
        s.irr &= ~(1 << irq)
    if s.auto_eoi:
        if s.rotate_on_auto_eoi:
            s.priority_add = irq + 1 & 7
        pic_clear_isr(kvm, chip, irq)


@kernel(FILE)
def kvm_pic_read_irq(kvm: Kvm) -> int:
    """The acknowledge: the vector of what is served now. If the request has gone, the chip's line 7, not in service.

    The output falls before the lock is taken, so that a line may still change in between.
    """
    pic: KvmPic = kvm.pic
    _set_output(kvm, False)
    irq, chip = pic_get_irq(pic, 0), 0
    if irq >= 0:
        pic_intack(kvm, 0, irq)
    if irq == CASCADE:
        irq, chip = pic_get_irq(pic, 1), 1
        if irq >= 0:
            pic_intack(kvm, 1, irq)
    vector = pic.pics[chip].irq_base + (irq if irq >= 0 else SPURIOUS)
    trace(kvm.host, PicAck, vector, irq < 0)
    pic_update_irq(kvm)
    pic_unlock(kvm)
    return vector


def get_state(pic: KvmPic, chip: int) -> bytes:
    """struct kvm_pic_state."""
    return bytes(getattr(pic.pics[chip], name) for name in STATE)


def set_state(pic: KvmPic, chip: int, state: bytes) -> None:
    """Taken as it is: nothing is checked, elcr_mask included."""
    pic.pics[chip] = KvmKpicState(*state)
