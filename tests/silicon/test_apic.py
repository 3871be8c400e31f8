"""The local APIC's registers and the VMCB, apart from KVM."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvmmodel.silicon import apic, vmcb


@given(st.sets(st.integers(0, 255)))
def test_a_bank_is_one_int(vectors):
    """Bit n is vector n."""
    bitmap = sum(1 << v for v in vectors)
    assert apic.vectors(bitmap) == sorted(vectors)
    assert apic.highest(bitmap) == max(vectors, default=-1)


@pytest.mark.parametrize(
    ("tdcr", "divisor"), [(0, 2), (1, 4), (2, 8), (3, 16), (8, 32), (9, 64), (0xA, 128), (0xB, 1), (4, 2), (0xF, 1)]
)
def test_the_timers_divisor(tdcr, divisor):
    """AMD APM volume 2: bits 3, 1 and 0; bit 2 does not count."""
    assert apic.timer_divide_count(tdcr) == divisor


@pytest.mark.parametrize(("ident", "ldr"), [(0, 1), (5, 0x20), (15, 0x8000), (16, 0x10001), (300, 0x121000)])
def test_the_x2apic_logical_id(ident, ldr):
    """live 6.18.44: vCPU 300 has LDR 0x121000."""
    assert apic.x2apic_ldr(ident) == ldr


def test_register_names_are_the_kernels():
    """recorded 6.12.95: "apic_write APIC_SELF_IPI = 0x41", "apic_write APIC_LVTT = 0x400e1"."""
    names = apic.REGISTER_NAMES
    assert (names[0x3F0], names[0x320], names[0xB0], names[0x300]) == (
        "APIC_SELF_IPI",
        "APIC_LVTT",
        "APIC_EOI",
        "APIC_ICR",
    )
    assert len(set(names.values())) == len(names)


def test_exit_names_are_the_kernels():
    """recorded 6.12.95: what kvm_exit printed as its reason."""
    names = {vmcb.EXIT_NAMES[code] for code in (0x18, 0x60, 0x64, 0x74, 0x78, 0x7B, 0x7C, 0x400)}
    assert names == {"write_cr8", "interrupt", "vintr", "iret", "hlt", "io", "msr", "npf"}
