"""The tables and traces of the page on AVIC's exits."""

import re

from kvmmodel.widgets.avic_accesses import REGISTERS
from kvmmodel.widgets.avic_exit_tables import access_trace, counts, counts_table, ipi_trace, level_eoi


def test_since_7_2_one_write_of_the_x2apic_is_left_to_402h():
    assert counts("7.2", True, True) == (4, 1, 0, 18, 0)
    assert counts("6.18", True, True) == (3, 6, 0, 5, 9)
    assert sum(counts("7.3", False, True)) == len(REGISTERS)


def test_the_table_of_counts_has_a_row_for_each_kind_of_release():
    rows = re.sub(r"<[^>]+>", " ", str(counts_table()))
    assert re.search(r"write\s+5.10 to 7.3\s+5\s+11\s+7\s+0\s+0", rows)
    assert re.search(r"write\s+7.2 to 7.3\s+4\s+1\s+0\s+18\s+0", rows)


def test_a_level_eoi_ends_one_vector_only_if_the_processor_leaves_its_bit():
    assert level_eoi("set") == ["0x41"]
    assert level_eoi("cleared") == []


def test_a_trap_s_trace_has_rip_behind_the_write_and_a_fault_s_at_the_access():
    trap, fault = access_trace("tmict").splitlines(), access_trace("tmcct", "read").splitlines()
    rips = [[re.search(r"rip (0x\w+)", line).group(1) for line in (lines[0], lines[-1])] for lines in (trap, fault)]
    assert rips[0][0] == rips[0][1]
    assert rips[1][0] != rips[1][1]
    assert "kvm_avic_unaccelerated_access: vcpu=0, offset=0x390(APIC_TMCCT), fault, read, vec=0x0" in fault


def test_the_sender_s_trace_of_an_ipi():
    lines = ipi_trace("two").splitlines()
    assert lines[1] == "kvm_avic_incomplete_ipi: vcpu=0, icrh:icrl=0x06000000:00000843, id=1, index=1"
    assert lines[-1] == "kvm_avic_doorbell: vcpuid=2, apicid=7"
