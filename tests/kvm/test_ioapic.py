"""The IOAPIC: what a changed entry asks of whom, and which EOIs it has to hear of."""

import pytest

from kvmmodel.events import IoapicEntry, IoapicLine, KvmMsiSetIrq
from kvmmodel.kvm.eoi_scan import vcpu_scan_ioapic
from kvmmodel.kvm.ioapic import RTE_LEVEL, RTE_MASKED, RTE_REMOTE_IRR
from kvmmodel.kvm.ioapic_registers import entries_of, ioapic_mmio_write, lines_of
from kvmmodel.kvm.irqchip import MsiRoute
from kvmmodel.kvm.lapic.eoi import apic_set_eoi, apic_sync_pv_eoi_from_guest, apic_sync_pv_eoi_to_guest
from kvmmodel.kvm.requests import KVM_REQ_SCAN_IOAPIC
from tests.machines import IRR, ISR, MSI, SVR, events, load, vm, xapic

LOWEST, NMI = 0x100, 0x400


def write(made, register, value):
    for offset, datum in ((0, register), (0x10, value)):
        ioapic_mmio_write(made.machine.kvm, made.machine.kvm.ioapic, 0xFEC00000 + offset, datum)


def asked(made):
    """Which vCPUs have been asked to scan since this was asked last."""
    found = [v.id for v in made.vcpus if v.kvm_vcpu.requests >> KVM_REQ_SCAN_IOAPIC & 1]
    for vcpu in made.vcpus:
        vcpu.kvm_vcpu.requests = 0
    return found


@pytest.mark.parametrize(("mode", "first", "second"), [(0, [1], [1, 2]), (NMI, [0, 1, 2], [0, 1, 2])])
def test_a_changed_entry_asks_those_that_it_meant_or_means(mode, first, second):
    """source 6.18.35 ioapic_write_indirect: a fixed entry asks the old and new destination, another one everybody."""
    made = xapic(1, 2, 4)
    write(made, 0x10, RTE_MASKED | mode | 0x41)
    write(made, 0x11, 1 << 24)
    asked(made)
    write(made, 0x10, mode | 0x41)
    assert asked(made) == first
    write(made, 0x11, 2 << 24)
    assert asked(made) == second


@pytest.mark.parametrize(("kernel", "told", "sent"), [("6.1", 0, {0x41}), ("6.6", 1, set()), ("6.18", 1, set())])
def test_unmasking_a_line_that_waits_asks_its_resampler(kernel, told, sent):
    """source 6.18.35 ioapic_write_indirect; the release is recalled."""
    made, calls = xapic(1, kernel=kernel), []
    write(made, 0x10 + 40, RTE_MASKED | RTE_LEVEL | 0x41)
    made.irqfd_resample(20, lambda: calls.append(20))
    made.eventfd_write(20)
    write(made, 0x10 + 40, RTE_LEVEL | 0x41)
    assert (len(calls), {v for v in range(256) if made.vcpus[0].lapic.irr >> v & 1}) == (told, sent)
    assert (lines_of(made.get_irqchip(2)) == 0) == bool(told)


def test_the_eoi_of_the_rtc_is_always_heard():
    """source 6.18.35 kvm_ioapic_scan_entry: pin 8, though it is edge-triggered and nobody waits."""
    made = xapic(1)
    for pin in (7, 8):
        write(made, 0x10 + 2 * pin, 0x40 + pin)
    vcpu_scan_ioapic(made.vcpus[0].kvm_vcpu)
    assert made.vcpus[0].kvm_vcpu.ioapic_handled_vectors == {0x48}


@pytest.mark.parametrize(("kernel", "again"), [("6.12", []), ("6.18", [0])])
def test_the_eoi_of_a_vector_from_before_the_entry_changed_rescans(kernel, again):
    """source 6.18.35 kvm_scan_ioapic_irq, kvm_ioapic_send_eoi; the release is recalled."""
    made = xapic(1, 2, kernel=kernel)
    write(made, 0x11, 1 << 24)
    write(made, 0x10, RTE_LEVEL | 0x41)
    load(made.vcpus[0], banks={ISR: {0x41}})
    vcpu_scan_ioapic(made.vcpus[0].kvm_vcpu)
    asked(made)
    apic_set_eoi(made.vcpus[0].lapic)
    assert asked(made) == again


def test_a_message_whose_address_has_reserved_bits_is_no_route():
    """source 6.18.35 kvm_set_routing_entry, kvm_msi_route_invalid: with 32-bit IDs only."""
    made, route = vm(), {30: [MsiRoute(MSI | 1 << 32, 0x41)]}
    assert made.set_gsi_routing(route) == 0
    made.enable_x2apic_api(1)
    assert made.set_gsi_routing(route) == -22


def test_the_upper_half_of_an_address_is_traced_with_32_bit_ids_only():
    """source 6.18.35 kvm_msi_to_lapic_irq."""
    made = vm()
    made.signal_msi(MSI | 1 << 40, 0x41)
    made.enable_x2apic_api(1)
    made.signal_msi(MSI | 1 << 40, 0x41)
    assert [e.address for e in events(made, KvmMsiSetIrq)] == [MSI, MSI | 1 << 40]


def test_pv_eoi_writes_the_whole_byte():
    """source 6.18.35 pv_eoi_set_pending, pv_eoi_test_and_clr_pending: 1 to arm, 0 to disarm, nothing if it was used."""
    made = vm()
    vcpu, memory = made.vcpus[0].kvm_vcpu, made.machine.kvm.memory
    load(made.vcpus[0], {SVR: 0x1FF}, {IRR: set()})
    vcpu.pv_eoi_msr, vcpu.apic.irr_pending, vcpu.apic.highest_isr_cache = 0x1001, False, 0x41
    memory[0x1000] = 0xFE
    apic_sync_pv_eoi_to_guest(vcpu, vcpu.apic)
    assert memory[0x1000] == 1
    apic_sync_pv_eoi_from_guest(vcpu, vcpu.apic)
    assert memory[0x1000] == 0
    apic_sync_pv_eoi_to_guest(vcpu, vcpu.apic)
    memory[0x1000] = 0xFE
    apic_sync_pv_eoi_from_guest(vcpu, vcpu.apic)
    assert memory[0x1000] == 0xFE


def test_what_a_pin_says_of_itself():
    """Its line, as the OR of its sources, and its entry: each change is one event, and no change is none."""
    made = xapic(1)
    write(made, 0x10 + 40, RTE_LEVEL | 0x41)
    made.irqfd_resample(20, lambda: None)
    for source in (made.irq_line, made.irq_line, lambda gsi, up: made.eventfd_write(gsi)):
        source(20, True)
    made.irq_line(20, False)
    assert [e.sources for e in events(made, IoapicLine)] == [(0,), (0, 1), (1,)]
    remote = RTE_LEVEL | RTE_REMOTE_IRR | 0x41
    assert [(e.old, e.e) for e in events(made, IoapicEntry)] == [
        (RTE_MASKED, RTE_LEVEL | 0x41),
        (RTE_LEVEL | 0x41, remote),
    ]
    write(made, 0x10 + 40, RTE_MASKED | 0x41)
    assert entries_of(made.get_irqchip(2))[20] == RTE_MASKED | 0x41


@pytest.mark.parametrize(("broken", "remote"), [((), 0), (("no-ioapic-eoi",), RTE_REMOTE_IRR)])
def test_an_eoi_that_is_not_passed_on_leaves_remote_irr(broken, remote):
    made = xapic(1, broken=broken)
    write(made, 0x10 + 40, RTE_LEVEL | 0x41)
    made.irq_line(20, True)
    made.irq_line(20, False)
    load(made.vcpus[0], banks={ISR: {0x41}, IRR: set()})
    vcpu_scan_ioapic(made.vcpus[0].kvm_vcpu)
    apic_set_eoi(made.vcpus[0].lapic)
    assert entries_of(made.get_irqchip(2))[20] & RTE_REMOTE_IRR == remote
    assert made.irq_line(20, True) == (-1 if remote else 1)
