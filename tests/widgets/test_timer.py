"""The explorer of the timer's page: every mode in every place on both kernels, and what it costs."""

import pytest

from kvmmodel.facts.releases import series
from kvmmodel.widgets import figure
from kvmmodel.widgets.timer import (
    KERNELS,
    MODES,
    PLACES,
    VECTORS,
    tick,
    timer_costs,
    timer_explorer,
    timer_rules,
    timer_story,
)

EVERY = [(mode, place, kernel) for _, mode in MODES for _, place in PLACES for _, kernel in KERNELS]
FAST, SLOW = "7.3.4", "6.12.95"


def callback(story):
    return [step for step in story.steps if any(f.name == "apic_timer_fn" for f in step.stack)]


@pytest.mark.parametrize(("mode", "place", "kernel"), EVERY)
def test_a_story_goes_from_the_write_to_the_eoi(mode, place, kernel):
    story = timer_story(mode, place, kernel)
    kinds = [step.kind for step in story.steps]
    assert (kinds[0], kinds[-1], story.verdict, story.broken) == ("write", "eoi", None, None)
    assert f"{VECTORS[mode]:#x}" in story.steps[-1].label
    assert kinds.index("timer") < kinds.index("set_irr") < kinds.index("inject") < kinds.index("handler")


@pytest.mark.parametrize("broken", [False, True])
@pytest.mark.parametrize(("mode", "place", "kernel"), EVERY)
def test_words_are_few(mode, place, kernel, broken):
    story = timer_story(mode, place, kernel, broken)
    columns = {column.id for group in story.groups for column in group.columns}
    for step in story.steps:
        assert len(step.sentence.split()) <= 24, step.sentence
        assert len(step.label) <= 38, step.label
        assert {step.at, step.to} - {None} <= columns


@pytest.mark.parametrize(("mode", "place", "kernel"), EVERY)
def test_the_callback_sets_no_irr_and_the_vcpu_s_own_thread_does(mode, place, kernel):
    story = timer_story(mode, place, kernel)
    inside = callback(story)
    assert inside
    assert {step.at for step in inside} == {"dev"}
    assert not {"set_irr", "inject"} & {step.kind for step in inside}
    irr = next(step for step in story.steps if step.kind == "set_irr")
    assert "kvm_inject_apic_timer_irqs" in [f.name for f in irr.stack]
    assert [f.name for f in irr.stack][-1] == "entry_SYSCALL_64_after_hwframe"


@pytest.mark.parametrize("kernel", series())
@pytest.mark.parametrize("mode", [mode for _, mode in MODES])
def test_the_vcpu_is_where_the_choice_says_when_the_timer_fires(mode, kernel):
    reasons = {}
    for _, place in PLACES:
        story = timer_story(mode, place, kernel)
        fires = next(i for i, step in enumerate(story.steps) if step.label == "hrtimer fires")
        state = story.steps[fires].states[0].thread
        last = [step.label for step in story.steps[:fires] if step.kind == "exit"][-1]
        reasons[place] = (state, last)
    assert reasons["in-guest"] == ("running", "`#VMEXIT` INTR")
    assert reasons["halted"] == ("blocked", "`#VMEXIT` HLT")
    assert reasons["in-host"] == ("running", "`#VMEXIT` MSR")
    assert reasons["preempted"] == ("runnable", "`#VMEXIT` INTR")


@pytest.mark.parametrize(("mode", "place", "kernel"), EVERY)
def test_when_nobody_is_told_a_sleeper_and_one_past_its_look_do_not_get_the_tick(mode, place, kernel):
    """A periodic timer's next interrupt is an exit, so there a preempted vCPU gets it late."""
    story = timer_story(mode, place, kernel, broken=True)
    assert story.broken
    stuck = place == "halted" or (place == "preempted" and mode != "periodic")
    late = place == "preempted" and mode == "periodic"
    assert story.verdict.startswith("Stuck: the timer is pending" if stuck else "Late." if late else "Nothing lost.")
    assert ("handler" in [step.kind for step in story.steps]) is not stuck


def test_a_tick_in_the_guest_has_three_exits_and_the_fast_path_saves_a_pass():
    for kernel, passes in ((SLOW, 2), (FAST, 1)):
        found = tick("deadline", "in-guest", kernel)
        assert (found.exits, found.host, found.passes) == ({"MSR": 2, "INTR": 1}, {"timer": 1}, passes)


def test_the_fast_path_is_for_the_deadline_only():
    for mode in ("oneshot", "periodic"):
        for _, place in PLACES:
            assert tick(mode, place, SLOW) == tick(mode, place, FAST)


def test_expirations_of_a_preempted_vcpu_collapse_into_one_interrupt():
    found = tick("periodic", "preempted", FAST)
    assert found.host["timer"] == 3
    assert found.exits["MSR"] == 1


def test_the_tables_have_a_row_for_each_case():
    table = timer_costs()
    assert table.count("<tr>") == 1 + len(MODES) * (1 + len(PLACES))
    assert "2\N{NO-BREAK SPACE}MSR, 1\N{NO-BREAK SPACE}INTR" in table
    assert "2 on 6.12.95, 1 on 7.3.4".replace(" on ", "\N{NO-BREAK SPACE}on\N{NO-BREAK SPACE}") in table
    rules = timer_rules()
    assert rules.count("<tr>") == 1 + len(PLACES) + 1
    assert rules.count("does not") == 4


def test_the_key_names_the_lane_as_its_heading_does():
    """It said "device, IOMMU" of the host's timer."""
    key = figure.static(timer_story("deadline", "in-guest")).partition("<figcaption")[2].partition("</figcaption>")[0]
    assert "host timer" in key
    assert "IOMMU" not in key


def test_the_explorer_starts_with_a_deadline_in_the_guest():
    widget = timer_explorer()
    assert widget.story == timer_story("deadline", "in-guest")
    widget.choose(mode="periodic", place="preempted", kernel=FAST)
    assert widget.story == timer_story("periodic", "preempted", FAST)
    assert widget.error is None
