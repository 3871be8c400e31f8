"""A split irqchip: userspace has the IOAPIC and the 8259s, KVM the local APICs.

source: arch/x86/kvm/irq.c, lapic.c and x86.c, 6.12.117 and 7.3.4.
"""

import pytest

from kvmmodel.events import KvmUserspaceExit, MakeRequest
from kvmmodel.kvm.irqchip import IoapicRoute, MsiRoute
from tests.machines import MSI, SVR, events, load, vm

LEVEL, EXTINT = 0xC000, 0x700
DIRECTED = 1 << 24


def split(kernel="6.18", **options):
    made = vm(1, kernel, irqchip="split", **options)
    load(made.vcpus[0], {SVR: 0x1FF})
    return made


def exits(made):
    seen = []
    made.user_exits.append(lambda vcpu: seen.append(vcpu.exit))
    return seen


def test_kvm_has_neither_chips_nor_routes():
    made = split()
    assert made.irq_line(0, True) == -1
    with pytest.raises(ValueError, match="split irqchip"):
        made.get_irqchip(2)
    assert made.set_gsi_routing({0: [IoapicRoute(0)]}) == -22
    assert made.set_gsi_routing({0: [MsiRoute(MSI, 0x41)]}) == 0
    assert made.irq_line(0, True) == 1


@pytest.mark.parametrize(
    ("gsi", "data", "told"), [(4, 0x41 | LEVEL, True), (4, 0x41, False), (24, 0x41 | LEVEL, False)]
)
def test_userspace_hears_of_the_eoi_of_its_level_pins(gsi, data, told):
    """KVM_EXIT_IOAPIC_EOI: only for the GSIs that userspace said are its IOAPIC's pins."""
    made = split()
    seen = exits(made)
    made.set_gsi_routing({gsi: [MsiRoute(MSI, data)]})
    guest = made.vcpus[0].guest
    guest.nop()
    made.irq_line(gsi, True)
    guest.sti()
    guest.nop()
    made.run()
    assert guest.handled == {0x41: 1}
    assert seen == ([("ioapic_eoi", 0x41)] if told else [])


def test_the_exit_comes_before_the_guest_runs_on():
    """And it is not one of the guest's: the EOI has been done."""
    made = split()
    made.set_gsi_routing({4: [MsiRoute(MSI, 0x41 | LEVEL)]})
    made.vcpus[0].guest.nop()
    state = []
    made.user_exits.append(lambda vcpu: state.append(vcpu.apic.isr))
    made.irq_line(4, True)
    made.vcpus[0].guest.sti()
    made.run()
    assert state == [0]
    assert [e.reason for e in events(made, KvmUserspaceExit)] == ["KVM_EXIT_IOAPIC_EOI"]


def test_an_extint_of_userspace():
    """KVM_INTERRUPT: one at a time, through LINT0; neither IRR nor ISR nor TPR has to do with it."""
    made = split()
    vcpu = made.vcpus[0]
    guest = vcpu.guest
    guest.write_cr8(15)
    guest.cli()
    assert vcpu.interrupt(0x31) == 0
    assert vcpu.interrupt(0x32) == -17
    assert vcpu.interrupt(256) == -22
    assert vcpu.lapic.irr == 0
    made.world.idt[0] = {0x31: "none"}
    guest.sti()
    guest.nop()
    made.run()
    assert (guest.handled, vcpu.lapic.isr) == ({0x31: 1}, 0)
    assert vcpu.interrupt(0x32) == 0


def test_with_the_8259s_in_the_kernel_there_is_no_kvm_interrupt():
    assert vm().vcpus[0].interrupt(0x31) == -6


def test_userspace_is_told_when_the_guest_takes_an_extint():
    """request_interrupt_window: the exit comes with IF, by way of a window."""
    made = split()
    vcpu, seen = made.vcpus[0], exits(made)
    vcpu.guest.cli()
    vcpu.request_interrupt_window()
    made.vcpus[0].guest.nop()
    assert seen == []
    made.user_exits.append(lambda vcpu: setattr(vcpu, "request_interrupt_window", False))
    vcpu.guest.sti()
    vcpu.guest.nop()
    made.run()
    assert seen == [("irq_window_open",)]


@pytest.mark.parametrize(
    ("flags", "kernel", "offered", "told"),
    [(0, "6.12", True, True), (0, "6.18", True, True), (4, "6.18", True, False), (8, "6.18", False, True)],
)
def test_whether_a_guest_may_suppress_eoi_broadcasts(flags, kernel, offered, told):
    """By default it is offered, and not respected."""
    made = vm(1, kernel, irqchip="split")
    made.enable_x2apic_api(flags)
    vcpu = made.vcpus[0]
    load(vcpu, {SVR: 0x1FF})
    seen = exits(made)
    made.set_gsi_routing({4: [MsiRoute(MSI, 0x41 | LEVEL)]})
    version = int.from_bytes(vcpu.get_lapic()[0x30:0x34], "little")
    assert bool(version & DIRECTED) == offered
    vcpu.guest.mmio_write(0xFEE000F0, 0x1FF | 1 << 12)
    made.irq_line(4, True)
    vcpu.guest.sti()
    made.run()
    assert bool(seen) == told


@pytest.mark.parametrize(("flags", "irqchip"), [(12, "split"), (4, "kernel"), (16, "split")])
def test_what_kvm_refuses_of_that(flags, irqchip):
    with pytest.raises(ValueError, match="KVM refuses flags"):
        vm(1, irqchip=irqchip).enable_x2apic_api(flags)


def test_a_changed_table_is_looked_at_by_every_vcpu():
    made = split()
    made.set_gsi_routing({})
    assert "SCAN_IOAPIC" in [e.request for e in events(made, MakeRequest)]
