"""The explorer of the legacy page: who gets in, what a withdrawn request leaves, what the PIT's acknowledge is for."""

import pytest

from kvmmodel import Host
from kvmmodel.widgets.legacy import (
    GONE,
    GUESTS,
    SOURCES,
    late_ticks,
    legacy_explorer,
    legacy_story,
    periods,
    userspace_extint,
)

EVERY = [(source, guest, gone) for _, source in SOURCES for _, guest in GUESTS for _, gone in GONE]
LINES = [case for case in EVERY if case[0] != "pit"]
VECTORS = {"line5": 0x35, "line10": 0x3A, "pit": 0x30}
SPURIOUS = {"line5": 0x37, "line10": 0x3F}
LAPIC = 0xF1
KERNELS = ["5.10", "6.12.95", "7.3.4"]


def handlers(story):
    return [int(step.label.split("`")[1], 16) for step in story.steps if step.kind == "handler"]


def labels(story):
    return [step.label for step in story.steps]


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize(("source", "guest"), [case[:2] for case in EVERY if case[2] == "no"])
def test_the_8259s_vector_comes_and_before_the_local_apics(source, guest, kernel):
    story = legacy_story(source, guest, "no", kernel)
    assert handlers(story) == [VECTORS[source], LAPIC][: 1 + (guest == "both")]
    assert "8259 EOI of IRQ 0" in labels(story) or source != "pit"


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize(("source", "guest", "gone"), [case for case in LINES if case[2] != "no"])
def test_a_withdrawn_request_is_spurious_or_nothing(source, guest, gone, kernel):
    """Nothing only where the first chip's level fell before KVM looked; the second chip's request is latched."""
    story = legacy_story(source, guest, gone, kernel)
    expected = [] if (source, gone) == ("line5", "early") else [SPURIOUS[source]]
    assert handlers(story) == [*expected, *([LAPIC] if guest == "both" else [])]
    assert story.verdict.startswith("Spurious." if expected else "Nothing comes.")


@pytest.mark.parametrize(("source", "guest", "gone"), EVERY)
def test_an_extint_leaves_no_trace_in_the_local_apic(source, guest, gone):
    story = legacy_story(source, guest, gone)
    for state in (story.start, *(step.states for step in story.steps)):
        assert (state[0].irr | state[0].isr) & ~(1 << LAPIC) == 0


@pytest.mark.parametrize(("source", "guest"), [case[:2] for case in EVERY if case[2] == "no"])
def test_a_window_is_needed_with_if_clear_and_not_for_the_tpr(source, guest):
    asked = "ask for an IRQ window" in labels(legacy_story(source, guest, "no"))
    assert asked == (guest in ("clear", "both"))


@pytest.mark.parametrize("guest", [guest for _, guest in GUESTS])
def test_the_pit_s_pulse_cannot_be_withdrawn(guest):
    steps = legacy_story("pit", guest, "no").steps
    for gone in ("early", "late"):
        story = legacy_story("pit", guest, gone)
        assert (story.steps, story.verdict.split(".")[0]) == (steps, "Nothing to withdraw")


@pytest.mark.parametrize("guest", [guest for _, guest in GUESTS])
def test_without_the_acknowledge_the_pit_sends_one_tick(guest):
    """The runs are the same up to the second tick: then one has a pulse, and the other has none."""
    sound, broken = (legacy_story("pit", guest, "no", broken=on) for on in (False, True))
    assert [label for label in labels(sound) if label.startswith("tick")] == ["tick: 1 owed", "tick: 1 owed"]
    assert [label for label in labels(broken) if label.startswith("tick")] == ["tick: 1 owed", "tick: 2 owed"]
    assert labels(sound)[-1] == "line 0 falls"
    assert labels(broken)[-1] == "not acknowledged: no pulse"
    assert broken.verdict.startswith("One tick, then no other.")


def test_a_line_of_a_device_does_not_need_that_acknowledge():
    sound, broken = (legacy_story("line5", "set", "no", broken=on) for on in (False, True))
    assert (broken.steps, broken.verdict.split(".")[0]) == (sound.steps, "Nothing changes")


@pytest.mark.parametrize("broken", [False, True])
@pytest.mark.parametrize(("source", "guest", "gone"), EVERY)
def test_words_are_few(source, guest, gone, broken):
    story = legacy_story(source, guest, gone, broken=broken)
    columns = {column.id for group in story.groups for column in group.columns}
    assert 5 < len(story.steps) < 60
    for step in story.steps:
        assert len(step.sentence.split()) <= 20, step.sentence
        assert step.sentence.endswith(".")
        assert len(step.label.split()) <= 6, step.label
        assert {step.at, step.to} - {None} <= columns


def test_each_step_of_another_thread_stands_in_its_lane():
    story = legacy_story("pit", "set", "no")
    assert story.groups[0].label == "PIT thread · CPU 3"
    for step in story.steps:
        names = {frame.name for frame in step.stack}
        assert (step.at == "u.kvm") == ("kthread_worker_fn" in names)
        assert (step.at == "dev") == ("pit_timer_fn" in names)


@pytest.mark.parametrize("kernel", KERNELS)
def test_reinjection_makes_up_for_late_ticks_and_discarding_does_not(kernel):
    kept, dropped = periods("reinject", kernel), periods("discard", kernel)
    ticks = len(kept)
    assert sum(p.handled for p in kept) == sum(p.pulses for p in kept) == ticks
    assert [p.owed for p in kept] == [0, 1, 2, 3, 0, 0]
    assert [p.pulses for p in dropped] == [1] * ticks
    assert sum(p.handled for p in dropped) == ticks - 3
    assert max(p.handled for p in kept) == 4


def test_the_table_has_a_row_for_each_tick_and_their_sum():
    table = late_ticks()
    assert table.count("<tr>") == 2 + len(periods("reinject")) + 1
    assert table.count(">away<") == 3


def test_the_explorer_starts_with_a_line_and_if_set():
    widget = legacy_explorer()
    assert widget.story == legacy_story("line5", "set", "no")
    widget.choose(source="pit")
    widget.set_broken(True)
    assert widget.story == legacy_story("pit", "set", "no", broken=True)


@pytest.mark.parametrize("kernel", KERNELS)
def test_userspace_has_room_for_one_vector_at_a_time(kernel):
    """KVM_INTERRUPT: EEXIST while one waits; KVM_EXIT_IRQ_WINDOW_OPEN when the guest could take another."""
    found = userspace_extint(kernel)
    assert found == {"answers": [0, -17], "handlers": {"0x31": 1}, "exits": ["irq_window_open"]}


@pytest.mark.parametrize(
    ("options", "inhibits"),
    [({"pit": "reinject"}, {"PIT_REINJ"}), ({"pit": "discard"}, set()), ({"irqchip": "split"}, set())],
)
def test_a_pit_in_reinject_mode_inhibits_avic_before_it_ticks(options, inhibits):
    vm = Host(kernel="7.3", avic=True).create_vm(vcpus=1, boot=True, **options)
    assert vm.inhibits == inhibits
    assert vm.vcpus[0].apicv_active is not bool(inhibits)
