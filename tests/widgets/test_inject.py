"""The explorer of the first page: every source and every state of the target, told to the end."""

from itertools import pairwise

import pytest

from kvmmodel.widgets.inject import SOURCES, TARGETS, VECTORS, inject_costs, inject_explorer, inject_story

EVERY = [(source, target) for _, source in SOURCES for _, target in TARGETS]


@pytest.mark.parametrize(("source", "target"), EVERY)
def test_a_story_ends_with_the_eoi_of_its_vector(source, target):
    story = inject_story(source, target)
    vector = VECTORS[source]
    assert story.steps[-1].kind == "eoi"
    assert f"{vector:#x}" in story.steps[-1].label
    assert story.steps[-1].states[-1].isr >> vector & 1 == 0
    assert story.verdict is None


@pytest.mark.parametrize(("source", "target"), EVERY)
def test_the_vector_goes_from_irr_to_isr_in_the_step_that_injects(source, target):
    story = inject_story(source, target)
    vector = VECTORS[source]
    for before, after in pairwise(story.steps):
        moved = before.states[-1].irr >> vector & 1 and after.states[-1].isr >> vector & 1
        assert bool(moved) == (after.kind == "inject")


@pytest.mark.parametrize(("source", "target"), EVERY)
def test_with_nobody_told_the_interrupt_stays_in_the_irr(source, target):
    story = inject_story(source, target, broken=True)
    vector = VECTORS[source]
    assert story.broken
    assert story.verdict is not None
    assert f"{vector:#x}" in story.verdict
    assert story.steps[-1].states[-1].irr >> vector & 1
    assert "handler" not in [step.kind for step in story.steps]


def test_only_a_halted_target_is_woken_and_only_one_in_the_guest_gets_an_ipi_from_kvm():
    kinds = {target: [step.kind for step in inject_story("ipi", target).steps] for _, target in TARGETS}
    assert [t for t in kinds if "wake" in kinds[t]] == ["halted"]
    from_kvm = {
        target: [s for s in inject_story("ipi", target).steps if s.kind == "kick" and s.at.endswith(".kvm")]
        for _, target in TARGETS
    }
    assert [t for t, steps in from_kvm.items() if steps] == ["in-guest"]


def test_the_cost_table_has_a_row_for_each_state_of_the_target():
    table = inject_costs("ipi")
    for label, _ in TARGETS:
        assert f">{label}</th>" in table


def test_the_explorer_starts_at_an_ipi_to_a_halted_vcpu():
    assert inject_explorer().story == inject_story("ipi", "halted")
