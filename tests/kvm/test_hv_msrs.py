"""Hyper-V's MSRs for the local APIC, and the assist page: what they cost with AVIC, and without.

All by source: arch/x86/kvm/hyperv.c and lapic.c, 6.1.176, 6.12.117, 7.2.13 and 7.3.4; nothing of it is recorded.
"""

import pytest

from kvmmodel import GuestFault, Host
from kvmmodel.events import AvicClearIsr, ClearIsr, KvmApicIpi, KvmAvicIncompleteIpi, KvmExit, KvmPvEoi, PvEoiArm
from kvmmodel.guest.program import parse
from tests.machines import MSI, SERIES, events

EOI, ICR, TPR, ASSIST = 0x40000070, 0x40000071, 0x40000072, 0x40000073
PAGE = 0x8000


def seen(vcpus=1, kernel="7.3", *, avic=False, x2apic=True, hyperv=True):
    return Host(kernel=kernel, avic=avic).create_vm(vcpus, boot=True, x2apic=x2apic, hyperv=hyperv)


def exits(made):
    return [event.reason for event in events(made, KvmExit)]


@pytest.mark.parametrize("kernel", SERIES)
@pytest.mark.parametrize("x2apic", [True, False])
def test_the_msrs_are_the_registers_in_either_mode_of_the_apic(kernel, x2apic):
    made = seen(2, kernel, x2apic=x2apic)
    guest = made.vcpus[0].guest
    guest.wrmsr(TPR, 0x30)
    assert (guest.rdmsr(TPR), made.vcpus[0].lapic.tpr) == (0x30, 0x30)
    guest.wrmsr(ICR, (1 if x2apic else 1 << 24) << 32 | 0x41)
    made.run()
    assert made.vcpus[1].guest.handled[0x41] == 1
    assert guest.rdmsr(ICR) & 0xFF == 0x41


@pytest.mark.parametrize("avic", [False, True])
def test_eoi_by_msr_exits_and_clears_the_isr_with_avic_too(avic):
    """With AVIC the register's own write would not exit: this one does, and KVM clears the bit in the shared page."""
    made = seen(avic=avic)
    made.world.idt[0] = {0x41: "none"}
    made.signal_msi(MSI, 0x41)
    made.run()
    before = exits(made)
    made.vcpus[0].guest.wrmsr(EOI, 0)
    assert made.vcpus[0].lapic.isr == 0
    assert exits(made)[len(before) :].count("msr") == 1
    assert (len(events(made, ClearIsr)), len(events(made, AvicClearIsr))) == (1, 0)


def test_an_ipi_by_msr_is_kvms_with_avic_too():
    """Two vCPUs in the guest: hardware would deliver a write to ICR all by itself."""
    made = seen(2, avic=True)
    made.execute(1, ("busy 0x41 1",))
    made.execute(0, (f"wrmsr HV_ICR {1 << 32 | 0x41:#x}",))
    made.run()
    assert made.vcpus[1].guest.handled[0x41] == 1
    assert (len(events(made, KvmApicIpi)), events(made, KvmAvicIncompleteIpi)) == (1, [])


@pytest.mark.parametrize(("avic", "armed"), [(False, True), (True, False)])
def test_the_assist_pages_bit_is_pv_eois_and_like_it_is_not_armed_while_avic_is_active(avic, armed):
    made = seen(avic=avic)
    made.execute(0, (f"hv_assist_on {PAGE:#x}",))
    made.run()
    made.signal_msi(MSI, 0x41)
    made.run()
    assert bool(events(made, PvEoiArm)) == armed
    assert made.vcpus[0].get_msr(ASSIST) == PAGE | 1


def test_the_guest_ends_an_interrupt_by_the_bit_and_only_else_by_the_msr():
    made = seen()
    made.world.bodies["hv"] = (parse("hv_eoi"),)
    made.world.idt[0] = {0x41: "hv", 0x42: "hv"}
    made.execute(0, (f"hv_assist_on {PAGE:#x}",))
    made.run()
    made.signal_msi(MSI, 0x41)
    made.run()
    made.vcpus[0].guest.rdmsr(TPR)  # some exit, after which KVM finds the bit clear
    assert [event.vector for event in events(made, KvmPvEoi)] == [0x41]
    made.vcpus[0].guest.wrmsr(ASSIST, 0)
    made.world.pv_eoi.clear()
    made.signal_msi(MSI, 0x42)
    made.run()
    assert len(events(made, KvmPvEoi)) == 1
    assert made.vcpus[0].lapic.isr == 0


def test_a_guest_that_does_not_see_hyper_v_has_none_of_them():
    made = seen(hyperv=False)
    for msr in (EOI, ICR, TPR, ASSIST):
        with pytest.raises(GuestFault, match="exception 13"):
            made.vcpus[0].guest.wrmsr(msr, 0)
        with pytest.raises(GuestFault, match="exception 13"):
            made.vcpus[0].guest.rdmsr(msr)
