"""Reset values and APIC_BASE."""

import pytest

from kvmmodel import GuestFault, MsrError
from tests.machines import (
    APIC_BASE,
    DFR,
    ESR,
    ICR,
    ID,
    IRR,
    LDR,
    LVR,
    LVT0,
    LVT1,
    LVTERR,
    LVTPC,
    LVTT,
    LVTTHMR,
    PPR,
    SERIES,
    SVR,
    TDCR,
    TMCCT,
    TMICT,
    TPR,
    booted,
    irr,
    load,
    vm,
    word,
    x2apic,
)

ZERO = (TPR, PPR, LDR, ESR, ICR, TMICT, TMCCT, TDCR)
MASKED = (LVTT, LVTTHMR, LVTPC, LVT1, LVTERR)
RESET = [
    {ID: 0, LVT0: 0x700},
    {ID: 0x01000000, LVT0: 0x10000},
]


@pytest.mark.parametrize("kernel", SERIES)
@pytest.mark.parametrize("vcpu", [0, 1])
def test_reset_values(kernel, vcpu):
    """live 6.18.44: a page right after KVM_CREATE_VCPU. LINT0 of the BSP is open for the 8259."""
    page = vm(2, kernel).vcpus[vcpu].get_lapic()
    expected = RESET[vcpu] | dict.fromkeys(ZERO, 0) | dict.fromkeys(MASKED, 0x10000)
    expected |= {LVR: 0x50014, DFR: 0xFFFFFFFF, SVR: 0xFF}
    assert {register: word(page, register) for register in expected} == expected
    assert page == vm(2, kernel).vcpus[vcpu].get_lapic()


@pytest.mark.parametrize(("vcpu", "base"), [(0, 0xFEE00900), (1, 0xFEE00800)])
def test_reset_value_of_apic_base(vcpu, base):
    """live 6.18.44: enabled, xAPIC; bit 8 on the BSP."""
    assert vm(2).vcpus[vcpu].get_msr(APIC_BASE) == base


OFF, XAPIC, X2APIC = 0xFEE00000, 0xFEE00800, 0xFEE00C00


@pytest.mark.parametrize("host_initiated", [True, False])
@pytest.mark.parametrize("old", [OFF, XAPIC, X2APIC])
@pytest.mark.parametrize("new", [OFF, XAPIC, X2APIC])
def test_transitions_of_apic_base(old, new, host_initiated):
    """live 6.18.44: userspace may go anywhere; a guest neither from x2APIC to xAPIC nor from off to x2APIC."""
    vcpu = vm().vcpus[0]
    vcpu.set_msr(APIC_BASE, old)
    if host_initiated:
        vcpu.set_msr(APIC_BASE, new)
        assert vcpu.get_msr(APIC_BASE) == new
    elif (old, new) in ((X2APIC, XAPIC), (OFF, X2APIC)):
        with pytest.raises(GuestFault) as fault:
            vcpu.guest.wrmsr(APIC_BASE, new)
        assert (fault.value.vector, fault.value.error_code) == (13, 0)
        assert vcpu.get_msr(APIC_BASE) == old
    else:
        vcpu.guest.wrmsr(APIC_BASE, new)
        assert vcpu.get_msr(APIC_BASE) == new


@pytest.mark.parametrize("value", [0xFEE00400, 0xFEE00801, 0xFEE00A00, 1 << 60 | 0xFEE00800])
def test_reserved_bits_and_extd_without_en_are_refused(value):
    """source 6.18.35: also to userspace."""
    with pytest.raises(MsrError):
        vm().vcpus[0].set_msr(APIC_BASE, value)


def test_x2apic_needs_its_cpuid_bit():
    """source 6.18.35: without it EXTD is a reserved bit."""
    with pytest.raises(MsrError):
        vm(x2apic=False).vcpus[0].set_msr(APIC_BASE, X2APIC)


def test_ids_on_the_way_to_x2apic_and_back():
    """live 6.18.44: the ID is the vcpu_id in each mode; LDR keeps the x2APIC value on the way back."""
    vcpu = vm(2).vcpus[1]
    vcpu.set_msr(APIC_BASE, X2APIC)
    assert (vcpu.get_msr(0x802), vcpu.get_msr(0x80D)) == (1, 2)
    vcpu.set_msr(APIC_BASE, XAPIC)
    page = vcpu.get_lapic()
    assert (word(page, ID), word(page, LDR)) == (1 << 24, 2)


def test_the_x2apic_ldr_is_cluster_and_bit():
    """x2APIC specification: LDR = (id >> 4) << 16 | 1 << (id & 15)."""
    made = x2apic(18)
    assert [v.get_msr(0x80D) for v in (made.vcpus[3], made.vcpus[15], made.vcpus[17])] == [8, 0x8000, 0x10002]


def test_requests_survive_software_disable_and_x2apic():
    """live 6.18.44: IRR is kept through SVR := 0xff and the change to x2APIC."""
    made = x2apic(1)
    vcpu = made.vcpus[0]
    vcpu.set_msr(APIC_BASE, XAPIC)
    load(vcpu, {SVR: 0x1FF}, {IRR: [0x41]})
    load(vcpu, {SVR: 0xFF})
    vcpu.set_msr(APIC_BASE, X2APIC)
    assert irr(made) == [{0x41}]
    vcpu.set_msr(APIC_BASE, OFF)
    assert irr(made) == [{0x41}]


def test_another_base_inhibits_apicv_for_good():
    """source 6.18.35: APIC_BASE_MODIFIED is sticky."""
    made = vm(avic=True)
    made.vcpus[0].set_msr(APIC_BASE, 0xFEF00800)
    made.vcpus[0].set_msr(APIC_BASE, XAPIC)
    assert "APIC_BASE_MODIFIED" in made.inhibits


def test_init_keeps_the_mode_and_the_id():
    """source 6.18.35: kvm_lapic_reset with init_event leaves APIC_BASE; SVR and IRR are reset."""
    made = booted(2)
    target = made.vcpus[1]
    made.vcpus[0].guest.wrmsr(0x830, 1 << 32 | 0x4500)
    made.run()
    assert target.get_msr(APIC_BASE) == X2APIC
    assert (target.get_msr(0x802), target.get_msr(0x80F), target.lapic.irr) == (1, 0xFF, 0)


def test_the_vcpu_ids_are_userspaces_choice():
    made = vm(2, ids=[7, 254])
    assert [(v.id, v.get_msr(APIC_BASE), v.lapic.regs[ID]) for v in made.vcpus] == [
        (7, 0xFEE00800, 7 << 24),
        (254, 0xFEE00800, 254 << 24),
    ]
    with pytest.raises(ValueError, match="different ids"):
        vm(2, ids=[1, 1])


@pytest.mark.parametrize(("width", "refused"), [(36, True), (40, False)])
def test_a_base_beyond_the_physical_address_width_is_refused(width, refused):
    vcpu = vm(maxphyaddr=width).vcpus[0]
    if refused:
        with pytest.raises(MsrError):
            vcpu.set_msr(APIC_BASE, 1 << 38 | 0x900)
    else:
        vcpu.set_msr(APIC_BASE, 1 << 38 | 0x900)


def test_userspace_sets_the_state_of_a_vcpu():
    made = vm(2)
    made.vcpus[1].set_mp_state("runnable")
    made.vcpus[1].guest.nop()
    with pytest.raises(ValueError, match="unknown state 'tired'"):
        made.vcpus[1].set_mp_state("tired")


def init(made, who=0):
    """An INIT for a vCPU, taken."""
    made.signal_msi(0xFEE00000 | who << 12, 0x500)
    made.run()


def test_an_init_and_the_icr_of_an_x2apic():
    """source 5.10.13 and 6.18.35 kvm_lapic_reset: the reset is one 64-bit write, which misses a high half at 0x310."""
    for kernel, left in (("5.10", 0), ("6.6", 0), ("6.18", 7 << 32)):
        made = booted(1, kernel)
        vcpu = made.vcpus[0]
        vcpu.guest.wrmsr(0x830, 7 << 32 | 0x41)
        init(made)
        assert vcpu.get_msr(0x830) == left


def test_an_init_keeps_what_kvm_does_not_know():
    """source 6.18.35 kvm_lapic_reset: register by register; reserved words that userspace loaded stay."""
    made = booted()
    vcpu = made.vcpus[0]
    load(vcpu, {0x40: 0xABCD, TPR: 0x20, TMICT: 5})
    init(made)
    page = vcpu.get_lapic()
    assert (word(page, 0x40), word(page, TPR), word(page, TMICT), word(page, SVR)) == (0xABCD, 0, 0, 0xFF)


def test_an_init_does_not_forget_an_expired_deadline():
    """source 6.18.35 kvm_lapic_reset: expired_tscdeadline is left alone, unlike in kvm_apic_set_state."""
    made = booted()
    made.vcpus[0].lapic.timer.expired_tscdeadline = 5
    init(made)
    assert made.vcpus[0].lapic.timer.expired_tscdeadline == 5


def test_the_id_after_userspace_leaves_x2apic_mode():
    """source 5.10.13, late 5.15 and 6.18.35 kvm_lapic_set_base: older releases leave the 32-bit ID in the register."""
    for kernel, ident in (("5.10", 1), ("6.1", 1), ("6.6", 1 << 24)):
        vcpu = x2apic(2, kernel).vcpus[1]
        vcpu.set_msr(APIC_BASE, 0xFEE00800)
        assert word(vcpu.get_lapic(), ID) == ident
