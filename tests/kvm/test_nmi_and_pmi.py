"""Interrupts that come neither from a device nor from another vCPU: KVM_NMI, and a performance counter's LVT entry."""

import pytest

from tests.machines import LVTPC, SVR, booted, load, msr, vm, word

MASKED, NMI = 0x10000, 0x400


def test_kvm_nmi_reaches_a_vcpu_that_sleeps_with_interrupts_off():
    """source: arch/x86/kvm/x86.c kvm_vcpu_ioctl_nmi. Neither IF nor the local APIC's state matters."""
    made = vm()
    guest = made.vcpus[0].guest
    guest.cli()
    guest.hlt()
    made.vcpus[0].nmi()
    made.run()
    assert guest.handled == {2: 1}


@pytest.mark.parametrize(("entry", "handled"), [(0x41, {0x41: 1}), (NMI, {2: 1}), (MASKED | 0x41, {})])
def test_an_overflowing_counter_does_what_lvtpc_says(entry, handled):
    made = booted(1)
    guest = made.vcpus[0].guest
    guest.wrmsr(msr(LVTPC), entry)
    made.vcpus[0].perf_overflow()
    made.run()
    assert guest.handled == handled


@pytest.mark.parametrize(
    ("kernel", "masks"), [("5.10", True), ("5.15", False), ("6.1", False), ("6.6", True), ("6.12", False)]
)
def test_whether_it_masks_the_entry(kernel, masks):
    """source: arch/x86/kvm/lapic.c kvm_apic_local_deliver; on AMD it is not to."""
    made = booted(1, kernel)
    made.vcpus[0].guest.wrmsr(msr(LVTPC), 0x41)
    made.vcpus[0].perf_overflow()
    made.run()
    assert bool(word(made.vcpus[0].get_lapic(), LVTPC) & MASKED) == masks


def test_it_wakes_a_vcpu_even_if_the_entry_is_masked():
    """source: kvm_vcpu_has_events tests the request. The vCPU halts again."""
    made = vm()
    load(made.vcpus[0], {SVR: 0x1FF})
    guest = made.vcpus[0].guest
    guest.sti()
    guest.hlt()
    made.vcpus[0].perf_overflow()
    made.run()
    assert guest.handled == {}
