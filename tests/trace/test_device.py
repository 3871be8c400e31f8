"""The story of a device's interrupt: where it begins and ends, and what it says of the entry."""

import pytest

from kvmmodel.trace.device import device_story
from kvmmodel.widgets.devices import HOST_CPU, KERNELS, POSTING, STATES, VECTOR, device_explained, device_run

EVERY = [(state, posting) for _, state in STATES for _, posting in POSTING]


def labels(*values, **options):
    return [step.label for step in device_explained(*values, **options).steps]


@pytest.mark.parametrize("kernel", [kernel for _, kernel in KERNELS])
@pytest.mark.parametrize(("state", "posting"), EVERY)
def test_a_story_ends_with_the_eoi_of_its_vector(state, posting, kernel):
    story = device_explained(state, posting, kernel)
    last = story.steps[-1]
    assert (last.kind, story.verdict, story.broken) == ("eoi", None, None)
    assert not (last.states[-1].irr | last.states[-1].isr) >> VECTOR & 1


@pytest.mark.parametrize("broken", [False, True])
@pytest.mark.parametrize("kernel", [kernel for _, kernel in KERNELS])
@pytest.mark.parametrize(("state", "posting"), EVERY)
def test_words_are_few(state, posting, kernel, broken):
    story = device_explained(state, posting, kernel, broken)
    columns = {column.id for group in story.groups for column in group.columns}
    assert len(columns) == 7
    for step in story.steps:
        assert len(step.sentence.split()) <= 20, step.sentence
        assert len(step.label.split()) <= 6, step.label
        assert len(step.label) <= 38, step.label
        assert {step.at, step.to, *(column for column, _ in step.bars)} - {None} <= columns


@pytest.mark.parametrize(
    ("state", "first"), [("in-guest", "device sends its MSI"), ("halted", "`HLT`"), ("preempted", "thread preempted")]
)
def test_it_begins_where_the_vcpu_stops_or_with_the_message(state, first):
    assert labels(state, "on")[0] == first


def test_in_guest_and_posted_no_lane_of_the_host_is_used():
    story = device_explained("in-guest", "on")
    used = {c for step in story.steps for c in (step.at, step.to, *(column for column, _ in step.bars)) if c}
    assert used == {"dev", "iommu", "t.hw", "t.guest"}
    assert all(step.stack == () for step in story.steps)


def test_the_entry_follows_the_thread():
    story = device_explained("halted", "on")
    shown = [(step.irte.lo >> 6 & 1, step.irte.lo >> 2 & 1) for step in story.steps]
    assert (story.irte.lo >> 6 & 1, story.irte.lo >> 2 & 1) == (1, 0)
    assert [pair for i, pair in enumerate(shown) if i == 0 or pair != shown[i - 1]] == [(1, 0), (0, 1), (1, 0)]


@pytest.mark.parametrize(("kernel", "told"), [("6.12", True), ("6.18", False), ("7.3", False)])
def test_a_preempted_vcpu_is_logged_for_nothing_up_to_6_12(kernel, told):
    assert ("`avic_ga_log_notifier`: nothing" in labels("preempted", "on", kernel)) is told


@pytest.mark.parametrize(("posting", "how"), [("off", "doorbell to CPU 5"), ("inhibited", "host IPI to CPU 5")])
def test_remapped_avic_decides_how_the_vcpu_hears_of_it(posting, how):
    told = labels("in-guest", posting)
    assert told[1:3] == ["host interrupt: VFIO", "`irqfd_wakeup`: the message"]
    assert how in told


@pytest.mark.parametrize(("posting", "who"), [("on", "KVM wakes the thread"), ("off", "KVM wakes the thread"),
                                              ("inhibited", "kick wakes the thread")])  # fmt: skip
def test_who_wakes_a_halted_vcpu(posting, who):
    """Without AVIC it is the kick, which once was told as the wake-up."""
    assert who in labels("halted", posting)


def test_a_run_without_a_device_has_no_such_story():
    vm = device_run("in-guest", "on")
    with pytest.raises(ValueError, match="no device sends a message"):
        device_story([], vm.host.kernel, HOST_CPU, VECTOR, title="", setup="")
