"""AVIC told: what hardware does stands in its own lane, and KVM's lane is empty where no KVM code runs."""

import pytest

from kvmmodel import Host
from kvmmodel.scenarios.run import built_in, run
from kvmmodel.trace.steps import access_story, program_story, story
from kvmmodel.widgets.svg import plain

KERNELS = ("5.10", "6.1", "6.12", "7.3")


def tell(name, cpu="zen4", kernel="7.3", vector=0x43, target=1, avic=True):
    made = run(built_in(name), Host(cpu, kernel, avic=avic))
    return story(made.trace.records, made.host.kernel, "ipi", vector, target, title="t", setup="s")


def lanes(told):
    return {step.at.partition(".")[2] or step.at for step in told.steps}


def labels(told):
    return [step.label for step in told.steps]


def test_an_ipi_between_running_vcpus_leaves_kvms_lane_empty():
    told = tell("ipi-in-guest")
    assert lanes(told) == {"guest", "hw"}
    assert not any(column.endswith("kvm") for step in told.steps for column, _ in step.bars)
    assert all(step.stack == () for step in told.steps)
    assert [(step.kind, step.at, step.to) for step in told.steps] == [
        ("write", "s.guest", None),
        ("set_irr", "s.guest", "s.hw"),
        ("read", "s.hw", None),
        ("doorbell", "s.hw", "t.hw"),
        ("read", "t.hw", None),
        ("inject", "t.hw", None),
        ("handler", "t.guest", None),
        ("write", "t.guest", None),
        ("eoi", "t.guest", "t.hw"),
    ]


def test_the_hardwares_bar_stands_beside_the_guests():
    bars = [dict(step.bars) for step in tell("ipi-in-guest").steps]
    assert bars[1] == {"s.guest": "runs", "t.guest": "runs", "s.hw": "runs"}
    assert "t.hw" in bars[3]
    assert "s.hw" not in bars[3]
    assert "t.hw" not in bars[6]


def test_an_ipi_to_a_sleeper_exits_and_kvm_wakes_it_without_a_kick():
    told = tell("ipi-halted")
    order = ["`IsRunning` is 0", "incomplete IPI: target not running", "KVM wakes the thread", "`IsRunning` := 1"]
    assert [label for label in labels(told) if label in order] == order
    assert "`EVENTINJ`" not in " ".join(labels(told))
    assert told.steps[-1].detail == "edge, so no exit"


def test_in_a_hybrid_kvm_rings_the_doorbell_and_the_eoi_exits():
    told = tell("ipi-in-guest", "zen2")
    ring = next(step for step in told.steps if step.kind == "doorbell")
    assert (ring.at, ring.to, ring.detail) == ("s.kvm", "t.hw", "by KVM")
    assert labels(told)[-1] == "`apic_set_eoi` clears ISR `0x43`"


def test_kvms_doorbell_is_told_where_no_tracepoint_shows_it():
    """5.10 has none; that it rings was once not to be seen at all."""
    made = run(built_in("msi-in-guest"), Host("zen4", "5.10", avic=True), x2apic=False)
    told = story(made.trace.records, made.host.kernel, "msi", 0x63, 0, title="t", setup="s")
    assert any(step.label.startswith("doorbell to CPU") and step.detail == "by KVM" for step in told.steps)


def test_a_self_ipi_stays_in_one_vcpus_lanes():
    told = tell("self-ipi", vector=0x41, target=0)
    assert {step.at for step in told.steps} == {"t.guest", "t.hw"}


def test_a_further_target_leaves_one_step():
    told = labels(tell("ipi-others-in-guest"))
    assert told.count("the same for vCPU 2") == 1
    assert sum(label.startswith("doorbell to") for label in told) == 1


def test_a_program_may_be_told_with_avic():
    made = run(built_in("window-clear-none"), Host("zen4", "7.3", avic=True))
    told = program_story(made.trace.records, made.host.kernel, (0x41,), title="t", setup="s")
    assert "IRR to ISR `0x41`" in labels(told)
    assert not any(step.kind in ("exit", "window") for step in told.steps)


def test_an_access_may_be_told_with_avic():
    made = run(built_in("self-ipi"), Host("zen4", "7.3", avic=True))
    ours = [record for record in made.trace.records if record.vcpu == 0]
    assert "EOI clears ISR `0x41`" in labels(access_story(ours, made.host.kernel, title="t", setup="s"))


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("cpu", ["zen2", "zen4"])
@pytest.mark.parametrize("name", ["ipi-xapic-in-guest", "ipi-in-guest", "ipi-halted", "ipi-logical-halted"])
def test_labels_are_short_and_sentences_are_too(name, cpu, kernel):
    for step in tell(name, cpu, kernel).steps:
        assert len(plain(step.label).split()) <= 6, step.label
        assert len(step.sentence.split()) <= 20, step.sentence
