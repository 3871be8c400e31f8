"""Hypercalls told: whose arguments KVM reads, and a kick without a vector."""

import pytest

from kvmmodel import Host
from kvmmodel.scenarios.run import built_in, run
from kvmmodel.trace.steps import kick_story, story
from kvmmodel.trace.telling_pv import PV_TELLERS


def kick(name):
    made = run(built_in(name), Host(kernel="7.3", avic=False))
    return kick_story(made.trace.records, made.host.kernel, 1, 0, title="t", setup="s", tellers=PV_TELLERS)


def step(told, label):
    return next(step for step in told.steps if step.label == label)


def test_a_pv_ipi_tells_how_many_are_meant_and_follows_one():
    made = run(built_in("pv-ipi"), Host(kernel="7.3", avic=False))
    told = story(
        made.trace.records, made.host.kernel, "ipi", 0x43, 2, title="t", setup="s", tellers=PV_TELLERS
    )  # fmt: skip
    assert (
        "a bitmap with 2 of 128 bits set, which begins at APIC ID 1" in step(told, "KVM reads the arguments").sentence
    )
    assert [s.label for s in told.steps if s.label.startswith("the same for")] == ["the same for vCPU 1"]


def test_a_waiter_sleeps_and_is_told_why_it_wakes():
    told = kick("pv-kick-halted")
    assert [s.label for s in told.steps if s.label.startswith("`check_block`")] == [
        "`check_block`: nothing",
        "`check_block`: kicked",
    ]
    assert step(told, "the map finds vCPU 1").detail == "mode `Res3` in traces"


def test_the_ipi_to_a_waiter_that_has_just_left_the_guest_goes_to_kvm():
    """It was told as getting the vCPU out of the guest, which it had left."""
    late = step(kick("pv-kick-in-guest"), "host IPI to CPU 5")
    assert (late.at, late.to) == ("s.kvm", "t.kvm")
    assert late.sentence.endswith("It finds the guest left.")


def test_without_a_halt_there_is_no_kick_to_tell():
    made = run(built_in("self-ipi"), Host(kernel="7.3", avic=False))
    with pytest.raises(ValueError, match="vCPU 0 never executes HLT"):
        kick_story(made.trace.records, made.host.kernel, 0, 0, title="t", setup="s", tellers=PV_TELLERS)
