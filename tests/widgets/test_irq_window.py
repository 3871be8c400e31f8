"""The explorer of the IRQ window's page: every case told to the end, and what the window is for."""

import pytest

from kvmmodel.widgets.irq_window import FLAGS, SECONDS, VECTORS, window_costs, window_explorer, window_story

EVERY = [(flag, second) for _, flag in FLAGS for _, second in SECONDS]
ORDER = {
    ("clear", "none"): [0x41],
    ("clear", "higher"): [0x51, 0x41],
    ("clear", "lower"): [0x41, 0x31],
    ("set", "none"): [0x41],
    ("set", "higher"): [0x41, 0x51],
    ("set", "lower"): [0x41, 0x31],
}


def kinds(story):
    return [step.kind for step in story.steps]


@pytest.mark.parametrize("kernel", ["5.10", "6.12.95", "7.3.4"])
@pytest.mark.parametrize(("flag", "second"), EVERY)
def test_a_story_ends_with_the_last_eoi(flag, second, kernel):
    story = window_story(flag, second, kernel)
    last = story.steps[-1]
    assert (last.kind, story.verdict, story.broken) == ("eoi", None, None)
    assert not any((last.states[0].irr | last.states[0].isr) >> vector & 1 for vector in VECTORS[second])
    ran = [int(step.label.split("`")[1], 16) for step in story.steps if step.kind == "handler"]
    assert ran == ORDER[flag, second]


@pytest.mark.parametrize("broken", [False, True])
@pytest.mark.parametrize(("flag", "second"), EVERY)
def test_words_are_few(flag, second, broken):
    story = window_story(flag, second, broken=broken)
    columns = {column.id for group in story.groups for column in group.columns}
    for step in story.steps:
        assert len(step.sentence.split()) <= 20, step.sentence
        assert len(step.label.split()) <= 6, step.label
        assert {step.at, step.to} - {None} <= columns


@pytest.mark.parametrize(("flag", "second"), EVERY)
def test_each_window_opens_once_and_an_injection_follows(flag, second):
    story = window_story(flag, second)
    opened = [i for i, step in enumerate(story.steps) if "VINTR" in step.label]
    assert len(opened) == kinds(story).count("window")
    assert [kinds(story)[i : i + 4] for i in opened] == [["exit", "request", "no", "inject"]] * len(opened)


def test_there_is_no_window_for_a_vector_that_can_go_in():
    assert "window" not in kinds(window_story("set", "none"))


@pytest.mark.parametrize(("flag", "second"), EVERY)
def test_without_the_window_what_had_to_wait_is_lost(flag, second):
    story = window_story(flag, second, broken=True)
    assert story.broken
    assert "window" not in kinds(story)
    left = [v for v in VECTORS[second] if story.steps[-1].states[0].irr >> v & 1]
    needed = [v for v in VECTORS[second] if flag == "clear" or v != 0x41]
    assert left == needed
    assert story.verdict.startswith("Lost" if needed else "Nothing lost.")
    assert all(f"`{vector:#x}`" in story.verdict for vector in needed)


def test_the_cost_table_has_a_row_for_each_case():
    table = window_costs()
    assert table.count("<tr>") == 1 + len(EVERY)
    assert "0x51 0x41" in table


def test_the_explorer_starts_with_one_vector_and_if_clear():
    widget = window_explorer()
    assert widget.story == window_story("clear", "none")
    widget.set_broken(True)
    assert widget.story == window_story("clear", "none", broken=True)
