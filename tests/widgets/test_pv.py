"""The explorer of the page on PV IPI and PV kick: every way to every target; and what pv_unhalted is for."""

import re

import pytest

from kvmmodel.widgets.pv import COUNTS, KERNELS, TARGETS, VECTOR, WAYS, pv_explorer, pv_run, pv_scenario, pv_story
from kvmmodel.widgets.pv_costs import COUNTS as COUNTED
from kvmmodel.widgets.pv_costs import NAMES, Cost, cost, kick_cost, pv_costs, pv_costs_avic

EVERY = [(way, target, count) for _, way in WAYS for _, target in TARGETS for _, count in COUNTS]
IPIS = [(way, target, count) for way, target, count in EVERY if way != "kick"]
RELEASES = [kernel for _, kernel in KERNELS]


def labels(*values, **options):
    return [step.label for step in pv_story(*values, **options).steps]


@pytest.mark.parametrize("kernel", RELEASES)
@pytest.mark.parametrize(("way", "target", "count"), IPIS)
def test_the_story_of_an_ipi_ends_with_the_eoi_of_the_last_target(way, target, count, kernel):
    story = pv_story(way, target, count, kernel)
    last = story.steps[-1]
    assert (last.kind, last.detail, story.verdict, story.broken) == ("eoi", f"of vCPU {count}", None, None)
    assert not (last.states[-1].irr | last.states[-1].isr) >> VECTOR & 1


@pytest.mark.parametrize("broken", [False, True])
@pytest.mark.parametrize("kernel", RELEASES)
@pytest.mark.parametrize(("way", "target", "count"), EVERY)
def test_words_are_few(way, target, count, kernel, broken):
    story = pv_story(way, target, count, kernel, broken)
    columns = {column.id for group in story.groups for column in group.columns}
    for step in story.steps:
        assert len(step.sentence.split()) <= 20, step.sentence
        assert len(step.label.split()) <= 6, step.label
        assert len(step.label) <= 38, step.label
        assert {step.at, step.to} - {None} <= columns


@pytest.mark.parametrize(
    ("way", "exits"),
    [("each", ["`#VMEXIT` MSR"] * 4), ("cluster", ["`#VMEXIT` MSR"]), ("pv", ["`#VMEXIT` VMMCALL"])],
)
def test_the_sender_exits_as_often_as_it_sends(way, exits):
    steps = pv_story(way, "in-guest", "4").steps
    assert [step.label for step in steps if step.kind == "exit" and step.at == "s.guest"] == exits
    assert sum(step.label.startswith("the same for vCPU") for step in steps) == 3


@pytest.mark.parametrize(("way", "fast"), [("each", RELEASES), ("cluster", ["7.3.4"]), ("pv", [])])
def test_a_hypercall_never_takes_a_fast_path(way, fast):
    """source 6.1.176 to 7.3.4 svm_exit_handlers_fastpath."""
    path = "fast path: `WRMSR` is done"
    assert [kernel for kernel in RELEASES if path in labels(way, "in-guest", "2", kernel)] == fast


def test_a_pv_ipi_is_found_by_bit_and_map():
    told = labels("pv", "halted", "2")
    assert told[:2] == ["`VMMCALL`: `KVM_HC_SEND_IPI`", "`#VMEXIT` VMMCALL"]
    assert told.index("KVM reads the arguments") < told.index("the same for vCPU 1")
    assert told.index("bit and map give vCPU 2") < told.index("set IRR `0x43`")


@pytest.mark.parametrize("kernel", RELEASES)
@pytest.mark.parametrize("target", [target for _, target in TARGETS])
def test_a_kick_ends_the_halt_without_an_interrupt(target, kernel):
    story = pv_story("kick", target, kernel=kernel)
    told = [step.label for step in story.steps]
    assert told[:2] == ["`HLT`", "`#VMEXIT` HLT"]
    assert told[-1] == "`VMRUN`"
    assert told.index("set `pv_unhalted`") < told.index("runnable; clear `pv_unhalted`")
    assert ("`kvm_vcpu_block` sleeps" in told) is (target == "halted")
    assert all(state.irr == state.isr == 0 for step in story.steps for state in step.states)
    assert not {"inject", "handler", "eoi"} & {step.kind for step in story.steps}


@pytest.mark.parametrize("kernel", RELEASES)
@pytest.mark.parametrize("target", [target for _, target in TARGETS])
def test_without_the_flag_the_waiter_sleeps_for_good(target, kernel):
    story = pv_story("kick", target, kernel=kernel, broken=True)
    assert story.steps[-1].label == "`kvm_vcpu_block` sleeps"
    assert "EVENT" in story.steps[-1].states[-1].requests
    assert story.verdict.startswith("Lost wake-up")
    vm = pv_run("kick", target, 1, kernel, broken=True)
    assert (vm.world.counters, vm.vcpus[1].kvm_vcpu.task.state) == ({"lock": 1}, "blocked")


@pytest.mark.parametrize(("way", "target", "count"), IPIS)
def test_no_ipi_needs_the_flag(way, target, count):
    whole, broken = (pv_story(way, target, count, broken=flag) for flag in (False, True))
    assert broken.steps == whole.steps
    assert broken.verdict.startswith("Nothing lost.")


def test_a_kick_has_one_waiter_whatever_is_chosen():
    assert pv_story("kick", "halted", "4") == pv_story("kick", "halted", "1")
    assert pv_story("kick", "halted").setup.endswith("; one waiter, asleep")
    assert len(pv_scenario("pv", "halted", 4).programs) == 5


@pytest.mark.parametrize("kernel", ["5.10", "6.1", "6.12", "7.3"])
@pytest.mark.parametrize(
    ("way", "count", "found"),
    [
        ("each", 1, Cost(1, 0, 1, 0)),
        ("pv", 1, Cost(1, 1, 1, 0)),
        ("each", 4, Cost(4, 0, 4, 2)),
        ("cluster", 4, Cost(1, 0, 4, 2)),
        ("others", 4, Cost(1, 0, 4, 2)),
        ("pv", 4, Cost(1, 1, 4, 2)),
        ("cluster", 32, Cost(3, 0, 32, 16)),  # IDs 1 to 32: three clusters
        ("pv", 32, Cost(1, 1, 32, 16)),
    ],
)
def test_what_is_counted(way, count, found, kernel):
    assert cost(way, count, kernel) == found


@pytest.mark.parametrize("kernel", ["6.6", "6.12", "7.3"])
@pytest.mark.parametrize(
    ("way", "asleep", "found"),
    [
        ("each", "none", Cost(0, 0, 0, 0)),
        ("cluster", "none", Cost(0, 0, 0, 0)),
        ("others", "none", Cost(0, 0, 0, 0)),
        ("pv", "none", Cost(1, 1, 0, 0)),
        ("each", "all", Cost(4, 0, 4, 4)),
        ("cluster", "all", Cost(1, 0, 4, 4)),
        ("others", "all", Cost(1, 0, 4, 4)),
        ("pv", "all", Cost(1, 1, 4, 4)),
    ],
)
def test_with_avic_a_hypercall_exits_where_an_icr_write_need_not(way, asleep, found, kernel):
    """avic.md 5.3: an ICR write exits only if a target is not running; VMMCALL always does."""
    assert cost(way, 4, kernel, avic=True, asleep=asleep) == found


def test_the_table_with_avic_has_the_running_targets_first():
    rows = re.findall(r"<tr><th scope=\"row\">(.*?)</th><td>(.*?)</td><td>(\d+)</td>", pv_costs_avic())
    running = [
        ("4 in guest", "one by one", "0"),
        ("4 in guest", "by cluster", "0"),
        ("4 in guest", "all but self", "0"),
    ]
    assert rows[:4] == [*running, ("4 in guest", "PV IPI", "1")]
    assert [row[2] for row in rows[4:]] == ["4", "1", "1", "1"]


def test_a_kick_costs_one_hypercall_and_one_wake_up():
    assert kick_cost() == Cost(1, 1, 1, 1)


def test_a_way_that_does_not_reach_everybody_is_not_counted(monkeypatch):
    monkeypatch.setattr("kvmmodel.widgets.pv_costs.send", lambda way, targets: f"send_ipi 1 {VECTOR:#x}")
    with pytest.raises(ValueError, match="each did not reach each of 4 vCPUs once"):
        cost("each", 4)


def test_the_table_has_a_row_for_each_number_and_way():
    table = pv_costs()
    assert all(f">{name.replace(chr(39), '&#x27;')}</th>" in table or f">{name}</th>" in table for name in NAMES)
    assert table.count("<tr>") == 1 + 2 + 4 * (len(COUNTED) - 1) + 1
    assert "<td>one by one</td><td>32</td><td>0</td><td>32</td><td>16</td>" in table
    assert "<td>PV kick</td><td>1</td><td>1</td><td>1</td><td>1</td>" in table


def test_the_explorer_starts_with_a_pv_ipi_to_two_running_guests():
    widget = pv_explorer()
    assert widget.story == pv_story("pv", "in-guest", "2", "7.3.4")
    widget.choose(way="kick", target="halted", kernel="6.1")
    assert widget.story == pv_story("kick", "halted", "2", "6.1")
    widget.set_broken(True)
    assert (widget.error, widget.story.broken is not None) == (None, True)
