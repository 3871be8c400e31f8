"""The explorer of the CR8 page: every case on both kernels, and what the intercept is for."""

import pytest

from kvmmodel.widgets.cr8 import CASES, KERNELS, TPRS, cr8_costs, cr8_explorer, cr8_story

EVERY = [(tpr, kernel) for _, tpr in TPRS for _, kernel in KERNELS]


def labels(tpr, kernel, broken=False):
    return [step.label for step in cr8_story(tpr, kernel, broken).steps]


@pytest.mark.parametrize(("tpr", "kernel"), EVERY)
def test_a_story_ends_with_the_last_eoi(tpr, kernel):
    story = cr8_story(tpr, kernel)
    last = story.steps[-1]
    assert (last.kind, story.verdict, story.broken) == ("eoi", None, None)
    assert not any((last.states[0].irr | last.states[0].isr) >> vector & 1 for vector in CASES[tpr].vectors)


@pytest.mark.parametrize("broken", [False, True])
@pytest.mark.parametrize(("tpr", "kernel"), EVERY)
def test_words_are_few(tpr, kernel, broken):
    story = cr8_story(tpr, kernel, broken)
    columns = {column.id for group in story.groups for column in group.columns}
    for step in story.steps:
        assert len(step.sentence.split()) <= 20, step.sentence
        assert len(step.label.split()) <= 6, step.label
        assert {step.at, step.to} - {None} <= columns


@pytest.mark.parametrize(("tpr", "kernel"), EVERY)
def test_cr8_exits_only_while_it_is_intercepted(tpr, kernel):
    on = False
    for before, after in zip(labels(tpr, kernel), [*labels(tpr, kernel)[1:], ""], strict=True):
        on = (on or before == "intercept CR8 writes") and before != "no CR8 intercept"
        if before.startswith("`MOV CR8"):
            assert (after == "`#VMEXIT` WRITE_CR8") is on


@pytest.mark.parametrize(("tpr", "kernel"), EVERY)
def test_without_the_intercept_only_a_vector_that_the_tpr_holds_back_is_late(tpr, kernel):
    story = cr8_story(tpr, kernel, broken=True)
    assert story.broken
    assert "intercept CR8 writes" not in [step.label for step in story.steps]
    late = tpr == "held"
    assert story.verdict.startswith("Late: CR8 is 0, but IRR `0x51` waits" if late else "Nothing lost.")
    assert (story.steps[-1].kind == "eoi") is not late


def test_a_rising_tpr_is_intercepted_at_once_only_where_the_ppr_recomputes():
    """recorded: 31 of the 600 scripts, as far as the TPR goes."""
    assert "intercept CR8 writes" not in labels("raised", "6.12.95")
    assert "intercept CR8 writes" in labels("raised", "7.3.4")


@pytest.mark.parametrize(("kernel", "tpr"), [("6.12.95", 0x25), ("7.3.4", 0x20)])
def test_a_needless_intercept_shows_in_the_low_bits_of_the_tpr(kernel, tpr):
    eoi = next(step for step in cr8_story("handler", kernel).steps if step.kind == "eoi")
    assert eoi.states[0].tpr == tpr


def test_the_cost_table_has_a_row_for_each_case_and_kernel():
    table = cr8_costs()
    assert table.count("<tr>") == 1 + len(EVERY)
    for label, _ in TPRS:
        assert f">{label}</th>" in table


def test_the_explorer_starts_with_a_vector_that_the_tpr_holds_back():
    widget = cr8_explorer()
    assert widget.story == cr8_story("held")
    widget.choose(tpr="raised", kernel="7.3.4")
    assert widget.story == cr8_story("raised", "7.3.4")
    assert widget.error is None
