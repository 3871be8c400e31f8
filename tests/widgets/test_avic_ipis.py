"""IPIs under AVIC: the exit 401h that each ends in, who has an IRR bit by then, and what KVM makes of it by release."""

import re
from itertools import product

import pytest

from kvmmodel.widgets.avic_exits import APICS, KERNELS
from kvmmodel.widgets.avic_ipis import IPIS, STATES, ipi_explorer, ipi_story, ipi_table, send
from kvmmodel.widgets.svg import plain

EVERY = list(product(IPIS, *([value for _, value in choice] for choice in (STATES, APICS, KERNELS))))


def ident(*values):
    exit_ = send(*values).exit
    return None if exit_ is None else exit_[0]


@pytest.mark.parametrize(("ipi", "guest", "asleep"), [
    ("one", None, 1), ("two", None, 1), ("all", None, 1),
    ("hole", 2, 2), ("absent", 2, 2), ("nmi", 0, 0), ("low", 4, 4),
])  # fmt: skip
@pytest.mark.parametrize(("kernel", "apic"), [("5.10", "x"), ("6.1", "x2"), ("7.3", "x"), ("7.3", "x2")])
def test_the_id_is_the_processor_s_and_the_same_on_every_release(kernel, apic, ipi, guest, asleep):
    assert (ident(ipi, "guest", kernel, apic), ident(ipi, "asleep", kernel, apic)) == (guest, asleep)


def test_exitinfo1_is_the_icr_as_written():
    assert send("two", "asleep", "7.3", "x").exit[1] == 0x06000000_00000843
    assert send("two", "asleep", "7.3", "x2").exit[1] == 0x00000006_00000843


@pytest.mark.parametrize("kernel", ["5.10", "6.1", "7.3"])
def test_with_id_1_every_irr_bit_is_set_and_who_runs_is_rung(kernel):
    sent = send("two", "asleep", kernel, "x")
    assert (sent.irr, sent.rung, sent.kvm_wakes) == ((1, 2), (2,), (1,))
    assert sent.kvm_rings == (() if kernel == "5.10" else (2,))  # once more: KVM does not ask who was running
    assert sent.took == (1, 2)


@pytest.mark.parametrize("ipi", ["hole", "absent", "nmi", "low"])
def test_with_any_other_id_nothing_has_been_done(ipi):
    sent = send(ipi, "guest", "7.3", "x")
    assert (sent.irr, sent.rung) == ((), ())


def test_an_invalid_bit_loses_the_ipi_for_all_on_5_10_and_on_early_6_1():
    lost = {kernel: ipi_story("hole", "guest", "x", kernel).lost for kernel in ("5.10", "5.15", "6.1.10", "6.1", "7.3")}
    assert lost == {"5.10": True, "5.15": True, "6.1.10": True, "6.1": False, "7.3": False}


def test_6_1_wakes_nobody_of_x2apic_cluster_0():
    told = ipi_story("two", "asleep", "x2", "6.1")
    assert told.lost
    assert told.verdict.endswith("Lost for vCPU 1. The IRR bit of vCPU 1 is set, but nothing wakes it.")
    assert not ipi_story("two", "asleep", "x2", "6.6").lost


def test_a_broadcast_takes_the_slow_path_and_a_logical_ipi_does_not():
    slow = {ipi: [plain(step.label) for step in ipi_story(ipi).steps].count("KVM compares every vCPU") for ipi in IPIS}
    assert {ipi for ipi, count in slow.items() if count} == {"all"}


@pytest.mark.parametrize("broken", [False, True])
@pytest.mark.parametrize("values", EVERY)
def test_every_choice_tells_a_run_in_few_words(values, broken):
    ipi, state, apic, kernel = values
    story = ipi_story(ipi, state, apic, kernel, broken)
    assert story.steps
    assert story.verdict.startswith(("Exit 401h, ID", "No exit 401h."))
    for step in story.steps:
        assert len(plain(step.label).split()) <= 6, step.label
        assert len(step.sentence.split()) <= 20, step.sentence


def test_ignored_the_sleeper_is_lost_and_the_runner_is_not():
    assert ipi_story("two", broken=True).verdict.endswith(
        "Lost for vCPU 1. The IRR bit of vCPU 1 is set, but nothing wakes it."
    )
    assert ipi_story("nmi", broken=True).lost
    assert not ipi_story("one", "guest", broken=True).lost


def test_the_table():
    rows = [re.sub(r"<[^>]+>", "|", row) for row in str(ipi_table()).split("<tr>")]
    flat = [re.sub(r"\|+", "|", row).strip("|") for row in rows]
    assert "5.10 to 5.15|2|—|nothing|nobody" in flat
    assert "6.1|1|1 and 2|nothing|2 only" in flat
    assert "6.6 to 7.3|1|1 and 2|wakes 1, rings 2|1 and 2" in flat
    assert "5.10 to 7.3|0|—|sends it in software|1" in flat


def test_the_widget():
    widget = ipi_explorer()
    widget.choose(ipi="hole", kernel="5.10")
    widget.go(99)
    assert "Lost for vCPU 1" in widget._figure.value
    assert widget.error is None
