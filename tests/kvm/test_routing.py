"""GSI routing: which tables KVM takes; and an irqfd whose line stays up until the EOI."""

import pytest

from kvmmodel.events import KvmSetIrq
from kvmmodel.kvm.ioapic import RTE_LEVEL
from kvmmodel.kvm.ioapic_registers import lines_of, with_entry
from kvmmodel.kvm.irqchip import IoapicRoute, MsiRoute
from tests.machines import MSI, SVR, events, load, vm

MESSAGE = MsiRoute(MSI, 0x41)


@pytest.mark.parametrize(
    "table",
    [
        {24: [MESSAGE, IoapicRoute(3)]},
        {24: [IoapicRoute(3), MESSAGE]},
        {24: [MESSAGE, MESSAGE]},
        {24: [IoapicRoute(3), IoapicRoute(4)]},
        {24: [IoapicRoute(24)]},
        {4096: [MESSAGE]},
    ],
)
def test_a_gsi_reaches_one_pin_of_a_chip_or_one_message(table):
    made = vm()
    before = made.machine.kvm.routing
    assert made.set_gsi_routing(table) == -22
    assert made.machine.kvm.routing == before


def test_a_table_replaces_the_one_before():
    made = vm()
    load(made.vcpus[0], {SVR: 0x1FF})
    assert made.set_gsi_routing({30: [MESSAGE]}) == 0
    assert made.irq_line(30, True) == 1
    assert made.irq_line(20, True) == -1


def test_a_resampling_irqfd_keeps_the_line_up_until_the_eoi():
    made, told = vm(), []
    guest = made.vcpus[0].guest
    load(made.vcpus[0], {SVR: 0x1FF})
    made.set_irqchip(2, with_entry(made.get_irqchip(2), 20, 0x41 | RTE_LEVEL))
    made.irqfd_resample(20, lambda: told.append(lines_of(made.get_irqchip(2))))
    made.eventfd_write(20)
    assert lines_of(made.get_irqchip(2)) == 1 << 20
    assert not told
    guest.sti()
    guest.nop()
    made.run()
    assert guest.handled == {0x41: 1}
    assert told == [0]


def test_resampling_irqfds_of_a_gsi_share_one_source_and_one_notifier():
    """source 6.12.117 kvm_irqfd_assign, irqfd_resampler_ack: lowered once, then every eventfd is signalled. The model
    had one notifier each, so that the second one lowered a line that the first one's owner had just raised."""
    made, told = vm(), []
    load(made.vcpus[0], {SVR: 0x1FF})
    made.set_irqchip(2, with_entry(made.get_irqchip(2), 20, 0x41 | RTE_LEVEL))

    def wants_more():
        told.append("a")
        if told.count("a") == 1:
            made.eventfd_write(20)

    made.irqfd_resample(20, wants_more)
    made.irqfd_resample(20, lambda: told.append("b"))
    made.eventfd_write(20)
    made.vcpus[0].guest.sti()
    made.vcpus[0].guest.nop()
    made.run()
    assert told == ["a", "b"] * 2
    assert [(e.level, e.irq_source_id) for e in events(made, KvmSetIrq)] == [(1, 1), (0, 1), (1, 1), (0, 1)]
    assert made.vcpus[0].guest.handled == {0x41: 2}
