"""The page "Without AVIC": two hosts side by side, and its tables."""

import re
from xml.etree import ElementTree

import pytest

from kvmmodel.trace import align
from kvmmodel.widgets.accesses import MODES, REGISTERS
from kvmmodel.widgets.without_avic import (
    ACCESSES,
    HOSTS,
    KERNELS,
    access_table,
    eoi_costs,
    host_explorer,
    host_pair,
    nested_params,
)

EVERY = [(a, m, k) for a in REGISTERS for _, m in MODES for _, k in KERNELS]


def marks(*choices):
    found = host_pair(*choices)
    return {row.mark for row in align.steps(found.left, found.right)}


def rows(html):
    return [["".join(cell.itertext()) for cell in row] for row in ElementTree.fromstring(html).findall("tbody/tr")]


def test_the_choices_are_registers_of_the_table():
    assert {value for _, value in ACCESSES} <= set(REGISTERS)


@pytest.mark.parametrize(("access", "mode", "kernel"), EVERY)
def test_a_host_under_kvm_takes_the_same_steps_by_the_same_functions(access, mode, kernel):
    assert marks(access, mode, kernel, "zen4-nested") == {"="}


@pytest.mark.parametrize(("access", "mode", "kernel"), EVERY)
def test_without_nrips_only_what_has_a_fast_path_differs(access, mode, kernel):
    fast = (access, mode) == ("icr", "x2apic") or (access, kernel) == ("deadline", "7.3")
    assert (marks(access, mode, kernel, "tcg") != {"="}) is fast


@pytest.mark.parametrize("kernel", ["6.12", "7.3"])
def test_the_delivery_is_the_same_inwards_of_the_fast_path(kernel):
    """What a reader of both stacks needs to see: the inner half is common, the outer half tells of NRIPS."""
    found = host_pair("icr", "x2apic", kernel, "tcg")
    row = next(row for row in align.steps(found.left, found.right) if row.left and row.left.kind == "set_irr")
    frames = align.frames(row.left, row.right)
    common = [f.left.name for f in frames if f.mark == "="]
    assert {"kvm_lapic_set_irr", "svm_deliver_interrupt", "__apic_accept_irq", "vcpu_enter_guest"} <= set(common)
    only = {f.mark: {(g.left or g.right).name for g in frames if g.mark == f.mark} for f in frames}
    assert any("fastpath" in name for name in only["−"])
    assert {"msr_interception", "kvm_emulate_wrmsr"} <= only["+"]


def test_badges_say_recorded_only_where_a_recording_has_the_access():
    for access, mode, kernel in EVERY:
        badges = [badge.how for badge in host_pair(access, mode, kernel, "tcg").badges]
        assert ("recorded" in badges) is (mode in REGISTERS[access].recorded)


def test_the_table_has_every_register_and_marks_what_is_recorded():
    table = rows(access_table())
    assert [row[0] for row in table] == [register.label for register in REGISTERS.values()]
    for row, register in zip(table, REGISTERS.values(), strict=True):
        for cell, mode in zip(row[1:], ("xapic", "x2apic"), strict=True):
            assert ("recorded" in cell) is (mode in register.recorded)
    by_label = {row[0]: row for row in table}
    assert "fast path" in by_label["ICR, an IPI to a running vCPU"][2]
    assert "fast path" not in "".join(str(row) for row in rows(access_table(cpu="tcg")))


@pytest.mark.parametrize("kernel", ["5.10", "6.12", "7.3"])
def test_every_exit_of_the_costs_has_a_column(kernel):
    table = rows(eoi_costs(kernel))
    assert len(table) == 8
    for *_, npf, msr, intr, each in table:
        assert (int(npf) + int(msr) + int(intr)) / 4 == float(each)
    assert [row[-1] for row in table] == ["2", "1", "2", "1", "4", "3", "3", "2"]


def test_a_host_that_is_a_guest_has_no_avic_by_any_default():
    table = {(row[0], row[1]): row[2:] for row in rows(nested_params())}
    assert [key for key, row in table.items() if row[0] == "Y"] == [("bare Zen 4", "7.3")]
    assert {row[1] for key, row in table.items() if key[0] == HOSTS[1][0]} == {"N"}, "no NRIPS"


def test_words_are_few():
    for access, mode, kernel in EVERY:
        for step in host_pair(access, mode, kernel, "tcg").right.steps:
            assert len(step.label.split()) <= 6, step.label
            assert len(step.sentence.split()) <= 20, step.sentence


def test_the_explorer_starts_where_the_hosts_differ():
    widget = host_explorer()
    assert widget.error is None
    assert widget.pair == host_pair("icr", "x2apic", "7.3", "tcg")
    widget.choose(host="zen4-nested")
    assert re.search(r"<b>\d+ steps, all the same", widget.children[-1].value)
