"""The story of a line: where it begins and ends, and the pin beside each step."""

import pytest

from kvmmodel import Host
from kvmmodel import events as ev
from kvmmodel.scenarios.run import built_in, run
from kvmmodel.trace.line import RESET_ENTRY, after, line_story
from kvmmodel.trace.story import PinState

HOST = Host(kernel="6.12", avic=False)
VECTORS = (0x62, 0x72)


def records(name):
    return run(built_in(name), HOST).trace.records


def told(name, pin=20, **options):
    return line_story(records(name), HOST.kernel, pin, VECTORS, title="t", setup="s", **options)


def test_it_begins_with_the_line_and_knows_the_entry_from_before():
    story = told("level-one")
    assert story.steps[0].label == "line rises"
    assert story.pin == PinState(20, 0x8062, ())
    assert story.steps[0].pin == PinState(20, 0x8062, (0,))


def test_a_run_without_that_line_has_no_story():
    with pytest.raises(ValueError, match="changes the line of pin 5"):
        told("level-one", pin=5)


@pytest.mark.parametrize("accepted", [1, 2])
def test_it_ends_when_so_many_messages_have_been_sent(accepted):
    story = told("level-shared", accepted=accepted)
    kinds = [step.kind for step in story.steps]
    assert kinds.count("msi") == kinds.count("set_irr") == accepted
    assert story.steps[-1].label == "remote IRR := 1"


def test_the_vmm_s_thread_has_its_bar_only_while_it_runs():
    story = told("level-one", accepted=1)
    assert dict(story.before) == {"t.guest": "runs"}
    assert all(("ioapic", "runs") in step.bars for step in story.steps)
    later = told("level-one").steps[len(story.steps)]
    assert ("ioapic", "runs") not in later.bars


def test_a_source_that_raises_again_what_is_up_is_told():
    """The explicit EOI of an assigned device's line: the owner answers although its source was never lowered."""
    from kvmmodel.widgets.level import level_story

    labels = [step.label for step in level_story("assigned", entry="explicit").steps]
    assert labels.index("source 1 again: line is up") > labels.index("signals the resample eventfd")


def test_a_pin_after_an_event():
    pin = PinState(20, RESET_ENTRY, ())
    assert after(pin, ev.IoapicLine(20, (0, 1))).sources == (0, 1)
    assert after(pin, ev.IoapicEntry(20, 0x8062, RESET_ENTRY)).entry == 0x8062
    assert after(pin, ev.IoapicEntry(5, 0x8062, RESET_ENTRY)) == pin
    assert after(pin, ev.KvmEoi(0, 0x62)) == pin
