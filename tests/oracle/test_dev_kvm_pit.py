"""The model's PIT beside that of the kernel that these tests run on: ports and state, byte for byte.

And the kernel's PIT with a guest that is late: what tests/kvm/test_pit.py says of the model holds there.
"""

import random
import struct
import time

import pytest

from kvmmodel.kvm.i8254 import CHANNEL
from tests.machines import vm
from tests.oracle.kvm_ioctl import RealVm
from tests.oracle.real_guest import RealGuest
from tests.oracle.test_dev_kvm import REASON

pytestmark = pytest.mark.skipif(REASON is not None, reason=str(REASON))
SIZE = struct.calcsize(CHANNEL)
TIMED = slice(4, 6), slice(8, 9), slice(SIZE - 8, SIZE)  # latched_count, status, count_load_time: two clocks
HZ_1000 = ((0x43, 0x34), (0x40, 0xA9), (0x40, 0x04))  # 1193 clocks, as a rate
TICK = 0x30


@pytest.fixture
def real():
    made = RealVm(1)
    made.create_pit2()
    yield made
    made.close()


def without_times(state):
    blank = bytearray(state)
    for channel in range(3):
        for part in TIMED:
            at = slice(channel * SIZE + part.start, channel * SIZE + part.stop)
            blank[at] = bytes(part.stop - part.start)
    return bytes(blank)


def accesses(pick):
    """Commands, counts, latches and reads, in any order."""
    for _ in range(120):
        port = pick.choice([0x40, 0x41, 0x42, 0x43, 0x43, 0x61])
        if port == 0x43:
            yield ("out", port, pick.choice([pick.randrange(192), 0xC0 | pick.randrange(64)]))
        elif pick.random() < 0.5:
            yield ("out", port, pick.randrange(256))
        else:
            yield ("in", port)


@pytest.mark.parametrize("seed", range(6))
def test_what_a_guest_writes_to_the_ports_is_the_same_state(real, seed):
    """All but what time decides: counts and outputs as they were latched. Reads change which byte is next."""
    made, there = vm(1, "6.18", smm=False, pit="reinject"), RealGuest(real)
    assert without_times(made.get_pit2()) == without_times(real.get_pit2())
    for step in accesses(random.Random(seed)):
        if step[0] == "out":
            made.vcpus[0].guest.outb(*step[1:])
        else:
            made.vcpus[0].guest.inb(step[1])
        there.step(*step)
        assert without_times(made.get_pit2()) == without_times(real.get_pit2()), step


def init(guest, act):
    """The 8259s with automatic EOI, all masked but line 0; then a tick each millisecond."""
    for base, vector, wiring in ((0x20, TICK, 4), (0xA0, TICK + 8, 2)):
        for port, value in ((base, 0x11), (base + 1, vector), (base + 1, wiring), (base + 1, 3)):
            act(guest, port, value)
    for port, value in ((0x21, 0xFE), (0xA1, 0xFF), *HZ_1000):
        act(guest, port, value)


def test_a_late_guest_of_the_kernel_gets_every_tick(real):
    """It does not run for 60 ms, and has made up for that some time later."""
    there = RealGuest(real)
    init(there, lambda guest, port, value: guest.step("out", port, value))
    start = time.monotonic()
    time.sleep(0.06)
    taken, deadline = 0, start + 5
    while taken < (time.monotonic() - start) * 1000 - 3 and time.monotonic() < deadline:
        taken += there.step("open")[1].count(TICK)
    assert taken >= (time.monotonic() - start) * 1000 - 3 >= 57


def test_without_reinjection_it_gets_one_of_them(real):
    there = RealGuest(real)
    real.reinject_control(False)
    init(there, lambda guest, port, value: guest.step("out", port, value))
    time.sleep(0.06)
    again = time.monotonic()
    taken = sum(there.step("open")[1].count(TICK) for _ in range(10))
    assert 10 <= taken <= (time.monotonic() - again) * 1000 + 3
