"""TPR, PPR, EOI and the order of delivery."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvmmodel.events import Ack, HandlerEnter, KvmEoi
from kvmmodel.kvm.lapic.priority import kvm_apic_has_interrupt
from tests.machines import EOI, IRR, ISR, MSI, PPR, SERIES, TPR, booted, events, irr, load, msr, x2apic

bytes_ = st.integers(0, 255)
vectors = st.sets(st.integers(16, 255), max_size=6)


@given(bytes_, vectors)
def test_ppr_is_the_higher_class_of_tpr_and_isr(tpr, isr):
    """source 5.10 to 7.3: TPR whole, low nibble too, unless the vector in service has a higher class."""
    vcpu = x2apic(1).vcpus[0]
    load(vcpu, {TPR: tpr}, {ISR: isr})
    top = max(isr, default=0) & 0xF0
    assert vcpu.get_msr(msr(PPR)) == (tpr if tpr & 0xF0 >= top else top)


@pytest.mark.parametrize(
    ("tpr", "vector", "passes"), [(0x35, 0x3F, False), (0x35, 0x40, True), (0, 0x0F, False), (0, 0x10, True)]
)
def test_the_class_is_compared_with_the_whole_ppr(tpr, vector, passes):
    """live 6.18.44: TPR 0x35 holds back 0x3f, not 0x40; vectors below 16 can never be delivered."""
    vcpu = x2apic(1).vcpus[0]
    load(vcpu, {TPR: tpr}, {IRR: [vector]})
    assert (kvm_apic_has_interrupt(vcpu.kvm_vcpu) == vector) is passes


@given(vectors)
def test_eoi_clears_the_highest_in_service(isr):
    """live 6.18.44: one by one, then nothing; PPR follows."""
    vcpu = x2apic(1).vcpus[0]
    load(vcpu, banks={ISR: isr})
    left = sorted(isr)
    while left:
        left.pop()
        vcpu.set_msr(msr(EOI), 0)
        assert vcpu.lapic.isr == sum(1 << v for v in left)
        assert vcpu.lapic.ppr == (left[-1] & 0xF0 if left else 0)


def test_three_eois_for_two_vectors():
    """live 6.18.44: ISR {51,61}: {51}, {}, {}; PPR 0x50, 0, 0. The third is traced with vector -1."""
    made = x2apic(1)
    vcpu = made.vcpus[0]
    load(vcpu, banks={ISR: [0x51, 0x61]})
    seen = []
    for _ in range(3):
        vcpu.set_msr(msr(EOI), 0)
        seen.append((vcpu.lapic.isr, vcpu.lapic.ppr))
    assert seen == [(1 << 0x51, 0x50), (0, 0), (0, 0)]
    assert [event.vector for event in events(made, KvmEoi)] == [0x61, 0x51, -1]


@pytest.mark.parametrize("vector", [0, 1, 5, 15])
def test_low_vectors_are_requested_without_an_error(vector):
    """live 6.18.44: IRR is set, ESR stays 0, nothing is ever delivered."""
    made = booted()
    assert made.signal_msi(MSI, vector) == 1
    made.run()
    assert (irr(made), events(made, HandlerEnter)) == ([{vector}], [])


@settings(max_examples=40, deadline=None)
@given(st.sets(st.integers(0x20, 0xFE), min_size=1, max_size=8), st.sampled_from(SERIES))
def test_vectors_sent_while_interrupts_are_off_come_in_descending_order(sent, kernel):
    """recorded 6.12.95, 7.3.4 (S13): highest first, each once, as a handler runs to its EOI with IF clear."""
    made = booted(kernel=kernel, stacks=False)
    guest = made.vcpus[0].guest
    guest.cli()
    for vector in sent:
        guest.wrmsr(0x83F, vector)
    assert irr(made) == [sent]
    guest.sti()
    made.run()
    assert [event.vector for event in events(made, HandlerEnter)] == sorted(sent, reverse=True)
    assert (irr(made), made.vcpus[0].lapic.isr) == ([set()], 0)


@settings(max_examples=40, deadline=None)
@given(st.sets(st.integers(0x20, 0xFE), min_size=1, max_size=8), st.integers(0, 15))
def test_tpr_holds_back_its_class_and_below_until_it_drops(sent, cr8):
    """source 6.18.35: delivered now: the classes above CR8; the rest when CR8 drops to 0."""
    made = booted(stacks=False)
    guest = made.vcpus[0].guest
    guest.write_cr8(cr8)
    guest.cli()
    for vector in sent:
        guest.wrmsr(0x83F, vector)
    guest.sti()
    made.run()
    above = sorted((v for v in sent if v >> 4 > cr8), reverse=True)
    assert [event.vector for event in events(made, HandlerEnter)] == above
    guest.write_cr8(0)
    made.run()
    assert sorted(e.vector for e in events(made, HandlerEnter)) == sorted(sent)


@settings(max_examples=40, deadline=None)
@given(st.sets(st.integers(0x20, 0xFE), min_size=2, max_size=6))
def test_without_eoi_only_higher_classes_interrupt(sent):
    """PPR law: with handlers that send no EOI and set IF, what is taken has ever higher classes."""
    made = booted(stacks=False)
    made.world.bodies["open"] = made.world.bodies["none"]
    made.world.idt[0] = dict.fromkeys(sent, "open")
    guest = made.vcpus[0].guest
    for vector in sorted(sent):
        guest.wrmsr(0x83F, vector)
        made.run()
    classes = [event.vector >> 4 for event in events(made, Ack)]
    assert classes == sorted({v >> 4 for v in sent})
