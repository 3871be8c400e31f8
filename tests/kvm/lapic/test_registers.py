"""Which registers can be read and written, what is stored, and where #GP comes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvmmodel import GuestFault, MsrError
from kvmmodel.kvm.lapic.access import apic_mmio_read, apic_mmio_write
from tests.machines import (
    APIC_BASE,
    DFR,
    EOI,
    ESR,
    ICR,
    ICR2,
    ID,
    LDR,
    LVR,
    LVT0,
    LVT1,
    LVTERR,
    LVTPC,
    LVTT,
    LVTTHMR,
    PPR,
    RELEASES,
    SELF_IPI,
    SERIES,
    SVR,
    TDCR,
    TPR,
    booted,
    irr,
    load,
    msr,
    vm,
    word,
    x2apic,
)

READABLE = {0x802, 0x803, 0x808, 0x80A, 0x80D, 0x80F, *range(0x810, 0x829), 0x830, *range(0x832, 0x83A), 0x83E}
WRITABLE = {0x808, 0x80B, 0x80F, 0x828, 0x830, *range(0x832, 0x839), 0x83E, 0x83F}


def refused(call, *args):
    try:
        call(*args)
    except (MsrError, GuestFault):
        return True
    return False


@pytest.mark.parametrize("kernel", SERIES)
def test_x2apic_registers_that_can_be_read(kernel):
    """live 6.18.44: 802 803 808 80a 80d 80f 810-828 830 832-839 83e."""
    vcpu = x2apic(1, kernel).vcpus[0]
    assert {i for i in range(0x800, 0x900) if not refused(vcpu.get_msr, i)} == READABLE


@pytest.mark.parametrize("kernel", SERIES)
def test_x2apic_registers_that_can_be_written(kernel):
    """live 6.18.44: 808 80b 80f 828 (0 only) 830 832-838 83e 83f."""
    vcpu = x2apic(1, kernel).vcpus[0]
    assert {i for i in range(0x800, 0x900) if not refused(vcpu.set_msr, i, 0)} == WRITABLE


def test_no_x2apic_register_in_xapic_mode():
    """source 6.18.35: the whole range is #GP."""
    vcpu = vm().vcpus[0]
    assert all(refused(vcpu.get_msr, i) and refused(vcpu.set_msr, i, 0) for i in range(0x800, 0x840))


@pytest.mark.parametrize(
    ("kernel", "gp"),
    [
        ("5.10", False),
        ("5.15", False),
        ("6.1.15", False),
        ("6.1.16", True),
        ("6.6", True),
        ("6.12", True),
        ("7.3", True),
    ],
)
def test_the_upper_half_of_an_x2apic_write(kernel, gp):
    """Debian changelog 6.1.16: bits 63:32 get #GP; before, they were dropped."""
    vcpu = x2apic(1, kernel).vcpus[0]
    assert refused(vcpu.set_msr, msr(TPR), 1 << 32 | 0x20) is gp
    assert vcpu.get_msr(msr(TPR)) == (0 if gp else 0x20)
    assert refused(vcpu.set_msr, msr(SELF_IPI), 0x141) is gp


@pytest.mark.parametrize("bit", [1 << 13, 1 << 16, 1 << 17, 1 << 20, 1 << 31])
@pytest.mark.parametrize("kernel", RELEASES)
def test_reserved_bits_of_the_x2apic_icr(kernel, bit):
    """live 6.18.44: #GP. Debian changelog 6.1.113: since then; 5.10, 5.15 and 6.6.9 take them."""
    vcpu = x2apic(1, kernel).vcpus[0]
    assert refused(vcpu.set_msr, msr(ICR), bit | 0x41) is (kernel not in ("5.10", "5.15", "6.6"))


@pytest.mark.parametrize("bit", [1 << 12, 1 << 14, 1 << 15, 1 << 18, 1 << 19])
def test_other_bits_of_the_x2apic_icr_are_taken(bit):
    """live 6.18.44: bit 12 (BUSY) is accepted and cleared."""
    vcpu = x2apic(1).vcpus[0]
    vcpu.set_msr(msr(ICR), bit | 0x41)
    assert vcpu.get_msr(msr(ICR)) == (bit | 0x41) & ~(1 << 12)


@pytest.mark.parametrize(
    ("kernel", "high_at"),
    [("5.10", ICR2), ("5.15", ICR2), ("6.1.16", 0x304), ("6.1", ICR2), ("6.6", 0x304), ("6.12", ICR2), ("7.3", ICR2)],
)
def test_where_the_x2apic_icr_is_kept(kernel, high_at):
    """source: one 64-bit value in 6.6.9, split in two registers on SVM in 6.1.192 and since 6.12."""
    vcpu = x2apic(2, kernel).vcpus[0]
    vcpu.set_msr(msr(ICR), 1 << 32 | 0x43)
    page = vcpu.get_lapic()
    assert {r for r in (0x304, ICR2) if word(page, r)} == {high_at, ICR2}  # userspace finds it at ICR2 in any case
    assert vcpu.lapic.regs.get(high_at) == 1
    assert vcpu.get_msr(msr(ICR)) == 1 << 32 | 0x43


@pytest.mark.parametrize("kernel", ["6.1.16", "6.6", "6.12"])
def test_set_lapic_takes_the_icr_from_where_the_xapic_has_it(kernel):
    """source: kvm_apic_state_fixup. Saved by one release, restored by another."""
    vcpu = x2apic(2, kernel).vcpus[0]
    load(vcpu, {ICR: 0x43, ICR2: 1})
    assert vcpu.get_msr(msr(ICR)) == 1 << 32 | 0x43


def test_self_ipi_leaves_icr_alone():
    """live 6.18.44."""
    made = x2apic(1)
    made.vcpus[0].set_msr(msr(SELF_IPI), 0x41)
    assert (irr(made), made.vcpus[0].get_msr(msr(ICR))) == ([{0x41}], 0)


def test_esr_takes_only_zero_and_stays_as_it_is():
    """live 6.18.44: KVM never sets ESR, and a write does not clear what KVM_SET_LAPIC loaded."""
    vcpu = x2apic(1).vcpus[0]
    load(vcpu, {ESR: 0x55})
    assert refused(vcpu.set_msr, msr(ESR), 1)
    vcpu.set_msr(msr(ESR), 0)
    assert vcpu.get_msr(msr(ESR)) == 0x55


@pytest.mark.parametrize(
    ("register", "stored"),
    [(LVTT, 0x710FF), (LVT0, 0x1F7FF), (LVT1, 0x1F7FF), (LVTPC, 0x117FF), (LVTTHMR, 0x117FF), (LVTERR, 0x110FF),
     (SVR, 0x3FF), (TDCR, 0xB), (TPR, 0xFF)],
)  # fmt: skip
def test_what_is_stored_of_all_ones(register, stored):
    """live 6.18.44."""
    vcpu = x2apic(1).vcpus[0]
    vcpu.set_msr(msr(register), 0xFFFFFFFF)
    assert vcpu.get_msr(msr(register)) == stored


def test_tpr_and_eoi_ignore_what_the_manual_reserves():
    """live 6.18.44: TPR 0x1ff becomes 0xff, an EOI of 5 is an EOI."""
    vcpu = x2apic(1).vcpus[0]
    load(vcpu, banks={0x100: [0x51]})
    vcpu.set_msr(msr(EOI), 5)
    vcpu.set_msr(msr(TPR), 0x1FF)
    assert (vcpu.lapic.isr, vcpu.get_msr(msr(TPR))) == (0, 0xFF)


@pytest.mark.parametrize(
    ("register", "value", "stored"),
    [(ID, 0x05FFFFFF, 0x05000000), (LDR, 0x12345678, 0x12000000), (DFR, 0x01234567, 0x0FFFFFFF), (PPR, 0x50, 0),
     (ICR2, 0x01FFFFFF, 0x01000000), (0x90, 1, 0), (0x390, 1, 0), (SELF_IPI, 0x41, 0)],
)  # fmt: skip
def test_xapic_writes_through_the_page(register, value, stored):
    """source 6.18.35: masked, or dropped where the register is read-only or absent."""
    vcpu = booted(x2apic=False).vcpus[0]
    base = word(vcpu.get_lapic(), PPR) if register == PPR else stored
    vcpu.guest.mmio_write(0xFEE00000 + register, value)
    assert word(vcpu.get_lapic(), register) == base


def test_the_page_outside_xapic_mode_reads_as_ones_and_takes_nothing():
    """source 6.18.35: the quirk LAPIC_MMIO_HOLE is on by default."""
    vcpu = booted().vcpus[0]
    vcpu.guest.mmio_write(0xFEE00000 + TPR, 0x50)
    assert vcpu.guest.mmio_read(0xFEE00000 + TPR) == 0xFFFFFFFF
    assert vcpu.lapic.tpr == 0x10


def test_xapic_reads_through_the_page():
    vcpu = booted(x2apic=False).vcpus[0]
    reads = {r: vcpu.guest.mmio_read(0xFEE00000 + r) for r in (ID, 0x30, TPR, SVR, DFR)}
    assert reads == {ID: 0, 0x30: 0x50014, TPR: 0x10, SVR: 0x1FF, DFR: 0xFFFFFFFF}


def test_software_disable_masks_every_lvt():
    """live 6.18.44: and while it is off, a write to one cannot unmask it."""
    vcpu = x2apic(1).vcpus[0]
    for register in (LVTT, LVTTHMR, LVTPC, LVT0, LVT1, LVTERR):
        vcpu.set_msr(msr(register), 0x42)
    vcpu.set_msr(msr(SVR), 0xFF)
    vcpu.set_msr(msr(LVT0), 0x700)
    page = vcpu.get_lapic()
    assert [word(page, r) for r in (LVTT, LVTTHMR, LVTPC, LVT0, LVT1, LVTERR)] == [0x10042] * 3 + [0x10700] + [
        0x10042
    ] * 2


def test_a_guest_gets_gp_where_userspace_is_refused():
    """source 6.18.35: vector 13, error code 0; the register is as before."""
    vcpu = booted().vcpus[0]
    for index, value in ((msr(PPR), 0), (msr(ICR), 1 << 13), (msr(ESR), 1), (APIC_BASE, 0xFEE00400)):
        with pytest.raises(GuestFault, match="exception 13, error code 0x0"):
            vcpu.guest.wrmsr(index, value)
    with pytest.raises(GuestFault):
        vcpu.guest.rdmsr(msr(EOI))
    with pytest.raises(GuestFault):
        vcpu.guest.write_cr8(16)


@given(st.integers(0, 0xFFFFFFFF))
def test_a_guest_reads_what_userspace_reads(value):
    """One register file, two façades."""
    made = booted(trace=False)
    vcpu = made.vcpus[0]
    vcpu.guest.wrmsr(msr(LVT1), value)
    assert vcpu.guest.rdmsr(msr(LVT1)) == vcpu.get_msr(msr(LVT1)) == value & 0x1F7FF


@pytest.mark.parametrize(("byte", "size", "value"), [(0, 4, 0x50014), (0, 2, 0x14), (2, 1, 0x05), (1, 4, 0), (4, 4, 0)])
def test_an_mmio_read_stays_within_the_register(byte, size, value):
    vcpu = vm().vcpus[0]
    assert apic_mmio_read(vcpu.lapic, 0xFEE00000 + LVR + byte, size) == value


@pytest.mark.parametrize(("byte", "size"), [(0, 1), (0, 2), (0, 8), (1, 4)])
def test_an_mmio_write_that_is_not_the_whole_register_is_dropped(byte, size):
    vcpu = vm().vcpus[0]
    apic_mmio_write(vcpu.lapic, 0xFEE00000 + TPR + byte, 0x30, size)
    assert vcpu.lapic.tpr == 0


@pytest.mark.parametrize("kernel", SERIES)
def test_a_self_ipi_leaves_the_icr_alone(kernel):
    """recorded 5.10.262 (kvm_apic_ipi without a write of APIC_ICR); source 6.18.35."""
    made = x2apic(1, kernel)
    made.vcpus[0].set_msr(msr(SELF_IPI), 0x41)
    assert (irr(made), made.vcpus[0].get_msr(msr(ICR))) == ([{0x41}], 0)
