"""The model beside the kernel that these tests run on, through /dev/kvm.

What is compared is common code of x86 KVM, with any vendor module: registers, destinations, acceptance, PPR and EOI,
GSI routing, the 8259s and what they give the guest. Not compared: the vendor's delivery of the local APIC's vectors,
CR8, and where the x2APIC ICR is kept.
"""

import os
import platform
import random

import pytest

from kvmmodel import MsrError, Vm
from kvmmodel.events import HandlerEnter
from kvmmodel.kvm.irqchip import IoapicRoute, MsiRoute, PicRoute
from tests.machines import (
    DFR,
    ESR,
    ICR,
    ICR2,
    ID,
    IRR,
    ISR,
    LDR,
    LVT0,
    LVTERR,
    LVTPC,
    LVTT,
    MSI,
    PPR,
    SVR,
    TDCR,
    TMCCT,
    TMICT,
    TMR,
    TPR,
    address,
    changed,
    vm,
    word,
)
from tests.oracle.kvm_ioctl import RealVm
from tests.oracle.real_guest import RealGuest

WORDS = [4 * i for i in range(256)]
VENDORS = {ICR, ICR + 4, ICR2}
MSRS = range(0x800, 0x840)


def why_not() -> str | None:
    """What keeps this machine from being an oracle."""
    if platform.machine() != "x86_64":
        return f"not an x86-64 machine: {platform.machine()}"
    try:
        os.close(os.open("/dev/kvm", os.O_RDWR))
    except OSError as error:
        return f"/dev/kvm cannot be opened: {error.strerror}"
    series = ".".join(platform.release().split(".")[:2])
    return None if series == "6.18" else f"the kernel is {platform.release()}, these comparisons are for 6.18"


REASON = why_not()
pytestmark = pytest.mark.skipif(REASON is not None, reason=str(REASON))


@pytest.fixture
def pair():
    """The same VM twice: in the model, and in the kernel."""
    real = RealVm(3)
    yield vm(3, "6.18", smm=False), real
    real.close()


def both(pair, act):
    """Do the same to each; what came of it must be equal."""
    ours, theirs = (act(made) for made in pair)
    assert ours == theirs
    return ours


def set_msr(vcpu, index, value):
    """True: accepted. A refusal is an exception in the model, and a short count in the kernel."""
    try:
        return vcpu.set_msr(index, value) is not False
    except MsrError:
        return False


def get_msr(vcpu, index):
    try:
        return vcpu.get_msr(index)
    except MsrError:
        return None


def page_of(vcpu, without=()):
    page = vcpu.get_lapic()
    return {register: word(page, register) for register in WORDS if register not in without}


def pages(made, without=VENDORS):
    return [page_of(vcpu, without) for vcpu in made.vcpus]


def load(made, words, banks=None, only=None):
    for vcpu in made.vcpus if only is None else [made.vcpus[only]]:
        vcpu.set_lapic(changed(vcpu.get_lapic(), words, banks))


def flat(made):
    for i, vcpu in enumerate(made.vcpus):
        vcpu.set_lapic(changed(vcpu.get_lapic(), {SVR: 0x1FF, LDR: 1 << (24 + i)}))


def x2apic(made):
    for vcpu in made.vcpus:
        set_msr(vcpu, 0x1B, get_msr(vcpu, 0x1B) | 0xC00)
        set_msr(vcpu, 0x80F, 0x1FF)


def test_reset(pair):
    both(pair, lambda made: (pages(made), [get_msr(vcpu, 0x1B) for vcpu in made.vcpus]))


@pytest.mark.parametrize("seed", range(8))
def test_msis_to_xapics(pair, seed):
    """Random messages of every mode to three flat xAPICs: what is returned, and what stands in the pages."""
    both(pair, flat)
    pick = random.Random(seed)
    for _ in range(60):
        where = address(
            pick.choice([0, 1, 2, 3, 7, 0xFF, pick.randrange(256)]),
            logical=pick.random() < 0.5,
            hint=pick.random() < 0.2,
        )
        mode = pick.choice([0, 0, 0, 0x100, 0x100, 0x300, 0x400, 0x700])
        data = pick.randrange(256) | mode | pick.choice([0, 0, 0xC000])
        both(pair, lambda made, where=where, data=data: made.signal_msi(where, data))
    both(pair, pages)


def test_msis_without_a_logical_map(pair):
    """Two flat, one cluster: every logical destination, by the slow path, -1 included."""
    both(pair, flat)
    both(pair, lambda made: load(made, {DFR: 0x0FFFFFFF, LDR: 0x11 << 24}, only=2))
    both(pair, lambda made: [made.signal_msi(address(dest, logical=True), 0x141 + dest % 7) for dest in range(256)])
    both(pair, pages)


@pytest.mark.parametrize("flags", [0, 1, 3])
def test_aliased_ids_and_broadcasts(pair, flags):
    """With and without 32-bit IDs and the broadcast quirk."""
    if flags:
        both(pair, lambda made: made.enable_x2apic_api(flags))
    both(pair, flat)
    both(pair, lambda made: load(made, {ID: 5 << 24}, only=1))
    both(pair, lambda made: load(made, {ID: 5 << 24}, only=0))
    for dest in (0, 1, 2, 5, 0xFF):
        both(pair, lambda made, dest=dest: made.signal_msi(address(dest), 0x41))
    both(pair, x2apic)
    for where in (address(0xFF), address(1), MSI | 0xFFFFFF00 << 32 | 0xFF000):
        both(pair, lambda made, where=where: made.signal_msi(where, 0x51))
    both(pair, pages)


def test_which_x2apic_registers_exist(pair):
    """Reading all, writing 0 to all."""
    both(pair, x2apic)
    both(pair, lambda made: [get_msr(made.vcpus[1], index) for index in MSRS])
    both(pair, lambda made: [set_msr(made.vcpus[1], index, 0) for index in MSRS])
    both(pair, lambda made: [set_msr(made.vcpus[1], index, 1 << 32) for index in MSRS if index != 0x830])


@pytest.mark.parametrize("seed", range(8))
def test_random_x2apic_writes(pair, seed):
    """Accepted or refused, and what can be read afterwards. The timer is kept still: it runs on two clocks."""
    both(pair, x2apic)
    pick = random.Random(seed)
    for _ in range(80):
        index = pick.choice(
            [0x808, 0x80B, 0x80F, 0x828, 0x832, 0x834, 0x835, 0x837, 0x83E, 0x83F, 0x830, pick.choice(MSRS)]
        )
        value = pick.choice(
            [0, pick.getrandbits(8), pick.getrandbits(12), pick.getrandbits(32), 1 << pick.randrange(40)]
        )
        if index in (0x830, 0x83F):
            value &= ~0x700 | 0x100  # fixed and lowest priority
        if index != 0x838:
            both(pair, lambda made, index=index, value=value: set_msr(made.vcpus[0], index, value))
    both(pair, lambda made: [[get_msr(vcpu, index) for index in MSRS] for vcpu in made.vcpus])
    both(pair, pages)


@pytest.mark.parametrize("bit", range(32))
def test_reserved_bits_of_the_icr(pair, bit):
    both(pair, x2apic)
    both(pair, lambda made: set_msr(made.vcpus[0], 0x830, 1 << bit))
    both(pair, lambda made: get_msr(made.vcpus[0], 0x830))


@pytest.mark.parametrize("seed", range(6))
def test_random_pages(pair, seed):
    """KVM_SET_LAPIC of random words, PPR's staleness included, then EOIs one by one."""
    pick = random.Random(seed)
    for _ in range(4):
        words = {r: pick.getrandbits(32) for r in (TPR, SVR, ESR, LVT0, LVTPC, LVTERR, LDR, 0xC0, 0x18)}
        words |= {
            TMICT: 0,
            TMCCT: 0,
            LVTT: 0x10000 | pick.getrandbits(8),
            TDCR: pick.choice([0, 1, 2, 3, 8, 9, 10, 11]),
        }
        banks = {bank: {pick.randrange(256) for _ in range(pick.randrange(6))} for bank in (IRR, ISR, TMR)}
        both(pair, lambda made, words=words, banks=banks: load(made, words, banks))
        both(pair, lambda made: pages(made, VENDORS | {TMCCT}))
    both(pair, x2apic)
    for _ in range(8):
        both(pair, lambda made: (set_msr(made.vcpus[1], 0x80B, 0), get_msr(made.vcpus[1], 0x80A)))
        both(pair, lambda made: page_of(made.vcpus[1], VENDORS)[PPR])


@pytest.mark.parametrize("old", [0xFEE00000, 0xFEE00800, 0xFEE00C00])
@pytest.mark.parametrize("new", [0xFEE00000, 0xFEE00400, 0xFEE00800, 0xFEE00801, 0xFEE00A00, 0xFEE00C00])
def test_apic_base(pair, old, new):
    """Transitions by userspace; the pages afterwards."""
    for value in (old, new):
        both(pair, lambda made, value=value: set_msr(made.vcpus[1], 0x1B, value))
    both(pair, lambda made: (get_msr(made.vcpus[1], 0x1B), pages(made)))


def irqchips(made):
    return [made.get_irqchip(chip) for chip in range(3)]


def pic_state(pick):
    """Any bytes; or what a guest could have left there."""
    state = bytearray(pick.randbytes(16))
    if pick.random() < 0.7:
        state[4:14] = bytes(
            [pick.randrange(8), pick.randrange(32) << 3, 0, 0, 0, 0, *(pick.randrange(2) for _ in range(4))]
        )
        state[15] = 0xDE
    if pick.random() < 0.5:
        state[3] = 0  # nothing in service
    return bytes(state)


@pytest.mark.parametrize("seed", range(12))
def test_lines_of_the_8259s(pair, seed):
    """GSI 0 to 15 up and down, as KVM_IRQ_LINE_STATUS has it; now and then KVM_SET_IRQCHIP of one of the pair."""
    pick = random.Random(seed)
    for _ in range(300):
        if pick.random() < 0.1:
            chip, state = pick.randrange(2), pic_state(pick)
            both(pair, lambda made, chip=chip, state=state: made.set_irqchip(chip, state))
        else:
            gsi, level = pick.randrange(16), pick.random() < 0.5
            both(pair, lambda made, gsi=gsi, level=level: made.irq_line(gsi, level))
        both(pair, irqchips)


def guest_steps(pick, levels):
    """A guest that programs the pair: sensibly at first, then anything. Not levels and auto EOI: that never ends."""
    for chip, base, wiring in ((0, 0x30, 4), (0x80, 0x70, 2)):
        yield ("out", 0x20 | chip, 0x11)
        for value in (base, wiring, last_word(pick, levels)):
            yield ("out", 0x21 | chip, value)
    for _ in range(250):
        chip = pick.choice([0, 0x80])
        what = pick.choice(["host", "host", "open", "open", "in", "eoi", "eoi", "command", "data", "elcr", "init"])
        if what == "host":
            yield (what, pick.randrange(16), pick.random() < 0.6)
        elif what == "open":
            yield (what,)
        elif what == "in":
            yield (what, pick.choice([0x20, 0x21, 0xA0, 0xA1, 0x4D0, 0x4D1]))
        elif what == "eoi":
            yield ("out", 0x20 | chip, pick.choice([0x20, 0x60, 0xA0, 0xE0, 0xC0]) | pick.randrange(8))
        elif what == "command":
            yield ("out", 0x20 | chip, pick.choice([0x0A, 0x0B, 0x0C, 0x0E, 0x48, 0x68, 0x00, 0x80]))
        elif what == "data":
            yield ("out", 0x21 | chip, pick.choice([0, 0, 1 << pick.randrange(8), pick.randrange(256) & 0xFD]))
        elif what == "elcr":
            yield ("out", 0x4D0 | chip >> 7, pick.randrange(256) if levels else 0)
        elif pick.random() < 0.3:
            yield ("out", 0x20 | chip, 0x10 | pick.randrange(2))
            yield ("out", 0x21 | chip, pick.randrange(256) & 0xFD)


def last_word(pick, levels):
    return 0x01 | pick.choice([0, 0x10]) | (0 if levels else 0x02)


def in_model(made, step):
    """What the step read (None: nothing), and the vectors that came meanwhile."""
    guest, seen = made.vcpus[0].guest, len(made.trace.records)
    found = None
    if step[0] == "out":
        guest.outb(*step[1:])
    elif step[0] == "in":
        found = guest.inb(step[1])
    elif step[0] == "open":
        for act in (guest.sti, guest.nop, guest.nop, guest.cli):
            act()
    made.run()
    return found, [r.event.vector for r in made.trace.records[seen:] if isinstance(r.event, HandlerEnter)]


@pytest.mark.parametrize("levels", [True, False])
@pytest.mark.parametrize("seed", range(8))
def test_a_guest_that_programs_the_8259s(pair, seed, levels):
    """Ports, polls, EOIs and rotation; and which vector each acknowledge gives, in a guest that lets them in."""
    made, real = pair
    there = RealGuest(real)
    made.world.idt[0] = dict.fromkeys(range(256), "none")
    for step in guest_steps(random.Random(seed), levels):
        if step[0] == "host":
            both(pair, lambda made, step=step: made.irq_line(*step[1:]))
        elif step[0] == "open":
            _, expected = in_model(made, step)
            got = []
            while len(got) < len(expected):
                got += there.step("open")[1]
            assert got == expected
        else:
            found, vectors = in_model(made, step)
            read, others = there.step(*step)
            assert (vectors, others) == ([], [])
            assert step[0] == "out" or read == found, step
        both(pair, irqchips)


@pytest.mark.parametrize("seed", range(8))
def test_routing_tables(pair, seed):
    """Which tables are taken, and what lines do then."""
    pick = random.Random(seed)
    for _ in range(40):
        table = {pick.randrange(40): [route(pick) for _ in range(pick.choice([1, 1, 1, 2, 3]))] for _ in range(4)}
        both(pair, lambda made, table=table: made.set_gsi_routing(table))
        for gsi in (*table, 3):
            for level in (True, True, False):
                both(pair, lambda made, gsi=gsi, level=level: made.irq_line(gsi, level))
        both(pair, irqchips)
    both(pair, pages)


def route(pick):
    kind = pick.randrange(3)
    if kind == 0:
        return PicRoute(pick.randrange(2), pick.randrange(9))
    return IoapicRoute(pick.randrange(25)) if kind == 1 else MsiRoute(address(pick.randrange(4)), pick.randrange(256))


def test_the_model_has_what_the_driver_has():
    """The comparison calls the same names on both."""
    names = ("signal_msi", "enable_x2apic_api", "irq_line", "get_irqchip", "set_irqchip", "set_gsi_routing")
    assert all(hasattr(Vm, name) for name in names)
