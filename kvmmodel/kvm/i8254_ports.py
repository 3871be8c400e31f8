"""The PIT's ports 0x40 to 0x43, and 0x61, the speaker's: counts, modes, latches. The rest of arch/x86/kvm/i8254.c."""

from __future__ import annotations

from kvmmodel.kvm.i8254 import (
    FILE,
    KVM_PIT_FLAGS_SPEAKER_DATA_ON,
    KVM_PIT_FREQ,
    NSEC_PER_SEC,
    KvmKpitChannelState,
    KvmPit,
    pit_load_count,
)
from kvmmodel.kvm.names import kernel
from kvmmodel.kvm.types import Kvm

KVM_PIT_BASE_ADDRESS, KVM_PIT_MEM_LENGTH, KVM_SPEAKER_BASE_ADDRESS = 0x40, 4, 0x61
RW_STATE_LSB, RW_STATE_MSB, RW_STATE_WORD0, RW_STATE_WORD1 = 1, 2, 3, 4
COMMAND = 3  # the port behind those of the three counters
READ_BACK, KEEP_COUNT, KEEP_STATUS = 3, 0x20, 0x10
U64 = (1 << 64) - 1


@kernel(FILE)
def kpit_elapsed(kvm: Kvm, channel: int) -> int:
    """ns since the count was loaded. Channel 0's by its timer, which goes on to count after a one-shot has expired."""
    pit: KvmPit = kvm.vpit
    now = kvm.host.current.now
    if channel:
        return now - pit.channels[channel].count_load_time
    return pit.period - (pit.expires - now) if pit.period else 0


def ticks(kvm: Kvm, channel: int) -> int:
    """The same in clocks of the PIT, as the kernel multiplies them: as an unsigned number."""
    return (kpit_elapsed(kvm, channel) & U64) * KVM_PIT_FREQ // NSEC_PER_SEC & U64


@kernel(FILE)
def pit_get_count(kvm: Kvm, channel: int) -> int:
    c: KvmKpitChannelState = kvm.vpit.channels[channel]
    d = ticks(kvm, channel)
    if c.mode in (0, 1, 4, 5):
        return c.count - d & 0xFFFF
    if c.mode == 3:
        return c.count - 2 * d % c.count
    return c.count - d % c.count


@kernel(FILE)
def pit_get_out(kvm: Kvm, channel: int) -> bool:
    c: KvmKpitChannelState = kvm.vpit.channels[channel]
    d = ticks(kvm, channel)
    if c.mode == 1:
        return d < c.count
    if c.mode == 2:
        return d % c.count == 0 and d != 0
    if c.mode == 3:
        return d % c.count < c.count + 1 >> 1
    if c.mode in (4, 5):
        return d == c.count
    return d >= c.count


@kernel(FILE)
def pit_latch_count(kvm: Kvm, channel: int) -> None:
    c: KvmKpitChannelState = kvm.vpit.channels[channel]
    if not c.count_latched:
        c.latched_count = pit_get_count(kvm, channel) & 0xFFFF
        c.count_latched = c.rw_mode


@kernel(FILE)
def pit_latch_status(kvm: Kvm, channel: int) -> None:
    c: KvmKpitChannelState = kvm.vpit.channels[channel]
    if not c.status_latched:
        c.status = (pit_get_out(kvm, channel) << 7 | c.rw_mode << 4 | c.mode << 1 | c.bcd) & 0xFF
        c.status_latched = 1


@kernel(FILE)
def pit_set_gate(kvm: Kvm, channel: int, value: int) -> None:
    """A rising gate restarts the counter in modes 1, 2, 3 and 5; in the others KVM does not stop it either."""
    c: KvmKpitChannelState = kvm.vpit.channels[channel]
    if c.mode in (1, 2, 3, 5) and c.gate < value:
        c.count_load_time = kvm.host.current.now
    c.gate = value


def pit_in_range(kvm: Kvm, address: int) -> bool:
    return kvm.vpit is not None and KVM_PIT_BASE_ADDRESS <= address < KVM_PIT_BASE_ADDRESS + KVM_PIT_MEM_LENGTH


@kernel(FILE)
def pit_ioport_write(kvm: Kvm, address: int, value: int) -> None:
    channel = address & 3
    if channel == COMMAND:
        _command(kvm, value & 0xFF)
        return
    c: KvmKpitChannelState = kvm.vpit.channels[channel]
    value &= 0xFF
    if c.write_state == RW_STATE_WORD0:
        c.write_latch, c.write_state = value, RW_STATE_WORD1
    elif c.write_state == RW_STATE_WORD1:
        c.write_state = RW_STATE_WORD0
        pit_load_count(kvm, channel, c.write_latch | value << 8)
    else:
        pit_load_count(kvm, channel, value << 8 if c.write_state == RW_STATE_MSB else value)


def _command(kvm: Kvm, value: int) -> None:
    """Read back several counters, latch the count of one, or say how one counts and is accessed."""
    chosen, access = value >> 6, value >> 4 & 3
    if chosen == READ_BACK:
        for channel in range(3):
            if value & 2 << channel:
                if not value & KEEP_COUNT:
                    pit_latch_count(kvm, channel)
                if not value & KEEP_STATUS:
                    pit_latch_status(kvm, channel)
    elif not access:
        pit_latch_count(kvm, chosen)
    else:
        c: KvmKpitChannelState = kvm.vpit.channels[chosen]
        c.rw_mode = c.read_state = c.write_state = access
        mode = value >> 1 & 7
        c.mode, c.bcd = mode - 4 if mode > 5 else mode, value & 1


@kernel(FILE)
def pit_ioport_read(kvm: Kvm, address: int) -> int:
    """A byte: a latched status first, then a latched count, else the count as it is. The command port reads as 0."""
    channel = address & 3
    if channel == COMMAND:
        return 0
    c: KvmKpitChannelState = kvm.vpit.channels[channel]
    if c.status_latched:
        c.status_latched = 0
        return c.status
    if c.count_latched:
        high = c.count_latched == RW_STATE_MSB
        c.count_latched = RW_STATE_MSB if c.count_latched == RW_STATE_WORD0 else 0
        return c.latched_count >> 8 if high else c.latched_count & 0xFF
    count, state = pit_get_count(kvm, channel), c.read_state
    if state in (RW_STATE_WORD0, RW_STATE_WORD1):
        c.read_state = RW_STATE_WORD1 if state == RW_STATE_WORD0 else RW_STATE_WORD0
    return (count >> 8 if state in (RW_STATE_MSB, RW_STATE_WORD1) else count) & 0xFF


def speaker_in_range(kvm: Kvm, address: int) -> bool:
    return kvm.vpit is not None and address == KVM_SPEAKER_BASE_ADDRESS


@kernel(FILE)
def speaker_ioport_write(kvm: Kvm, value: int) -> None:
    """Bit 0 is channel 2's gate, bit 1 the speaker."""
    pit: KvmPit = kvm.vpit
    on = KVM_PIT_FLAGS_SPEAKER_DATA_ON
    pit.flags = pit.flags | on if value & 2 else pit.flags & ~on
    pit_set_gate(kvm, 2, value & 1)


@kernel(FILE)
def speaker_ioport_read(kvm: Kvm) -> int:
    """Bit 4 is the refresh clock, which toggles every 2^14 ns here; bit 5 what channel 2 puts out."""
    pit: KvmPit = kvm.vpit
    on = pit.flags & KVM_PIT_FLAGS_SPEAKER_DATA_ON != 0
    refresh = kvm.host.current.now >> 14 & 1
    return on << 1 | pit.channels[2].gate | pit_get_out(kvm, 2) << 5 | refresh << 4
