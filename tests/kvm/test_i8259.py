"""The 8259 pair: lines, priority, acknowledge, end of interrupt, ports; and ExtINT's way into a vCPU.

How it is known: read in KVM's source, and compared with a running kernel in tests/oracle as far as ioctls show it.
"""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvmmodel.events import (
    Ack,
    HandlerEnter,
    Kick,
    KvmAckIrq,
    KvmIoapicSetIrq,
    KvmPicSetIrq,
    KvmPio,
    KvmSetIrq,
    KvmUserspaceExit,
    MakeRequest,
    PicAck,
    PicLine,
)
from kvmmodel.facts.releases import kernel
from kvmmodel.guest.program import parse
from kvmmodel.kvm.i8259 import STATE, kvm_pic_read_irq
from kvmmodel.kvm.irqchip import PicRoute, kvm_set_irq
from kvmmodel.kvm.names import name_in
from kvmmodel.trace.text import tracepoint
from tests.machines import APIC_BASE, LVT0, MSI, SERIES, SVR, events, frames, load, vm

BASE = 0x30  # of the primary; the secondary's is 8 more
COMMAND, DATA, ELCR = (0x20, 0xA0), (0x21, 0xA1), (0x4D0, 0x4D1)
EOI, SPECIFIC_EOI, ROTATE_EOI, SET_PRIORITY, ROTATE_AUTO = 0x20, 0x60, 0xA0, 0xC0, 0x80
POLL, READ_IRR, READ_ISR, SPECIAL_MASK = 0x0C, 0x0A, 0x0B, 0x68
AUTO_EOI, FULLY_NESTED = 0x02, 0x10
EXTINT, MASKED = 0x700, 0x10000


def pics(release="6.18", vcpus=1, mode=0, level=(0, 0)):
    """Both chips initialized as a PC's are. The vCPU has IF clear, and LVT0 as after reset: ExtINT, unmasked."""
    made = vm(vcpus, release)
    guest = made.vcpus[0].guest
    for chip, wiring in ((0, 4), (1, 2)):
        guest.outb(COMMAND[chip], 0x11)
        for word in (BASE + 8 * chip, wiring, 1 | mode):
            guest.outb(DATA[chip], word)
        guest.outb(ELCR[chip], level[chip])
    return made


def state(made, chip=0):
    return dict(zip(STATE, made.get_irqchip(chip), strict=True))


def lines(made, *up):
    for line in up:
        made.irq_line(line, True)


def ack(made):
    """INTA: the line that is served, as its vector says."""
    return kvm_pic_read_irq(made.machine.kvm) - BASE


def command(made, value, chip=0):
    made.vcpus[0].guest.outb(COMMAND[chip], value)


def entered(made):
    return [event.vector for event in events(made, HandlerEnter)]


# ---- priority


def test_the_lowest_line_is_served_first_and_holds_back_the_higher_ones():
    made = pics()
    lines(made, 5, 3, 1)
    assert ack(made) == 1
    assert not made.machine.kvm.pic.output
    command(made, EOI)
    assert made.machine.kvm.pic.output
    assert ack(made) == 3
    made.irq_line(0, True)
    assert ack(made) == 0
    assert state(made)["isr"] == 0b1001


def test_an_eoi_ends_the_best_in_service_and_a_specific_one_its_line():
    made = pics()
    lines(made, 4)
    ack(made)
    lines(made, 1)
    ack(made)
    command(made, EOI)
    assert state(made)["isr"] == 1 << 4
    command(made, SPECIFIC_EOI | 3)
    assert state(made)["isr"] == 1 << 4
    command(made, SPECIFIC_EOI | 4)
    assert state(made)["isr"] == 0


@given(first=st.integers(0, 7), up=st.sets(st.integers(0, 15).filter(lambda line: line != 2)))
def test_lines_are_served_round_from_the_first(first, up):
    """The secondary's eight stand where line 2 of the primary does, in an order of their own."""
    made = pics()
    command(made, SET_PRIORITY | (first - 1) % 8)
    lines(made, *up)
    served = []
    while made.machine.kvm.pic.output:
        line = ack(made)
        served.append(line)
        if line > 7:
            command(made, SPECIFIC_EOI | line - 8, chip=1)
            command(made, SPECIFIC_EOI | 2)
        else:
            command(made, SPECIFIC_EOI | line)
    assert served == sorted(up, key=lambda line: ((2 if line > 7 else line) - first) % 8 * 8 + line % 8)


def test_rotation_at_the_eoi_makes_the_served_line_the_last():
    made = pics()
    lines(made, 5)
    ack(made)
    command(made, ROTATE_EOI)
    assert state(made)["priority_add"] == 6
    lines(made, 4, 6)
    assert ack(made) == 6


def test_special_mask_mode_is_stored_and_does_nothing():
    """On a real 8259 a line that is masked while in service would hold back nobody."""
    made = pics()
    lines(made, 1)
    ack(made)
    made.vcpus[0].guest.outb(DATA[0], 1 << 1)
    command(made, SPECIAL_MASK)
    lines(made, 4)
    assert state(made)["special_mask"] == 1
    assert not made.machine.kvm.pic.output


def test_the_secondary_asks_by_an_edge_on_line_2():
    made = pics()
    lines(made, 12)
    assert (state(made)["irr"], state(made, 1)["irr"]) == (1 << 2, 1 << 4)
    assert ack(made) == 12
    assert (state(made)["isr"], state(made, 1)["isr"]) == (1 << 2, 1 << 4)


@pytest.mark.parametrize(("mode", "nested"), [(0, False), (FULLY_NESTED, True)])
def test_a_better_line_of_the_secondary_gets_through_only_if_fully_nested(mode, nested):
    made = pics(mode=mode)
    lines(made, 12)
    ack(made)
    lines(made, 8)
    assert made.machine.kvm.pic.output == nested


# ---- what the line does


def test_an_edge_is_latched_and_a_second_one_meanwhile_is_coalesced():
    made = pics()
    made.set_gsi_routing({3: [PicRoute(0, 3)]})
    assert [made.irq_line(3, level) for level in (True, True, False, True)] == [1, 1, 1, 0]
    made.irq_line(3, False)
    assert ack(made) == 3
    assert state(made)["irr"] == 0


def test_a_masked_line_waits_and_says_so():
    made = pics()
    made.vcpus[0].guest.outb(DATA[0], 1 << 3)
    assert made.irq_line(3, True) == -1
    assert state(made)["irr"] == 1 << 3
    assert not made.machine.kvm.pic.output
    made.vcpus[0].guest.outb(DATA[0], 0)
    assert made.machine.kvm.pic.output


def test_a_level_comes_again_until_its_line_falls():
    made = pics(level=(1 << 4, 0))
    made.irq_line(4, True)
    assert made.irq_line(4, True) == 0
    for _ in range(2):
        assert ack(made) == 4
        command(made, EOI)
    assert state(made)["irr"] == 1 << 4
    made.irq_line(4, False)
    assert state(made)["irr"] == 0
    assert not made.machine.kvm.pic.output


def test_which_lines_can_be_levels():
    """Not the timer, the keyboard and the cascade; not the real-time clock and the FPU."""
    made = pics(level=(0xFF, 0xFF))
    assert [made.vcpus[0].guest.inb(port) for port in ELCR] == [0xF8, 0xDE]


def test_a_line_is_up_while_any_source_holds_it():
    made = pics(level=(1 << 5, 0))
    kvm = made.machine.kvm
    kvm_set_irq(kvm, 0, 5, True)
    kvm_set_irq(kvm, 1, 5, True)
    kvm_set_irq(kvm, 0, 5, False)
    assert state(made)["irr"] == 1 << 5
    kvm_set_irq(kvm, 1, 5, False)
    assert state(made)["irr"] == 0
    assert [(e.line, e.sources) for e in events(made, PicLine)] == [(5, (0,)), (5, (0, 1)), (5, (1,)), (5, ())]


# ---- acknowledge without a request


def test_a_level_that_goes_before_the_acknowledge_leaves_a_spurious_irq_7():
    """The request was pending in the vCPU's eyes: nothing comes into service."""
    made = pics(level=(1 << 3, 0))
    made.irq_line(3, True)
    made.irq_line(3, False)
    assert ack(made) == 7
    assert state(made)["isr"] == 0
    assert [(e.vector, e.spurious) for e in events(made, PicAck)] == [(BASE + 7, True)]


def test_a_line_7_that_asks_is_not_spurious():
    made = pics()
    made.irq_line(7, True)
    assert ack(made) == 7
    assert state(made)["isr"] == 1 << 7
    assert [(e.vector, e.spurious) for e in events(made, PicAck)] == [(BASE + 7, False)]


def test_a_level_of_the_secondary_that_goes_leaves_irq_15_and_line_2_in_service():
    """The primary has latched the secondary's request as an edge."""
    made = pics(level=(0, 1 << 1))
    made.irq_line(9, True)
    made.irq_line(9, False)
    assert made.machine.kvm.pic.output
    assert ack(made) == 15
    assert (state(made)["isr"], state(made, 1)["isr"]) == (1 << 2, 0)


# ---- end of interrupt at the acknowledge; polling


def test_auto_eoi_ends_it_at_the_acknowledge_and_tells_who_waits():
    made = pics(mode=AUTO_EOI)
    lines(made, 5)
    assert ack(made) == 5
    assert state(made)["isr"] == 0
    assert [(e.irqchip, e.pin) for e in events(made, KvmAckIrq)] == [("PIC master", 5)]
    assert state(made)["priority_add"] == 0
    command(made, ROTATE_AUTO)
    made.irq_line(5, False)
    lines(made, 5)
    ack(made)
    assert state(made)["priority_add"] == 6


@pytest.mark.parametrize("release", SERIES)
def test_a_poll_is_acknowledge_and_eoi_in_one(release):
    """Bit 7, which says that there was one, came between 6.1 and 6.6."""
    made = pics(release)
    guest = made.vcpus[0].guest
    lines(made, 5)
    command(made, POLL)
    found = guest.inb(COMMAND[0])
    assert found == (5 if release in ("5.10", "5.15", "6.1") else 0x85)
    assert (state(made)["irr"], state(made)["isr"]) == (0, 0)
    command(made, POLL)
    assert guest.inb(COMMAND[0]) == 7
    assert state(made)["poll"] == 0


def test_a_poll_of_the_secondary_takes_its_request_off_the_primary():
    made = pics()
    lines(made, 12)
    command(made, POLL, chip=1)
    assert made.vcpus[0].guest.inb(COMMAND[1]) == 0x84
    assert state(made)["irr"] == 0
    assert not made.machine.kvm.pic.output


# ---- ports


def test_what_the_ports_read():
    made = pics()
    guest = made.vcpus[0].guest
    lines(made, 3)
    ack(made)
    lines(made, 6)
    guest.outb(DATA[0], 0x80)
    command(made, READ_ISR)
    assert (guest.inb(0x20), guest.inb(0x21)) == (1 << 3, 0x80)
    command(made, READ_IRR)
    assert guest.inb(0x20) == 1 << 6


def test_the_first_initialization_word_forgets_edges_and_keeps_the_rest():
    made = pics(level=(1 << 5, 0))
    lines(made, 1)
    ack(made)
    lines(made, 3, 5)
    made.vcpus[0].guest.outb(DATA[0], 0xFF)
    command(made, 0x11)
    kept = {"irr": 1 << 5, "isr": 1 << 1, "imr": 0, "irq_base": BASE, "init_state": 1, "elcr": 1 << 5}
    assert {name: state(made)[name] for name in kept} == kept
    assert [e.pin for e in events(made, KvmAckIrq)] == [3]


def test_only_bytes_count():
    made = pics()
    made.execute(0, ("out 0x21 0xff", "outb 0xa1 0xff"))
    made.run()
    assert [state(made, chip)["imr"] for chip in (0, 1)] == [0, 0xFF]


def test_other_ports_are_userspaces():
    """An IN is done when userspace has answered: only then is it traced. Nobody's port reads as all ones."""
    made = vm()
    guest = made.vcpus[0].guest
    assert guest.inb(0x60) == 0xFF
    made.user_exits.append(lambda vcpu: setattr(vcpu.regs, "value", 0x1AB))
    assert guest.inb(0x60) == 0xAB
    seen = [type(e) for e in events(made, KvmPio, KvmUserspaceExit)]
    assert seen == [KvmUserspaceExit, KvmPio] * 2
    assert tracepoint(events(made, KvmPio)[-1], kernel("6.18")) == "pio_read at 0x60 size 1 count 1 val 0xab "


def test_a_port_of_the_8259_does_not_leave_the_kernel():
    made = vm()
    made.vcpus[0].guest.outb(0x21, 0xFB)
    assert events(made, KvmUserspaceExit) == []
    assert frames(made, KvmPio)[0][:4] == ("emulator_pio_out", "kvm_fast_pio_out", "kvm_fast_pio", "io_interception")


@given(image=st.binary(min_size=16, max_size=16))
def test_userspace_gets_back_what_it_set(image):
    """Unchecked, elcr_mask included."""
    made = vm()
    made.set_irqchip(0, image)
    assert made.get_irqchip(0) == image


def test_userspaces_mistakes():
    with pytest.raises(ValueError, match="16 bytes, not 15"):
        vm().set_irqchip(0, bytes(15))
    with pytest.raises(ValueError, match="expected 0 or 1, an 8259"):
        vm().get_irqchip(3)


# ---- routes


@pytest.mark.parametrize("release", SERIES)
def test_by_default_a_line_goes_to_the_ioapic_and_to_the_8259s(release):
    made = vm(kernel=release)
    made.irq_line(12, True)
    kinds = (KvmSetIrq, KvmIoapicSetIrq, KvmPicSetIrq)
    found = events(made, *kinds)
    assert tuple(type(event) for event in found) == kinds
    assert tracepoint(found[-1], kernel(release)) == "chip 1 pin 4 (edge)"
    made.irq_line(16, True)
    assert len(events(made, KvmPicSetIrq)) == 1
    renamed = release not in ("5.10", "5.15", "6.1", "6.6", "6.12")
    names = {("kvm_pic_set_irq", "kvm_set_irq")} if renamed else {("kvm_pic_set_irq", "kvm_set_pic_irq", "kvm_set_irq")}
    assert {stack[: len(next(iter(names)))] for stack in shown(made, KvmPicSetIrq)} == names


def shown(made, kind):
    """Stacks as the release has them: functions that it does not have are left out."""
    release = made.host.kernel
    stacks = [record.stack for record in made.trace.records if isinstance(record.event, kind)]
    return [tuple(name for f in stack if (name := name_in(f, release))) for stack in stacks]


def test_the_printed_line_says_masked_and_coalesced():
    made = pics(level=(1 << 4, 0))
    made.vcpus[0].guest.outb(DATA[0], 1 << 4)
    lines(made, 4, 6)
    made.irq_line(6, False)
    lines(made, 6)
    texts = [tracepoint(event, kernel("6.18")) for event in events(made, KvmPicSetIrq)]
    assert texts[0] == "chip 0 pin 4 (level|masked)"
    assert texts[-1] == "chip 0 pin 6 (edge) (coalesced)"


@pytest.mark.parametrize(("line", "eois"), [(3, ((0, EOI),)), (11, ((1, EOI), (0, EOI)))])
def test_the_eoi_at_an_8259_lowers_the_line_of_a_resampling_irqfd(line, eois):
    made, told = pics(level=(1 << 3, 1 << 3)), []
    made.irqfd_resample(line, lambda: told.append(state(made, line >> 3)["irr"]))
    made.eventfd_write(line)
    assert ack(made) == line
    for chip, value in eois:
        command(made, value, chip)
    assert told == [0]


# ---- into the vCPU


def served(release="6.18", **options):
    """Initialized; handlers of the 8259s' vectors end with its EOI, the others with the local APIC's."""
    made = pics(release, **options)
    load(made.vcpus[0], {SVR: 0x1FF})
    made.world.bodies["pic"] = tuple(parse(line) for line in ("outb 0x20 0x20", "nop"))
    made.world.idt[0] = dict.fromkeys(range(BASE, BASE + 16), "pic")
    return made


@pytest.mark.parametrize("release", SERIES)
def test_extint_goes_before_the_local_apics_vectors_and_leaves_it_alone(release):
    made = served(release)
    made.signal_msi(MSI, 0xF1)
    made.irq_line(1, True)
    made.vcpus[0].guest.sti()
    made.run()
    assert entered(made) == [BASE + 1, 0xF1]
    assert [event.vector for event in events(made, Ack)] == [0xF1]


def test_extint_is_not_held_by_the_task_priority():
    made = served()
    guest = made.vcpus[0].guest
    guest.write_cr8(15)
    guest.sti()
    guest.nop()
    made.irq_line(1, True)
    made.signal_msi(MSI, 0xF1)
    made.run()
    assert entered(made) == [BASE + 1]


def test_but_its_irq_window_is():
    """Inferred: KVM asks for the window at priority 15, and a processor takes V_IRQ only above V_TPR."""
    made = served()
    guest = made.vcpus[0].guest
    guest.write_cr8(15)
    made.irq_line(1, True)
    made.run()
    guest.sti()
    guest.nop()
    made.run()
    assert entered(made) == []
    guest.write_cr8(14)
    guest.nop()
    made.run()
    assert entered(made) == [BASE + 1]


@pytest.mark.parametrize("lvt0", [EXTINT | MASKED, 0])
def test_a_lint0_that_is_masked_or_not_extint_takes_nothing(lvt0):
    made = served()
    load(made.vcpus[0], {LVT0: lvt0})
    made.vcpus[0].guest.sti()
    made.irq_line(1, True)
    made.run()
    assert entered(made) == []
    assert made.machine.kvm.pic.output


def test_a_local_apic_that_is_off_lets_it_through():
    made = served()
    load(made.vcpus[0], {LVT0: EXTINT | MASKED})
    made.vcpus[0].set_msr(APIC_BASE, 0xFEE00100)
    made.vcpus[0].guest.sti()
    made.irq_line(1, True)
    made.run()
    assert entered(made) == [BASE + 1]


def test_it_wakes_a_halted_vcpu():
    made = served()
    guest = made.vcpus[0].guest
    guest.sti()
    guest.hlt()
    made.irq_line(1, True)
    made.run()
    assert entered(made) == [BASE + 1]


def test_only_the_first_vcpu_that_takes_it_is_asked():
    made = pics(vcpus=3)
    for vcpu, lvt0 in zip(made.vcpus, (EXTINT | MASKED, EXTINT, EXTINT), strict=True):
        load(vcpu, {LVT0: lvt0})
    made.trace.clear(made.machine.now)
    made.irq_line(1, True)
    assert [e.vcpu_id for e in events(made, MakeRequest)] == [1]
    assert [e.vcpu_id for e in events(made, Kick)] == [1]


@pytest.mark.parametrize("release", SERIES)
def test_up_to_6_14_any_look_at_a_low_output_asks_for_an_event_pass(release):
    """recorded 6.1.187 and 6.12.95: the CR8 intercept is recomputed after KVM_SET_IRQCHIP (recorded program 410)."""
    made = pics(release)
    made.trace.clear(made.machine.now)
    made.irq_line(1, False)
    asked = [e.request for e in events(made, MakeRequest)]
    assert asked == ([] if made.host.kernel.series in ("6.18", "7.2", "7.3") else ["EVENT"])
