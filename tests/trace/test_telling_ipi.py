"""An IPI told closer than other interrupts: what the extra steps say, and from which events they come."""

import pytest

from kvmmodel import Host
from kvmmodel.scenarios.run import built_in, run
from kvmmodel.trace.steps import story
from kvmmodel.trace.telling import TELLERS
from kvmmodel.trace.telling_ipi import IPI_TELLERS


def tell(scenario, kernel="7.3.4", *, vector=0x43, target=1, tellers=IPI_TELLERS, most=40):
    host = Host(kernel=kernel, avic=False)
    made = run(built_in(scenario), host)
    return story(
        made.trace.records, host.kernel, "ipi", vector, target, title="t", setup="s", tellers=tellers, most=most
    )


def test_the_other_tellers_steps_are_all_there():
    """Only the sender's VMRUN reads otherwise."""
    plain, closer = (tell("ipi-halted", tellers=tellers).steps for tellers in (TELLERS, IPI_TELLERS))
    kept = [step.label for step in closer]
    assert [step.label for step in plain if step.label not in kept] == ["`VMRUN`"]
    assert len(closer) > len(plain)


def test_a_story_has_no_more_steps_than_asked_for():
    assert len(tell("ipi-xapic-halted", most=7).steps) == 7


@pytest.mark.parametrize("where", ["in-guest", "halted", "in-host", "preempted"])
def test_the_second_target_leaves_one_step(where):
    """Its barriers were once told, too, as a barrier names no vCPU."""
    told = [step.label for step in tell(f"ipi-others-{where}").steps]
    assert told.count("`smp_mb__after_atomic`") == 1
    assert told.count("the same for vCPU 2") == 1


def test_the_other_target_can_be_followed_instead():
    told = [step.label for step in tell("ipi-others-in-guest", target=2).steps]
    assert told.index("the same for vCPU 1") < told.index("the loop finds vCPU 2")
    assert "host IPI to CPU 6" in told
    assert "host IPI to CPU 5" not in told


def test_an_ipi_that_takes_one_write_begins_with_it():
    """The xAPIC scenario's second IPI is a shorthand: it needs no ICR2."""
    assert tell("xapic", vector=0x44, target=0).steps[0].label == "`MOV [0xfee00300] = 0x40044`"
    assert tell("xapic").steps[0].label == "`MOV [0xfee00310] = 0x1000000`"
