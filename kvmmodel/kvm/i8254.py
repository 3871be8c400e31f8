"""The PIT: three counters, of which the first raises GSI 0. arch/x86/kvm/i8254.c; its ports are in i8254_ports.py.

With reinjection (how KVM creates it) a tick that the guest has not acknowledged yet is counted, and sent when it has.
Not supported: BCD counting, which KVM keeps as a bit and does not do; moving the timer along with vCPU 0.
Read in 6.12.117 and 7.3.4, compared with 6.18.44 through /dev/kvm; that 5.10 and 5.15 do the same is recalled.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass, field

from kvmmodel.events import PitTick, PitWaits
from kvmmodel.kvm.ack import (
    kvm_register_irq_ack_notifier,
    kvm_register_irq_mask_notifier,
    kvm_unregister_irq_ack_notifier,
    kvm_unregister_irq_mask_notifier,
)
from kvmmodel.kvm.apicv import kvm_clear_apicv_inhibit, kvm_set_apicv_inhibit
from kvmmodel.kvm.host_types import DelayedWork, Hrtimer, trace
from kvmmodel.kvm.irqchip import kvm_set_irq
from kvmmodel.kvm.lapic.timer import kvm_apic_local_deliver
from kvmmodel.kvm.names import kernel
from kvmmodel.kvm.types import Kvm, KvmVcpu
from kvmmodel.kvm.workqueue import kthread_queue_work
from kvmmodel.silicon import apic as hw

FILE = "arch/x86/kvm/i8254.c"
KVM_PIT_FREQ = 1193181
NSEC_PER_SEC = 1_000_000_000
PIT_GSI = 0
KVM_PIT_IRQ_SOURCE_ID = 2
KVM_PIT_FLAGS_HPET_LEGACY, KVM_PIT_FLAGS_SPEAKER_DATA_ON = 1, 2
NO_MODE = 0xFF  # after reset, and while a HPET stands in for the PIT
ONE_SHOT, PERIODIC = (0, 1, 4), (2, 3)
CHANNEL = "<IH10Bq"  # struct kvm_pit_channel_state, in the order of KvmKpitChannelState
STATE2_SIZE = 3 * struct.calcsize(CHANNEL) + 4 + 9 * 4  # struct kvm_pit_state2: three channels, flags, reserved
RANK = 1 << 20  # among timers that expire together: after the vCPUs'


@dataclass(slots=True)
class KvmKpitChannelState:
    """struct kvm_kpit_channel_state: a counter. ``count_load_time`` in ns, not used for channel 0."""

    count: int = 0
    latched_count: int = 0
    count_latched: int = 0  # 0: no count is latched; else how it is read, as rw_mode
    status_latched: int = 0
    status: int = 0
    read_state: int = 0
    write_state: int = 0
    write_latch: int = 0
    rw_mode: int = 0  # 1 low byte, 2 high byte, 3 both
    mode: int = 0
    bcd: int = 0
    gate: int = 0
    count_load_time: int = 0


@dataclass(slots=True)
class KvmPit:
    """struct kvm_pit. ``expires``: when channel 0's timer last expired or expires next; ``pending``: ticks owed."""

    timer: Hrtimer
    expired: DelayedWork
    irq_ack_notifier: Callable[[], None]
    mask_notifier: Callable[[bool], None]
    channels: list[KvmKpitChannelState] = field(default_factory=lambda: [KvmKpitChannelState() for _ in range(3)])
    flags: int = 0
    period: int = 0
    is_periodic: bool = False
    expires: int = 0
    reinject: bool = False
    pending: int = 0
    irq_ack: bool = True


@kernel(FILE)
def kvm_create_pit(kvm: Kvm, cpu: int) -> None:
    """KVM_CREATE_PIT2. Its kernel thread runs on physical CPU ``cpu``."""
    host = kvm.host
    timer = Hrtimer(host.current.id, lambda: pit_timer_fn(kvm), RANK)
    host.timers.append(timer)
    work = DelayedWork(lambda: pit_do_work(kvm), cpu=cpu, worker="kvm-pit")
    kvm.vpit = KvmPit(timer, work, lambda: kvm_pit_ack_irq(kvm), lambda masked: pit_mask_notifier(kvm, masked))
    kvm_pit_reset(kvm)
    kvm_pit_set_reinject(kvm, True)


@kernel(FILE)
def kvm_pit_reset(kvm: Kvm) -> None:
    pit: KvmPit = kvm.vpit
    pit.flags = 0
    for channel, c in enumerate(pit.channels):
        c.mode, c.gate = NO_MODE, int(channel != 2)
        pit_load_count(kvm, channel, 0)
    kvm_pit_reset_reinject(pit)


def kvm_pit_reset_reinject(pit: KvmPit) -> None:
    pit.pending, pit.irq_ack = 0, True


@kernel(FILE)
def kvm_pit_set_reinject(kvm: Kvm, reinject: bool) -> None:
    """KVM_REINJECT_CONTROL. Reinjection has to hear of the acknowledge, which AVIC would keep from KVM."""
    pit: KvmPit = kvm.vpit
    if pit.reinject == reinject:
        return
    if reinject:
        kvm_set_apicv_inhibit(kvm, "PIT_REINJ")
        kvm_pit_reset_reinject(pit)
        kvm_register_irq_ack_notifier(kvm, PIT_GSI, pit.irq_ack_notifier)
        kvm_register_irq_mask_notifier(kvm, PIT_GSI, pit.mask_notifier)
    else:
        kvm_clear_apicv_inhibit(kvm, "PIT_REINJ")
        kvm_unregister_irq_ack_notifier(kvm, PIT_GSI, pit.irq_ack_notifier)
        kvm_unregister_irq_mask_notifier(kvm, PIT_GSI, pit.mask_notifier)
    pit.reinject = reinject


@kernel(FILE)
def pit_timer_fn(kvm: Kvm) -> None:
    """The hrtimer callback: count the tick, and leave the line to the kernel thread."""
    pit: KvmPit = kvm.vpit
    pit.pending += pit.reinject
    trace(kvm.host, PitTick, pit.pending)
    kthread_queue_work(kvm.host, pit.expired)
    if pit.is_periodic:
        pit.expires += pit.period
    pit.timer.expires = pit.expires if pit.is_periodic else None


@kernel(FILE)
def pit_do_work(kvm: Kvm) -> None:
    """Pulse GSI 0, unless the last tick is not acknowledged yet. Where LINT0 is set to NMI, it is a watchdog's NMI."""
    pit: KvmPit = kvm.vpit
    if pit.reinject:
        acknowledged, pit.irq_ack = pit.irq_ack, False
        if not acknowledged:
            trace(kvm.host, PitWaits, pit.pending)
            return
    kvm_set_irq(kvm, KVM_PIT_IRQ_SOURCE_ID, PIT_GSI, True)
    kvm_set_irq(kvm, KVM_PIT_IRQ_SOURCE_ID, PIT_GSI, False)
    if any(_lvt0_in_nmi_mode(vcpu) for vcpu in kvm.vcpus):
        for vcpu in kvm.vcpus:
            kvm_apic_nmi_wd_deliver(vcpu)


def _lvt0_in_nmi_mode(vcpu: KvmVcpu) -> bool:
    return vcpu.apic.regs.get(hw.APIC_LVT0, 0) & (hw.APIC_MODE_MASK | hw.APIC_LVT_MASKED) == hw.APIC_DM_NMI


@kernel("arch/x86/kvm/lapic.c")
def kvm_apic_nmi_wd_deliver(vcpu: KvmVcpu) -> None:
    """LVT0 as it is, not only where it says NMI."""
    kvm_apic_local_deliver(vcpu.apic, hw.APIC_LVT0)


@kernel(FILE)
def kvm_pit_ack_irq(kvm: Kvm) -> None:
    """GSI 0 is acknowledged, by an EOI or by the 8259: the next tick that is owed may go."""
    if "no-pit-ack" in kvm.broken:
        return
    pit: KvmPit = kvm.vpit
    pit.irq_ack = True
    pit.pending = max(pit.pending - 1, 0)
    if pit.pending:
        kthread_queue_work(kvm.host, pit.expired)


@kernel(FILE, was={"5.10": "pit_mask_notifer", "7.2": "pit_mask_notifier"})
def pit_mask_notifier(kvm: Kvm, masked: bool) -> None:
    """The guest opens the pin: what was owed while it was masked is forgotten."""
    if not masked:
        kvm_pit_reset_reinject(kvm.vpit)


@kernel(FILE)
def pit_load_count(kvm: Kvm, channel: int, value: int) -> None:
    """A new count, 0 for 65536. Channel 0 starts, or without a mode stops, its timer; the others note the time."""
    pit: KvmPit = kvm.vpit
    c = pit.channels[channel]
    c.count = value or 0x10000
    if channel:
        c.count_load_time = kvm.host.current.now
    elif c.mode in ONE_SHOT or c.mode in PERIODIC:
        create_pit_timer(kvm, c.count, c.mode in PERIODIC)
    else:
        destroy_pit_timer(kvm)


@kernel(FILE)
def create_pit_timer(kvm: Kvm, value: int, periodic: bool) -> None:
    pit: KvmPit = kvm.vpit
    if kvm.ioapic is None or pit.flags & KVM_PIT_FLAGS_HPET_LEGACY:
        return
    interval = value * NSEC_PER_SEC // KVM_PIT_FREQ
    destroy_pit_timer(kvm)
    pit.period, pit.is_periodic = interval, periodic
    kvm_pit_reset_reinject(pit)
    if periodic:
        pit.period = max(interval, kvm.host.params["min_timer_period_us"] * 1000)
    pit.timer.cpu = kvm.host.current.id
    pit.expires = pit.timer.expires = kvm.host.current.now + interval


def destroy_pit_timer(kvm: Kvm) -> None:
    """Also waits for the kernel thread to be done."""
    pit: KvmPit = kvm.vpit
    pit.timer.expires = None
    if pit.expired.due is not None:
        kvm.host.delayed.remove(pit.expired)
        pit.expired.due = None
        pit.expired.fn()


@kernel(FILE)
def kvm_vm_ioctl_get_pit2(kvm: Kvm) -> bytes:
    """struct kvm_pit_state2."""
    pit: KvmPit = kvm.vpit
    channels = [struct.pack(CHANNEL, *(getattr(c, name) for name in c.__slots__)) for c in pit.channels]
    return b"".join(channels) + struct.pack("<I", pit.flags) + bytes(9 * 4)


@kernel(FILE)
def kvm_vm_ioctl_set_pit2(kvm: Kvm, state: bytes) -> None:
    """Taken as it is, and every channel loaded anew. Where HPET mode begins, channel 0's timer stops."""
    pit: KvmPit = kvm.vpit
    size = struct.calcsize(CHANNEL)
    (flags,) = struct.unpack_from("<I", state, 3 * size)
    begins = flags & ~pit.flags & KVM_PIT_FLAGS_HPET_LEGACY
    pit.channels = [KvmKpitChannelState(*struct.unpack_from(CHANNEL, state, i * size)) for i in range(3)]
    pit.flags = flags
    for channel, c in enumerate(pit.channels):
        mode = c.mode
        if begins and channel == 0:
            c.mode = NO_MODE
        pit_load_count(kvm, channel, c.count)
        c.mode = mode
