"""Stories of runs of which nothing is known beforehand: what happens in them is read off events and stacks."""

from __future__ import annotations

import pytest

from kvmmodel.machine.host import Host
from kvmmodel.scenarios.format import read
from kvmmodel.scenarios.run import built_in, names, run
from kvmmodel.trace.tell import happenings, tell

WORDS = {"title": "t", "setup": "s"}
SETUPS = ("extint-ready", "pc-ready", "startup", "gif-clear-none", "ppr-exits")  # in which no interrupt comes


def made(name, kernel="7.3", avic=False, **options):
    return run(built_in(name), Host(kernel=kernel, avic=avic, iommu="vapic"), **options)


def kinds(vm):
    return [(one.kind, one.vector, one.target) for one in happenings(vm.trace.records)]


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("ipi-halted", [("ipi", 0x43, 1)]),
        ("ipi-xapic-in-guest", [("ipi", 0x43, 1)]),
        ("ipi-others-halted", [("ipi", 0x43, 1)]),
        ("msi-in-host", [("msi", 0x63, 0)]),
        ("device-halted", [("device", 0x63, 0)]),
        ("timer-preempted", [("timer", 0xE1, 0)]),
        ("timer-periodic-in-guest", [("timer", 0xE2, 0), ("timer", 0xE2, 0)]),
        ("level-edge", [("line", 0x62, 0), ("line", 0x62, 0)]),
        ("extint-clear", [("extint", 0, 0)]),
        ("pit-late", [("extint", 0, 0)]),
        ("nmi", [("nmi", 2, 1)]),
        ("gif-set-two", [("nmi", 2, 0), ("nmi", 2, 0)]),
        ("gif-set-smi", [("smi", 0, 0)]),
        ("pv-kick-halted", [("kick", 0, 1)]),
        ("window-clear-higher", [("ipi", 0x41, 0), ("ipi", 0x51, 0)]),
        *((name, []) for name in SETUPS),
    ],
)
@pytest.mark.parametrize("avic", [False, True])
def test_what_happens_is_found_with_avic_as_without(name, found, avic):
    assert kinds(made(name, avic=avic)) == found


@pytest.mark.parametrize(("kernel", "avic"), [("5.10", False), ("6.12", True), ("7.3", True)])
@pytest.mark.parametrize("name", [name for name in names() if name != "lab"])
def test_every_built_in_scenario_makes_a_story_of_each_happening(name, kernel, avic):
    vm = made(name, kernel, avic)
    found = happenings(vm.trace.records)
    for one in found:
        story = tell(vm.trace.records, vm.host.kernel, one, **WORDS)
        assert story.steps
        assert story.verdict is None, (name, one)
    if not found:
        assert tell(vm.trace.records, vm.host.kernel, 0, **WORDS).steps


@pytest.mark.parametrize("avic", [False, True])
def test_an_interrupt_s_story_goes_from_its_cause_to_its_own_eoi(avic):
    vm = made("window-clear-higher", avic=avic)
    first, second = (tell(vm.trace.records, vm.host.kernel, one, **WORDS) for one in happenings(vm.trace.records))
    assert "0x41" in first.steps[0].label
    assert "0x41" in first.steps[-1].label
    assert "0x51" in second.steps[0].label
    assert "0x51" in second.steps[-1].label
    assert first.steps[-1].kind == second.steps[-1].kind == "eoi"
    labels = [step.label for step in first.steps]
    assert labels.index("handler of `0x51` runs") < labels.index("handler of `0x41` runs")  # it comes in between


def test_the_second_tick_of_a_periodic_timer_begins_with_the_host_s_timer():
    vm = made("timer-periodic-in-guest")
    second = tell(vm.trace.records, vm.host.kernel, happenings(vm.trace.records)[1], **WORDS)
    assert second.steps[0].label in ("`#VMEXIT` INTR", "hrtimer fires")
    assert second.steps[-1].kind == "eoi"


def test_an_nmi_s_story_ends_with_its_handler():
    vm = made("nmi")
    story = tell(vm.trace.records, vm.host.kernel, happenings(vm.trace.records)[0], **WORDS)
    assert [step.label for step in story.steps][-2:] == ["NMI handler runs", "`IRET`"]


def test_a_vcpu_s_whole_program_goes_on_behind_the_first_eoi():
    vm = made("window-set-higher")
    story = tell(vm.trace.records, vm.host.kernel, 0, **WORDS)
    assert sum(step.kind == "eoi" for step in story.steps) == 2
    nobody = run(read("x", 'title = "t"\n[vcpu.0]\nprogram = []'), Host(avic=False))
    with pytest.raises(ValueError, match="vCPU 1 executes no instruction"):
        tell(nobody.trace.records, nobody.host.kernel, 1, **WORDS)


def test_a_broken_rule_leaves_a_verdict():
    vm = made("ipi-halted", broken=("no-kick",), limit_ns=100_000)
    story = tell(vm.trace.records, vm.host.kernel, happenings(vm.trace.records)[0], **WORDS)
    assert story.verdict.startswith("Stuck: IRR `0x43` is set, and vCPU 1 sleeps.")


PINS = """
title = "t"
[vm]
vcpus = 1
[vcpu.0]
program = ["mmio_write 0xfec00000 0x38", "mmio_write 0xfec00010 0x62", "nop", "spin 9000"]
[[userspace]]
when = { event = "instruction", text = "NOP" }
do = ["irq_line 20 1", "irq_line 19 1"]
"""


def test_another_pin_s_line_is_no_part_of_a_pin_s_story():
    """The teller took it for its own pin's, and failed."""
    vm = run(read("x", PINS.replace("vcpus = 1", "vcpus = 1\nboot = true")), Host(kernel="6.12", avic=False))
    (one,) = happenings(vm.trace.records)
    story = tell(vm.trace.records, vm.host.kernel, one, **WORDS)
    assert sum(step.kind == "line" for step in story.steps) == 1


def test_a_message_for_somebody_who_has_no_lane_is_not_this_vcpu_s():
    vm = made("nmi", avic=True)
    labels = [step.label for step in tell(vm.trace.records, vm.host.kernel, 0, **WORDS).steps]
    assert "vCPU 1 accepts" in labels
