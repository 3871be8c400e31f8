"""KVM_GET_LAPIC and KVM_SET_LAPIC: bit for bit, with their side effects."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvmmodel.kvm.lapic.priority import kvm_apic_has_interrupt
from kvmmodel.kvm.requests import KVM_REQ_EVENT
from tests.machines import (
    ID,
    IRR,
    ISR,
    LDR,
    LVR,
    PPR,
    SVR,
    TMCCT,
    TMICT,
    TMR,
    TPR,
    X2APIC_ON,
    bank,
    changed,
    load,
    msr,
    vm,
    word,
    x2apic,
)

WORDS = [4 * i for i in range(256)]
OWN = {LVR, PPR, TMCCT}  # what KVM writes itself
TIMER_OFF = {TMICT: 0}


@given(st.binary(min_size=1024, max_size=1024))
def test_a_page_comes_back_bit_for_bit(raw):
    """live 6.18.44: all is stored raw, reserved words, SVR and ESR too; KVM writes LVR, PPR and TMCCT itself."""
    vcpu = vm(trace=False).vcpus[0]
    page = changed(raw, TIMER_OFF)
    vcpu.set_lapic(page)
    found = vcpu.get_lapic()
    assert {r for r in WORDS if word(found, r) != word(page, r)} <= OWN
    assert word(found, LVR) == 0x50014
    vcpu.set_lapic(found)
    assert [word(vcpu.get_lapic(), r) for r in WORDS if r != PPR] == [word(found, r) for r in WORDS if r != PPR]


@given(st.sets(st.integers(16, 255)), st.sets(st.integers(16, 255)), st.sets(st.integers(0, 255)))
def test_the_banks_of_a_page_are_the_models_ints(irr, isr, tmr):
    vcpu = vm(trace=False).vcpus[0]
    load(vcpu, banks={IRR: irr, ISR: isr, TMR: tmr})
    assert (vcpu.lapic.irr, vcpu.lapic.isr, vcpu.lapic.tmr) == tuple(sum(1 << v for v in s) for s in (irr, isr, tmr))
    page = vcpu.get_lapic()
    assert (bank(page, IRR), bank(page, ISR), bank(page, TMR)) == (irr, isr, tmr)


def test_ppr_is_stale_after_isr_was_loaded():
    """live 6.18.44: PPR is computed before the cached ISR; the same page again, or RDMSR, gives the right one."""
    vcpu = x2apic(1).vcpus[0]
    page = changed(vcpu.get_lapic(), {TPR: 0x20}, {ISR: [0x51]})
    vcpu.set_lapic(page)
    assert word(vcpu.get_lapic(), PPR) == 0x20
    vcpu.set_lapic(page)
    assert word(vcpu.get_lapic(), PPR) == 0x50
    vcpu.set_lapic(changed(page, banks={ISR: []}))
    assert word(vcpu.get_lapic(), PPR) == 0x20
    vcpu.set_lapic(page)
    assert vcpu.get_msr(msr(PPR)) == 0x50


def test_set_lapic_asks_for_an_event_pass():
    """source 6.18.35: what is in the page's IRR will be looked at."""
    vcpu = vm().vcpus[0]
    vcpu.kvm_vcpu.requests = 0
    load(vcpu)
    assert vcpu.kvm_vcpu.requests >> KVM_REQ_EVENT & 1


def test_x2apic_id_in_the_old_format():
    """live 6.18.44: vcpu_id << 24; the page's ID is ignored, LDR is always recomputed."""
    vcpu = x2apic(2).vcpus[1]
    assert word(vcpu.get_lapic(), ID) == 1 << 24
    load(vcpu, {ID: 7 << 24, LDR: 0x777})
    assert (vcpu.get_msr(msr(ID)), vcpu.get_msr(msr(LDR))) == (1, 2)


def test_x2apic_id_with_32_bits():
    """live 6.18.44: the vcpu_id; another one is refused (EINVAL)."""
    made = x2apic(2)
    made.enable_x2apic_api(1)
    page = made.vcpus[1].get_lapic()
    assert word(page, ID) == 1
    with pytest.raises(ValueError, match="ID is 7"):
        made.vcpus[1].set_lapic(changed(page, {ID: 7}))


def test_only_a_page_of_1024_bytes_is_taken():
    with pytest.raises(ValueError, match="1024 bytes, not 1020"):
        vm().vcpus[0].set_lapic(struct.pack("<255I", *[0] * 255))


def test_loading_a_page_moves_the_vcpu_in_the_map():
    """source 6.18.35: kvm_apic_set_state rebuilds the map; an ID that is not the vcpu_id inhibits APICv."""
    made = vm(2, avic=True)
    load(made.vcpus[1], {ID: 5 << 24, SVR: 0x1FF})
    assert (made.signal_msi(0xFEE05000, 0x41), made.signal_msi(0xFEE01000, 0x41)) == (1, 0)
    assert "APIC_ID_MODIFIED" in made.inhibits


def test_hardware_disable_keeps_the_page():
    """live 6.18.44: APIC_BASE off keeps IRR and the registers."""
    vcpu = x2apic(1).vcpus[0]
    load(vcpu, {TPR: 0x30}, {IRR: [0x41]})
    vcpu.set_msr(0x1B, 0xFEE00000)
    page = vcpu.get_lapic()
    assert (bank(page, IRR), word(page, TPR), word(page, SVR)) == ({0x41}, 0x30, 0x1FF)
    assert X2APIC_ON & vcpu.get_msr(0x1B) == 0xFEE00000


def test_a_page_refused_has_switched_the_apic_all_the_same():
    """source 6.18.35 kvm_apic_set_state: SPIV is set before the ID is compared."""
    made = x2apic(1)
    made.enable_x2apic_api(1)
    vcpu = made.vcpus[0]
    with pytest.raises(ValueError, match="must be the vCPU's"):
        load(vcpu, {ID: 9, SVR: 0xFF})
    assert (vcpu.lapic.sw_enabled, vcpu.get_msr(msr(SVR))) == (False, 0xFF)


@pytest.mark.parametrize(
    ("kernel", "seen"),
    [("5.10", True), ("5.15", True), ("6.1.118", False), ("6.6", False), ("6.1.119", True), ("6.12", True)],
)
def test_whether_an_irr_that_was_loaded_is_seen(kernel, seen):
    """source 5.10.13, 6.6.9, 6.18.35 kvm_apic_update_apicv; Debian changelog 6.1.119: some leave irr_pending false."""
    vcpu = vm(1, kernel).vcpus[0]
    load(vcpu, {SVR: 0x1FF}, {IRR: {0x41}})
    assert (kvm_apic_has_interrupt(vcpu.kvm_vcpu) == 0x41) == seen
