"""The explorer of the page on level interrupts: who listens, what is sent again, and what is lost."""

from itertools import pairwise

import pytest

from kvmmodel.kvm.ioapic import RTE_LEVEL, RTE_REMOTE_IRR
from kvmmodel.widgets.level import ENTRIES, EOIS, SOURCES, counted, level_counts, level_explorer, level_story
from kvmmodel.widgets.level_listeners import PINS, heard, level_listeners, unmask_table, unmasked

EVERY = [(source, eoi, entry) for _, source in SOURCES for _, eoi in EOIS for _, entry in ENTRIES]
KERNELS = ["5.10", "6.12.95", "7.3.4"]


def kinds(story):
    return [step.kind for step in story.steps]


def labels(story):
    return [step.label for step in story.steps]


@pytest.mark.parametrize("broken", [False, True])
@pytest.mark.parametrize(("source", "eoi", "entry"), EVERY)
def test_words_are_few_and_columns_are_known(source, eoi, entry, broken):
    story = level_story(source, eoi, entry, broken=broken)
    columns = {column.id for group in story.groups for column in group.columns}
    assert len(columns) <= 7
    for step in story.steps:
        assert len(step.sentence.split()) <= 20, step.sentence
        assert len(step.label.split()) <= 6, step.label
        assert {step.at, step.to} - {None} <= columns
        assert step.pin is not None


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("eoi", [eoi for _, eoi in EOIS])
@pytest.mark.parametrize("source", [source for _, source in SOURCES])
def test_the_second_message_comes_if_nobody_interferes(source, eoi, kernel):
    story = level_story(source, eoi, kernel=kernel)
    assert kinds(story).count("msi") == 2
    assert (story.verdict, story.lost, story.broken) == (None, False, None)


def test_a_message_of_a_level_pin_sets_remote_irr_and_only_its_eoi_clears_it():
    for source in ("one", "shared", "assigned"):
        story = level_story(source)
        values = [bool(pin.entry & RTE_REMOTE_IRR) for pin in (story.pin, *(step.pin for step in story.steps))]
        changes = [
            (step.label, new) for step, (old, new) in zip(story.steps, pairwise(values), strict=True) if old != new
        ]
        assert changes == [("remote IRR := 1", True), ("remote IRR := 0", False), ("remote IRR := 1", True)]
        between = labels(story)[labels(story).index("remote IRR := 1") : labels(story).index("remote IRR := 0")]
        assert "EOI reaches pin 20" in between


def test_an_edge_pin_never_has_remote_irr_and_its_eoi_is_not_passed_on():
    story = level_story("edge")
    assert not any(step.pin.entry & (RTE_LEVEL | RTE_REMOTE_IRR) for step in story.steps)
    assert "EOI is not passed on" in labels(story)
    assert "EOI reaches pin 20" not in labels(story)


def test_a_shared_line_fires_again_by_itself_after_the_first_eoi():
    """The VMM's device joined while the handler ran; the ack notifier lowers only the resampling irqfd's source."""
    story = level_story("shared")
    told = labels(story)
    joined, eoi = told.index("source 0 joins: line stays up"), told.index("EOI reaches pin 20")
    assert told[joined + 1] == "no message: remote IRR"
    assert told[eoi : eoi + 5] == [
        "EOI reaches pin 20",
        "source 1 falls, line stays up",
        "signals the resample eventfd",
        "remote IRR := 0",
        "sends `0x62`",
    ]
    assert story.steps[eoi + 1].pin.sources == (0,)


def test_a_resampling_irqfd_s_round_trip():
    """Lowered and signalled at the EOI; what comes next is the owner's write, in another thread."""
    story = level_story("assigned")
    told = labels(story)
    signal = told.index("signals the resample eventfd")
    assert told[signal - 1] == "resampler lowers the line"
    again = next(i for i in range(signal, len(told)) if told[i] == "line rises")
    assert story.steps[again].at == "dev"
    assert story.steps[again].stack_owner != story.steps[signal].stack_owner


@pytest.mark.parametrize("source", ["one", "shared", "assigned"])
def test_pv_eoi_is_not_armed_for_a_level_vector(source):
    assert "arm PV EOI" not in labels(level_story(source, "paravirtual"))
    assert counted(source, "paravirtual") == counted(source, "register")


def test_pv_eoi_saves_the_exits_of_an_edge_pin():
    assert "PV EOI bit cleared" in labels(level_story("edge", "paravirtual"))
    assert counted("edge", "register") == (2, 2, 0, 4)
    assert counted("edge", "paravirtual") == (2, 0, 0, 2)


@pytest.mark.parametrize("source", ["one", "shared", "assigned"])
def test_a_new_vector_before_the_eoi_kills_a_level_line(source):
    story = level_story(source, entry="vector")
    assert kinds(story).count("msi") == 1
    assert "EOI is not passed on" in labels(story)
    assert story.steps[-1].pin.entry & RTE_REMOTE_IRR
    assert story.lost
    assert story.verdict.startswith("Dead line")


@pytest.mark.parametrize("source", ["one", "assigned", "edge"])
def test_writing_the_entry_as_edge_is_an_eoi(source):
    story = level_story(source, entry="explicit")
    assert kinds(story).count("msi") == 2
    assert story.verdict is None


@pytest.mark.parametrize(("kernel", "lost"), [("6.1", False), ("6.12", True)])
def test_from_6_4_on_the_explicit_eoi_of_a_shared_line_asks_the_resampler_only(kernel, lost):
    """source 6.12.117 ioapic_write_indirect: the pending bit is dropped though another source holds the line up."""
    story = level_story("shared", entry="explicit", kernel=kernel)
    assert story.lost == lost
    assert kinds(story).count("msi") == (1 if lost else 2)
    if lost:
        assert 0 in story.steps[-1].pin.sources
        assert story.verdict.startswith("Lost")


@pytest.mark.parametrize(("source", "eoi", "entry"), EVERY)
def test_without_the_eoi_a_level_line_is_dead_and_an_edge_loses_nothing(source, eoi, entry):
    story = level_story(source, eoi, entry, broken=True)
    assert story.broken
    assert not story.lost
    assert "EOI reaches pin 20" not in labels(story)
    if source == "edge" or (entry == "explicit" and source != "shared"):
        assert story.verdict.startswith("Nothing lost")
    else:
        assert kinds(story).count("msi") == 1
        assert story.verdict.startswith("Lost" if entry == "explicit" else "Dead line")


def test_who_listens():
    table = level_listeners()
    assert table.count("<tr>") == 1 + len(PINS)
    assert [heard(pin) for pin in PINS] == [
        (False, True),
        (True, False),
        (True, False),
        (True, False),
        (True, False),
        (False, True),
    ]


@pytest.mark.parametrize("kernel", ["6.1", "6.12", "7.3"])
def test_unmasking_a_line_that_is_up(kernel):
    assert unmasked((0,), kernel) == (True, False, True)
    resampled = (True, False, True) if kernel == "6.1" else (False, True, False)
    assert unmasked((1,), kernel) == unmasked((0, 1), kernel) == resampled


def test_the_tables_have_a_row_for_each_case():
    assert level_counts().count("<tr>") == 1 + len(SOURCES) * len(EOIS)
    assert unmask_table().count("<tr>") == 1 + 6


def test_the_explorer_starts_with_one_device():
    widget = level_explorer()
    assert widget.story == level_story("one")
    widget.choose(source="shared", entry="vector")
    widget.set_broken(True)
    assert widget.story == level_story("shared", entry="vector", broken=True)


def test_only_a_line_that_was_recorded_says_so():
    def known(*choice):
        return {badge.how for badge in level_story(*choice).badges}

    assert "recorded" in known("one")
    assert "recorded" in known("edge")
    assert "recorded" not in known("one", "paravirtual")
    assert "recorded" not in known("edge", "register", "vector")
