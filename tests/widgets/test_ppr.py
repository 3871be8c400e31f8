"""The explorer of the page on apic_update_ppr: a call for each exit, and who misses it."""

import pytest

from kvmmodel.widgets.ppr import (
    AVICS,
    GUESTS,
    KERNELS,
    WORKLOADS,
    counted,
    dangling,
    ppr_counts,
    ppr_explorer,
    ppr_story,
    restored_tpr,
    tpr_releases,
)

EVERY = [(does, avic) for _, does in GUESTS for _, avic in AVICS]
RELEASES = [kernel for _, kernel in KERNELS]


def labels(story):
    return [step.label for step in story.steps]


@pytest.mark.parametrize("broken", [False, True])
@pytest.mark.parametrize(("does", "avic"), EVERY)
def test_words_are_few(does, avic, broken):
    story = ppr_story(does, avic, broken=broken)
    columns = {column.id for group in story.groups for column in group.columns}
    for step in story.steps:
        assert len(step.sentence.split()) <= 20, step.sentence
        assert len(step.label.split()) <= 6, step.label
        assert {step.at, step.to} - {None} <= columns


@pytest.mark.parametrize("kernel", RELEASES)
@pytest.mark.parametrize(("does", "avic"), EVERY)
def test_an_unbroken_story_leaves_nothing_behind(does, avic, kernel):
    story = ppr_story(does, avic, kernel)
    last = story.steps[-1].states[0]
    assert (last.irr, last.isr, story.verdict, story.broken) == (0, 0, None, None)


@pytest.mark.parametrize("avic", ["off", "on"])
def test_each_exit_is_followed_by_a_computation_that_changes_nothing(avic):
    story = ppr_story("exits", avic)
    assert labels(story) == ["`VMMCALL`", "`#VMEXIT` VMMCALL", "PPR stays `0x10`", "`VMRUN`"] * 3
    assert {step.detail for step in story.steps if step.kind == "tpr"} == {
        "searches the ISR" if avic == "on" else "need not search the ISR"
    }


def test_with_avic_the_guests_tpr_is_kept_by_hardware_before_any_exit():
    story = ppr_story("raises", "on", "7.3.4")
    kept = labels(story).index("TPR `0x50`, PPR `0x50`")
    assert (story.steps[kept].at, story.steps[kept].to, story.steps[kept].states[0].tpr) == ("t.guest", "t.hw", 0x50)
    assert not any(step.kind == "exit" for step in story.steps[:kept])
    assert "intercept CR8 writes" not in labels(story)
    assert "IRR to ISR `0x51`" in labels(story)


@pytest.mark.parametrize("kernel", RELEASES)
def test_without_the_copy_a_vector_is_let_in_or_held_back_with_avic_off(kernel):
    assert ppr_story("raises", "off", kernel, broken=True).verdict.startswith("Let in wrongly: the handler of `0x51`")
    held = ppr_story("lowers", "off", kernel, broken=True)
    assert held.verdict.startswith("Held back wrongly: the guest had lowered CR8 to `0x0`, and IRR `0x51` waits.")
    assert held.steps[-1].states[0].irr == 1 << 0x51


@pytest.mark.parametrize("kernel", RELEASES)
@pytest.mark.parametrize(("does", "avic"), [(d, a) for d, a in EVERY if a == "on" or d in ("exits", "nibble")])
def test_without_the_copy_nothing_is_lost_with_avic_or_without_cr8(does, avic, kernel):
    story = ppr_story(does, avic, kernel, broken=True)
    assert story.broken
    assert story.verdict.startswith("Nothing lost.")
    assert not any(label.startswith(("PPR stays", "`V_TPR` to TPR")) for label in labels(story))


def test_low_bits_of_a_tpr_make_a_needless_event_pass_with_avic():
    told = labels(ppr_story("nibble", "on"))
    at = told.index("PPR `0x35` to `0x30`")
    assert told[at : at + 3] == ["PPR `0x35` to `0x30`", "request `EVENT`", "event pass: injects nothing"]


@pytest.mark.parametrize("kernel", ["6.1", "6.12", "7.3"])
@pytest.mark.parametrize(("label", "scenario"), WORKLOADS)
def test_with_avic_there_is_one_call_for_each_exit_and_no_other(label, scenario, kernel):
    """And each searches the ISR, as the caches are pinned."""
    exits, after, other, searched, _ = counted(scenario, "on", kernel)
    assert (after, other, searched) == (exits, 0, exits)


@pytest.mark.parametrize("kernel", ["6.12", "7.3"])
@pytest.mark.parametrize(("label", "scenario"), WORKLOADS)
def test_without_avic_it_is_one_as_well_and_no_search(label, scenario, kernel):
    exits, after, _, searched, _ = counted(scenario, "off", kernel)
    assert (after, searched) == (exits, 0)


def test_in_6_1_the_intercept_of_the_reset_stands_until_the_first_event_pass():
    """source 6.1.176 init_vmcb: the sender never has an event pass here, so its exit is followed by no copy."""
    assert counted("ipi-in-guest", "off", "6.1")[:2] == (3, 2)


def test_avic_takes_the_exits_and_the_calls_with_them():
    assert counted("ipi-in-guest", "off") == (3, 3, 1, 0, 0)
    assert counted("ipi-in-guest", "on") == (0, 0, 0, 0, 0)
    assert counted("timer-in-guest", "on")[:3] == (3, 3, 0)


@pytest.mark.parametrize(
    ("kernel", "kept"),
    [("6.1.150", 0x10), ("6.6", 0x10), ("6.12.40", 0x10), ("6.1", 0x30), ("6.12", 0x30), ("7.3", 0x30)],
)
def test_a_tpr_from_userspace_is_lost_where_v_tpr_is_not_loaded(kernel, kept):
    """commit d02e48830e3f: sync_lapic_to_cr8 was left out with AVIC active."""
    assert restored_tpr(kernel) == kept


@pytest.mark.parametrize(
    ("kernel", "found"),
    [
        ("6.1.150", (True, 5, 0)),
        ("6.6", (True, 5, 0)),
        ("6.12.70", (True, 0, 0)),
        ("6.12", (False, 0, 0)),
        ("7.3", (False, 0, 0)),
    ],
)
def test_an_intercept_may_be_left_on_when_avic_is_activated(kernel, found):
    """commit 87d0f901a9bd; where V_TPR is not loaded either, the guest reads a CR8 that it has not written."""
    assert dangling(kernel) == found


def test_the_tables_have_a_row_for_each_case():
    assert ppr_counts().count("<tr>") == 1 + len(WORKLOADS) * len(AVICS)
    assert tpr_releases().count("<tr>") == 1 + 5


def test_the_explorer_starts_with_exits_and_avic_on():
    widget = ppr_explorer()
    assert widget.story == ppr_story("exits", "on")
    widget.choose(avic="off", does="raises", kernel="7.3.4")
    widget.set_broken(True)
    assert widget.story == ppr_story("raises", "off", "7.3.4", broken=True)
