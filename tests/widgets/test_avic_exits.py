"""The explorer of AVIC's exits: what the board says of an access is what its run does, and every choice tells one."""

import re
from itertools import product

import pytest

from kvmmodel.silicon.avic_access import ACCELERATED, ALLOWED, FAULT, GP, TRAP
from kvmmodel.widgets.avic_accesses import MSR, REGISTERS, accessed, outcome, prepared, seen
from kvmmodel.widgets.avic_exits import ACCESSES, APICS, DOES, KERNELS, board, exit_explorer, exit_story
from kvmmodel.widgets.svg import plain

EVERY = list(product(*([value for _, value in choice] for choice in (APICS, KERNELS, ACCESSES, DOES))))


@pytest.mark.parametrize("kernel", ["5.10", "6.1", "6.18", "7.2", "7.3"])
@pytest.mark.parametrize("x2apic", [False, True])
def test_the_board_says_what_a_run_does(kernel, x2apic):
    for register, write in product(REGISTERS.values(), (False, True)):
        said = outcome(kernel, x2apic, register, write)
        run = seen(accessed(prepared(kernel, x2apic, register), x2apic, register, write))
        assert run == (None if said in (ALLOWED, ACCELERATED) else said), (register.label, write)


def cells(x2apic, kernel, write=True):
    return {key: outcome(kernel, x2apic, register, write) for key, register in REGISTERS.items()}


def test_xapic_is_the_manual_s_table_on_every_release():
    found = [(cells(False, kernel), cells(False, kernel, False)) for kernel in ("5.10", "6.1", "6.12", "7.3")]
    writes, reads = found[0]
    assert all(one == found[0] for one in found)
    assert {key for key, how in writes.items() if how == ACCELERATED} == {"tpr", "eoi", "icr"}
    assert writes["eoi-level"] == TRAP
    assert {key for key, how in reads.items() if how == FAULT} == {"apr", "tmcct"}


def test_x2apic_is_what_kvm_s_intercepts_leave():
    new, old = cells(True, "7.3"), cells(True, "6.12")
    assert {key for key, how in new.items() if how == ACCELERATED} == {"tpr", "eoi", "icr", "self"}
    assert {key for key, how in new.items() if how not in (ACCELERATED, MSR)} == {"eoi-level"}
    assert (old["tmict"], old["self"], old["lvtt"]) == (TRAP, MSR, MSR)
    assert cells(True, "6.12", False)["irr"] == MSR
    assert old["rrr"] == GP
    assert set(cells(True, "5.10").values()) == {MSR}


@pytest.mark.parametrize("broken", [False, True])
@pytest.mark.parametrize("values", EVERY)
def test_every_choice_tells_a_run_in_few_words(values, broken):
    story = exit_story(*values, broken=broken)
    assert story.steps
    assert story.verdict
    assert (story.broken is not None) == broken
    for step in story.steps:
        assert len(plain(step.label).split()) <= 6, step.label
        assert len(step.sentence.split()) <= 20, step.sentence


def labels(*values, **more):
    return [plain(step.label) for step in exit_story(*values, **more).steps]


def test_a_level_eoi_leaves_the_isr_bit_to_kvm():
    told = exit_story("x", "7.3", "eoi-level", "write")
    assert "apic_set_eoi clears ISR 0x61" in [plain(step.label) for step in told.steps]
    assert told.verdict.startswith("A trap")
    broken = exit_story("x", "7.3", "eoi-level", "write", broken=True)
    assert broken.steps[-1].states[0].isr >> 0x61 & 1
    assert broken.verdict.startswith("ISR `0x61` stays set")


def test_a_written_apic_id_costs_the_vm_avic_from_6_1_on():
    assert "inhibit APIC_ID_MODIFIED set" in labels("x", "6.12", "id", "write")
    assert not any("inhibit" in label for label in labels("x", "5.10", "id", "write"))


def test_a_fault_is_emulated_and_a_read_only_msr_is_a_gp_without_an_exit():
    assert exit_story("x", "7.3", "ppr", "write").verdict.endswith("drops the write.")
    assert exit_story("x", "7.3", "tmcct", "read").verdict.endswith("answers.")
    assert exit_story("x2", "6.12", "ppr", "write").verdict.startswith("`#GP`, without an exit.")
    stack = [f.name for step in exit_story("x", "7.3", "tmcct", "read").steps for f in step.stack]
    assert "x86_emulate_instruction" in stack


def test_left_out_a_fault_never_ends_and_an_accelerated_access_does_not_care():
    assert exit_story("x", "7.3", "ppr", "write", broken=True).verdict.startswith(
        "The guest executes the instruction again"
    )
    assert exit_story("x", "7.3", "tpr", "write", broken=True).verdict.startswith("Nothing to leave out")


def test_the_board_marks_what_is_chosen_and_nothing_else():
    drawn = board("x2", "7.3", "self", "write")
    assert re.findall(r"<mark>(.*?)</mark>", drawn) == ["accelerated"]
    assert drawn.count("<tr>") == len(REGISTERS) + 2
    assert "<code>810-17</code>" in drawn
    assert "no register" in board("x", "7.3", "self", "write")


def test_the_widget_draws_the_board_with_the_run():
    widget = exit_explorer()
    assert "<mark>" in widget._board.value
    widget.choose(apic="x2", register="tmict")
    assert re.search(r"<mark><svg.*?</svg><b>MSR</b></mark>", widget._board.value)
    assert widget.error is None
    assert "km-regs" in widget._repr_mimebundle_()["text/html"]
