"""The explorer of the page on x2APIC and x2AVIC: every choice tells a run, and what exits is what the sheet says."""

import re
from itertools import product

import pytest

from kvmmodel.widgets.svg import plain
from kvmmodel.widgets.tally import counts
from kvmmodel.widgets.x2avic import ACTIONS, APICS, CPUS, KERNELS, x2avic_explorer, x2avic_story
from kvmmodel.widgets.x2avic_tables import access, index_table, mode_table, msr_table, switch, switch_table

EVERY = list(product(*([value for _, value in choice] for choice in (APICS, CPUS, KERNELS, ACTIONS))))


def exits(*values):
    story = x2avic_story(*values)
    return counts(story, len(story.steps) - 1)["exits"]


@pytest.mark.parametrize("broken", [False, True])
@pytest.mark.parametrize("values", EVERY)
def test_every_choice_tells_a_run_in_few_words(values, broken):
    story = x2avic_story(*values, broken=broken)
    columns = {column.id for group in story.groups for column in group.columns}
    assert story.steps
    assert (story.broken is not None) == broken
    for step in story.steps:
        assert len(plain(step.label).split()) <= 6, step.label
        assert len(step.sentence.split()) <= 20, step.sentence
        assert {step.at, step.to} - {None} <= columns


@pytest.mark.parametrize(("action", "x2avic", "hybrid", "xavic", "zen2_xavic"), [
    ("ipi", 0, 2, 0, 1), ("self", 0, 2, 0, 0), ("eoi", 1, 1, 1, 1), ("tpr", 0, 1, 0, 0), ("read", 0, 1, 0, 0),
    ("timer", 1, 1, 1, 1),
])  # fmt: skip
def test_exits_by_mode_on_7_3(action, x2avic, hybrid, xavic, zen2_xavic):
    """An IPI's EOI is counted, too. Zen 2 has enable_ipiv=N, so an IPI in xAVIC mode exits."""
    assert exits("x2", "zen4", "7.3", action) == x2avic
    assert exits("x2", "zen2", "7.3", action) == hybrid
    assert exits("x", "zen4", "7.3", action) == xavic
    assert exits("x", "zen2", "7.3", action) == zen2_xavic


def test_the_coarse_list_of_older_releases():
    """SELF_IPI exits, and so does a read of any IRR word but the first."""
    assert (exits("x2", "zen4", "6.12", "self"), exits("x2", "zen4", "6.12", "read")) == (1, 1)
    assert (exits("x2", "zen4", "7.3", "self"), exits("x2", "zen4", "7.3", "read")) == (0, 0)


def test_without_an_exit_the_story_says_so():
    assert x2avic_story("x2", "zen4", "7.3", "tpr").verdict.startswith("No exit, and no KVM code")
    assert x2avic_story("x2", "zen2", "7.3", "tpr").verdict is None


def test_msrs_left_open_let_the_guest_reach_the_host_s_apic():
    story = x2avic_story("x2", "zen4", "7.3", "ipi", broken=True)
    assert story.steps[-1].label == "MSR `0x830` of the host's APIC"
    assert story.verdict.startswith("Out of the VM")
    assert "by `PIT_REINJ`" in story.setup


@pytest.mark.parametrize("values", [("x2", "zen2", "7.3"), ("x", "zen4", "7.3"), ("x2", "zen4", "5.15")])
def test_without_x2avic_there_is_nothing_left_open(values):
    assert x2avic_story(*values, "ipi", broken=True).verdict.startswith("Nothing got out")


def test_what_a_release_lets_through():
    assert [access(kernel, 0x210, False) for kernel in ("6.12", "7.3")] == ["MSR", "no exit"]
    assert [access(kernel, 0x380, True) for kernel in ("6.12", "7.3")] == ["402h", "MSR"]
    assert [access(kernel, 0x320, True) for kernel in ("6.12", "7.3")] == ["MSR", "MSR"]
    assert [access(kernel, offset, False) for kernel in ("6.12", "7.3") for offset in (0xB0, 0x3F0)] == ["—"] * 4


def test_one_vcpu_in_x2apic_mode_takes_the_page_from_all_without_x2avic():
    assert switch("zen4", "7.3") == ("xAVIC to x2AVIC", "stays xAVIC", "no exit", "no exit")
    assert switch("zen2", "6.1") == ("xAVIC to hybrid", "stays xAVIC", "no exit", "no exit")
    assert switch("zen2", "7.3") == ("xAVIC to hybrid", "stays xAVIC", "no exit", "NPF")


def test_the_tables():
    modes = re.sub(r"<[^>]+>", " ", mode_table())
    assert re.search(r"x2APIC\s+Zen 2\s+hybrid\s+6.1 to 7.3", modes)
    assert re.search(r"x2APIC\s+Zen 4\s+off\s+5.10 to 5.15", modes)
    assert "SELF_IPI" in msr_table()
    assert re.search(r"x2AVIC_EXT\s+4095\s+7.2 to 7.3", re.sub(r"<[^>]+>", " ", index_table()))
    assert "stays xAVIC" in switch_table()


def test_the_widget_counts_on_the_way():
    widget = x2avic_explorer()
    assert '<dd class="z">0</dd>' in widget._figure.value
    widget.go(3)
    assert "<dt>doorbells</dt><dd><mark>1</mark></dd>" in widget._figure.value
    widget.choose(action="timer", kernel="6.12")
    assert widget.error is None
