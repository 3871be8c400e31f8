"""The PIT: what its ports do, its ticks, and how reinjection makes up for those that the guest did not take in time.

source: arch/x86/kvm/i8254.c, 6.12.117 and 7.3.4; tests/oracle compares it with a running kernel.
"""

import struct
from dataclasses import fields
from itertools import pairwise

import pytest

from kvmmodel.events import KvmSetIrq, PitTick, PitWaits
from kvmmodel.kvm.i8254 import CHANNEL, KVM_PIT_FREQ, KvmKpitChannelState
from tests.machines import events, vm

MS = 1_000_000
RATE = 0x34  # command: channel 0, both bytes, mode 2
COUNT = 5966  # 5 ms
FIELDS = [f.name for f in fields(KvmKpitChannelState)]


def pit(made, channel=0):
    values = struct.unpack_from(CHANNEL, made.get_pit2(), channel * struct.calcsize(CHANNEL))
    return dict(zip(FIELDS, values, strict=True))


def out(made, *pairs):
    for port, value in pairs:
        made.vcpus[0].guest.outb(port, value)


def init_pics(made, icw4=1):
    """Vectors 0x20 and 0x28, everything masked but line 0."""
    for base, vector, wiring in ((0x20, 0x20, 4), (0xA0, 0x28, 2)):
        out(made, (base, 0x11), (base + 1, vector), (base + 1, wiring), (base + 1, icw4))
    out(made, (0x21, 0xFE), (0xA1, 0xFF))


def program(made, count=COUNT, command=RATE):
    out(made, (0x43, command), (0x40, count & 0xFF), (0x40, count >> 8))


def with_pit(how="reinject", kernel="6.12", **options):
    made = vm(1, kernel, pit=how, **options)
    made.world.idt[0] = {}
    return made


def ticks(made):
    return len(events(made, PitTick))


def wait(made, number):
    """Until so many ticks have come and the kernel thread has done what it can."""
    work = made.machine.kvm.vpit.expired
    assert made.run(until=lambda: ticks(made) >= number and work.due is None)
    made.run(until=lambda: made.machine.host.cpus[-1].current is None)


def pulses(made):
    return len([e for e in events(made, KvmSetIrq) if e.gsi == 0 and e.level])


def test_after_reset_nothing_runs():
    """No mode, the largest count; channel 2's gate is the speaker port's."""
    made = with_pit()
    state = [pit(made, channel) for channel in range(3)]
    assert [(s["count"], s["mode"], s["gate"]) for s in state] == [(65536, 0xFF, 1), (65536, 0xFF, 1), (65536, 0xFF, 0)]
    made.run(limit_ns=200 * MS)
    assert ticks(made) == 0


def test_a_periodic_count_ticks_at_its_rate():
    made = with_pit("discard")
    program(made)
    wait(made, 10)
    times = [r.t for r in made.trace.records if isinstance(r.event, PitTick)]
    assert {b - a for a, b in pairwise(times)} == {COUNT * 10**9 // KVM_PIT_FREQ}
    assert pulses(made) == 10


def test_a_one_shot_count_ticks_once():
    made = with_pit("discard")
    program(made, command=0x30)
    assert not made.run(until=lambda: ticks(made) > 1, limit_ns=50 * MS)
    assert ticks(made) == pulses(made) == 1


def test_too_short_a_period_is_lengthened():
    """min_timer_period_us: 200 us by default. The first tick still comes when the guest asked for it."""
    made = with_pit("discard")
    program(made, count=12)
    made.run(limit_ns=2 * MS)
    times = [r.t for r in made.trace.records if isinstance(r.event, PitTick)]
    assert {b - a for a, b in pairwise(times)} == {200_000}


def test_reinjection_waits_for_the_acknowledge():
    """Nobody takes the interrupt: one pulse, and the others are owed."""
    made = with_pit()
    made.vcpus[0].guest.cli()
    program(made)
    wait(made, 10)
    assert (ticks(made), pulses(made), made.machine.kvm.vpit.pending) == (10, 1, 10)
    assert [e.pending for e in events(made, PitWaits)] == list(range(2, 11))


def test_a_pit_that_is_not_told_of_the_acknowledge_stops_after_one():
    """broken on purpose: no-pit-ack. Without reinjection it does not look."""
    for how, expected in (("reinject", 1), ("discard", 10)):
        made = with_pit(how, broken=("no-pit-ack",))
        init_pics(made, icw4=3)
        made.vcpus[0].guest.sti()
        program(made)
        wait(made, 10)
        assert pulses(made) == expected


def test_what_is_owed_comes_as_fast_as_the_guest_acknowledges():
    """And in the end the guest has had every tick."""
    made = with_pit()
    guest = made.vcpus[0].guest
    init_pics(made, icw4=3)  # automatic EOI: the acknowledge is the end
    guest.cli()
    program(made)
    wait(made, 10)
    owed = ticks(made)
    guest.sti()
    assert made.run(until=lambda: made.machine.kvm.vpit.pending == 0)
    assert guest.handled[0x20] == owed == 10


def test_without_reinjection_they_are_lost():
    made = with_pit("discard")
    guest = made.vcpus[0].guest
    init_pics(made, icw4=3)
    guest.cli()
    program(made)
    wait(made, 10)
    guest.sti()
    guest.nop()
    guest.nop()
    assert (ticks(made), guest.handled[0x20]) == (10, 1)


def test_unmasking_the_pin_forgets_what_is_owed():
    """pit_mask_notifier: a guest that switches the PIT off and on does not want the ticks in between."""
    made = with_pit()
    init_pics(made, icw4=3)
    made.vcpus[0].guest.cli()
    out(made, (0x21, 0xFF))
    program(made)
    wait(made, 10)
    assert made.machine.kvm.vpit.pending == 10
    out(made, (0x21, 0xFE))
    assert made.machine.kvm.vpit.pending == 0


def test_lint0_as_nmi_makes_it_a_watchdog():
    """Every vCPU gets what its LVT0 says, if any of them says NMI."""
    made = vm(2, pit="discard")
    for vcpu in made.vcpus:
        vcpu.set_mp_state("runnable")
    for vcpu in made.vcpus:
        vcpu.guest.wrmsr(0x1B, vcpu.lapic.apic_base | 0xC00)
        vcpu.guest.wrmsr(0x80F, 0x1FF)
        vcpu.guest.wrmsr(0x835, 0x400)
    program(made)
    wait(made, 1)
    assert made.run(until=lambda: all(vcpu.guest.handled == {2: 1} for vcpu in made.vcpus))


@pytest.mark.parametrize(("latch", "reads"), [(0x00, 2), (0xD2, 2), (0xE2, 1), (0xC2, 3)])
def test_latches(latch, reads):
    """Latch, or read back: count, status, or both. The status comes first; then reads are of the running count."""
    made = with_pit()
    program(made)
    out(made, (0x43, latch))
    guest = made.vcpus[0].guest
    before = pit(made)
    assert before["status_latched"] + 2 * (before["count_latched"] > 0) == {0x00: 2, 0xD2: 2, 0xE2: 1, 0xC2: 3}[latch]
    got = [guest.inb(0x40) for _ in range(reads)]
    if before["status_latched"]:
        assert got.pop(0) == before["status"]
    if got:
        assert got[0] | got[1] << 8 == before["latched_count"]
    assert (pit(made)["status_latched"], pit(made)["count_latched"]) == (0, 0)


@pytest.mark.parametrize(
    ("access", "writes", "count"),
    [(1, [0x12], 0x12), (2, [0x12], 0x1200), (3, [0x34, 0x12], 0x1234), (3, [0, 0], 0x10000)],
)
def test_counts_by_byte(access, writes, count):
    made = with_pit("discard")
    out(made, (0x43, 2 << 6 | access << 4 | 3 << 1), *((0x42, byte) for byte in writes))
    assert pit(made, 2)["count"] == count


def test_the_speaker_port():
    """Bit 0 opens channel 2's gate, bit 1 is remembered; bit 5 is what the channel puts out, bit 4 a clock."""
    made = with_pit("discard")
    out(made, (0x43, 0xB0), (0x42, 0xFF), (0x42, 0xFF), (0x61, 3))
    assert pit(made, 2)["gate"] == 1
    assert made.vcpus[0].guest.inb(0x61) & 0x23 == 3
    made.execute(0, ("spin 60_000_000",))
    made.run()
    assert made.vcpus[0].guest.inb(0x61) & 0x20
    out(made, (0x61, 0))
    assert (pit(made, 2)["gate"], made.vcpus[0].guest.inb(0x61) & 3) == (0, 0)


def test_state_goes_out_and_in():
    """KVM_SET_PIT2 takes what KVM_GET_PIT2 gave, and counts anew from there."""
    made, other = with_pit(), with_pit()
    program(made)
    other.set_pit2(made.get_pit2())
    assert pit(other) == pit(made)
    wait(other, 2)


def test_hpet_mode_stops_channel_0():
    """flags bit 0: a HPET in userspace stands in for it."""
    made = with_pit("discard")
    program(made)
    state = bytearray(made.get_pit2())
    state[72] = 1
    made.set_pit2(bytes(state))
    made.run(limit_ns=20 * MS)
    assert ticks(made) == 0


def test_what_is_no_pit_is_refused():
    with pytest.raises(ValueError, match="no PIT"):
        vm().get_pit2()
    with pytest.raises(ValueError, match="112 bytes, not 3"):
        with_pit().set_pit2(b"abc")
