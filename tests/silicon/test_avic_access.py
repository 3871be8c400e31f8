"""AMD APM volume 2, table 15-22, as a test: what a guest's access to each register does under AVIC."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvmmodel.facts.open_points import choose
from kvmmodel.silicon.avic_access import classify_read, classify_write

# Offset, MSR ("-": x2APIC mode has no such register), read, write. EOI and SELF_IPI have tests of their own.
TABLE = """
020 802 allowed trap
030 803 allowed fault
080 808 allowed accelerated
090 809 fault   fault
0a0 80a allowed fault
0c0 -   allowed trap
0d0 80d allowed trap
0e0 -   allowed trap
0f0 80f allowed trap
100 810 allowed fault
110 811 allowed fault
170 817 allowed fault
180 818 allowed fault
1f0 81f allowed fault
200 820 allowed fault
270 827 allowed fault
280 828 allowed trap
300 830 allowed accelerated
310 -   allowed allowed
320 832 allowed trap
330 833 allowed trap
340 834 allowed trap
350 835 allowed trap
360 836 allowed trap
370 837 allowed trap
380 838 allowed trap
390 839 fault   fault
3e0 83e allowed trap
400 840 fault   fault
410 841 fault   fault
420 842 fault   fault
480 848 fault   fault
4f0 84f fault   fault
500 850 fault   fault
530 853 fault   fault
540 -   fault   fault
ff0 -   fault   fault
"""
ROWS = [(int(row[0], 16), row[1] != "-", row[2], row[3]) for row in map(str.split, TABLE.strip().splitlines())]
READ_ONLY = (0x020, 0x030, 0x090, 0x0A0, 0x0D0, 0x100, 0x110, 0x170, 0x180, 0x1F0, 0x200, 0x270, 0x390)
GAPS = (0x000, 0x010, 0x040, 0x070, 0x290, 0x2F0, 0x3A0, 0x3D0, 0x3F0, 0x430, 0x470)  # between registers, in xAPIC mode
DEFAULT = choose()
BY_TABLE = choose({"x2avic_readonly_write": "table"})


@pytest.mark.parametrize(("offset", "msr", "read", "write"), ROWS, ids=lambda v: f"{v:#x}" if type(v) is int else None)
def test_a_row_of_the_table(offset, msr, read, write):
    """Catches a register in the wrong list, and a write list taken for reads."""
    assert classify_read(offset, False, DEFAULT) == read
    assert classify_write(offset, False, DEFAULT) == write
    if msr:
        assert classify_read(offset, True, BY_TABLE) == read
        assert classify_write(offset, True, BY_TABLE) == write


def test_the_eoi_register_is_accelerated_and_reads_as_memory_in_xapic_mode():
    """Whether it then leaves depends on the vector's TMR bit: test_avic.py."""
    assert classify_read(0xB0, False, DEFAULT) == "allowed"
    assert [classify_write(0xB0, x2apic, DEFAULT) for x2apic in (False, True)] == ["accelerated"] * 2


@pytest.mark.parametrize("choice", ["gp", "allowed"])
def test_open_point_a_read_of_the_eoi_msr(choice):
    assert classify_read(0xB0, True, choose({"x2avic_eoi_read": choice})) == choice
    assert classify_read(0xB0, False, choose({"x2avic_eoi_read": choice})) == "allowed"


def test_self_ipi_exists_in_x2apic_mode_only():
    """Catches 3F0h taken for SELF_IPI in xAPIC mode, where it is a gap."""
    assert classify_write(0x3F0, True, DEFAULT) == "accelerated"
    assert classify_read(0x3F0, True, DEFAULT) == "gp"
    assert [classify_read(0x3F0, False, DEFAULT), classify_write(0x3F0, False, DEFAULT)] == ["allowed"] * 2


@pytest.mark.parametrize("offset", [0x0C0, 0x0E0, 0x310])
def test_registers_of_xapic_mode_alone_are_gp_as_msrs(offset):
    """Remote Read, DFR, ICR2. Catches the upper half of the ICR as an MSR of its own."""
    assert [classify_read(offset, True, DEFAULT), classify_write(offset, True, DEFAULT)] == ["gp"] * 2


@pytest.mark.parametrize("offset", READ_ONLY)
def test_open_point_a_write_to_a_read_only_msr(offset):
    """Zen 4 is said to raise #GP; by the table a fault, of APIC ID and LDR a trap. xAPIC mode is not in question.

    Catches a fault for APIC ID and LDR, which KVM's list has as traps: it would execute the same write for ever.
    """
    table = "trap" if offset in (0x020, 0x0D0) else "fault"
    assert classify_write(offset, True, choose({"x2avic_readonly_write": "table"})) == table
    assert classify_write(offset, True, choose({"x2avic_readonly_write": "gp"})) == "gp"
    assert classify_write(offset, False, choose({"x2avic_readonly_write": "gp"})) == table


@pytest.mark.parametrize("offset", GAPS)
@pytest.mark.parametrize("choice", ["gap", "reserved"])
def test_a_gap_is_plain_memory(offset, choice):
    chosen = choose({"avic_reserved_offsets": choice})
    assert [classify_read(offset, False, chosen), classify_write(offset, False, chosen)] == ["allowed"] * 2


@pytest.mark.parametrize("offset", [0x540, 0x570, 0x580, 0x800, 0xFF0])
def test_open_point_offsets_behind_the_registers(offset):
    """By the table reserved; by 15.29.8.1 plain memory. Catches a first or last one forgotten."""
    for choice, does in (("gap", "allowed"), ("reserved", "fault")):
        chosen = choose({"avic_reserved_offsets": choice})
        assert [classify_read(offset, False, chosen), classify_write(offset, False, chosen)] == [does] * 2


@pytest.mark.parametrize("offset", [0x500, 0x510, 0x520, 0x530])
@pytest.mark.parametrize("x2apic", [False, True])
def test_the_extended_lvt(offset, x2apic):
    """Without ExtLvtAvicAccessChg both fault. With it reads pass, and writes trap. Catches the two alike."""
    assert classify_read(offset, x2apic, DEFAULT, extended_lvt=True) == "allowed"
    assert classify_write(offset, x2apic, DEFAULT, extended_lvt=True) == "trap"
    assert classify_read(offset, x2apic, DEFAULT) == classify_write(offset, x2apic, DEFAULT) == "fault"


OFFSETS = st.integers(0, 0xFF).map(lambda n: n << 4)


@given(OFFSETS, st.booleans(), st.booleans())
def test_every_offset_has_an_answer_and_only_x2apic_mode_raises_gp(offset, x2apic, extended_lvt):
    read = classify_read(offset, x2apic, DEFAULT, extended_lvt)
    write = classify_write(offset, x2apic, DEFAULT, extended_lvt)
    assert read in {"allowed", "fault", "gp"}
    assert write in {"allowed", "accelerated", "trap", "fault", "gp"}
    assert x2apic or "gp" not in (read, write)


@given(OFFSETS)
def test_what_cannot_be_read_cannot_be_written_silently(offset):
    """A read that faults belongs to a register that AVIC does not have: its write must leave, too."""
    if classify_read(offset, False, DEFAULT) == "fault":
        assert classify_write(offset, False, DEFAULT) == "fault"
