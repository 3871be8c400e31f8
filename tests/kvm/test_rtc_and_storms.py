"""What the IOAPIC does for guests that are late: the RTC's interrupts count as coalesced, a storm is slowed down.

source: arch/x86/kvm/ioapic.c, 6.12.117 and 7.3.4.
"""

import pytest

from kvmmodel.events import KvmIoapicDelayedEoiInj
from kvmmodel.kvm.ioapic import IOAPIC_SUCCESSIVE_IRQ_MAX_COUNT, RTE_LEVEL, kvm_ioapic_update_eoi
from kvmmodel.kvm.ioapic_registers import entries_of, with_entry
from tests.machines import ISR, SVR, changed, events, load, vm

RTC, VECTOR, REMOTE_IRR = 8, 0x48, 1 << 14


def with_pin(pin, entry, **options):
    made = vm(1, **options)
    load(made.vcpus[0], {SVR: 0x1FF})
    made.set_irqchip(2, with_entry(made.get_irqchip(2), pin, entry))
    made.vcpus[0].guest.nop()  # an entry: the vCPU finds out which EOIs the IOAPIC wants
    return made


def pulse(made):
    result = made.irq_line(RTC, True)
    made.irq_line(RTC, False)
    return result


def test_the_rtc_is_coalesced_until_its_eoi():
    """The 8259 takes the first edge and, as nobody acknowledges it, no other; the rest is the IOAPIC's."""
    made = with_pin(RTC, VECTOR)
    made.vcpus[0].guest.cli()
    assert [pulse(made), pulse(made)] == [2, 0]
    made.vcpus[0].guest.sti()
    made.vcpus[0].guest.nop()
    made.run()
    assert made.vcpus[0].guest.handled[VECTOR] == 1
    assert pulse(made) == 2


def test_a_restored_apic_says_whether_it_is_owed():
    """KVM_SET_LAPIC: the tracking follows what IRR and ISR hold."""
    made = with_pin(RTC, VECTOR)
    vcpu = made.vcpus[0]
    vcpu.set_lapic(changed(vcpu.get_lapic(), banks={ISR: {VECTOR}}))
    assert pulse(made) == 1
    vcpu.set_lapic(changed(vcpu.get_lapic(), banks={ISR: set()}))
    assert pulse(made) == 1


def test_other_edges_are_not_tracked():
    made = with_pin(7, VECTOR)
    made.vcpus[0].guest.cli()
    results = []
    for _ in range(2):
        results.append(made.irq_line(7, True))
        made.irq_line(7, False)
    assert results == [2, 1]


def test_a_line_that_nobody_quiets_is_slowed_down():
    """After 10,000 EOIs that find it up the next message comes 10 ms later, by a work item."""
    made = with_pin(20, VECTOR | RTE_LEVEL)
    kvm, vcpu = made.machine.kvm, made.vcpus[0].kvm_vcpu
    made.irq_line(20, True)
    for i in range(IOAPIC_SUCCESSIVE_IRQ_MAX_COUNT):
        assert entries_of(made.get_irqchip(2))[20] & REMOTE_IRR, i
        kvm_ioapic_update_eoi(vcpu, kvm.ioapic, VECTOR, True)
    assert not entries_of(made.get_irqchip(2))[20] & REMOTE_IRR
    assert len(events(made, KvmIoapicDelayedEoiInj)) == 1
    before = made.machine.now
    assert made.run(until=lambda: entries_of(made.get_irqchip(2))[20] & REMOTE_IRR)
    assert made.machine.now - before == pytest.approx(10_000_000, rel=0.01)


def test_a_quiet_line_starts_the_count_anew():
    made = with_pin(20, VECTOR | RTE_LEVEL)
    kvm, vcpu = made.machine.kvm, made.vcpus[0].kvm_vcpu
    made.irq_line(20, True)
    kvm_ioapic_update_eoi(vcpu, kvm.ioapic, VECTOR, True)
    assert kvm.ioapic.irq_eoi[20] == 1
    made.irq_line(20, False)
    kvm_ioapic_update_eoi(vcpu, kvm.ioapic, VECTOR, True)
    assert kvm.ioapic.irq_eoi[20] == 0
