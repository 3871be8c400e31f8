"""The explorer of the page on PV EOI: who ends an interrupt, and when KVM sets the bit."""

import re

import pytest

from kvmmodel import events as ev
from kvmmodel.widgets.pv_eoi import (
    AVICS,
    FOLLOWED,
    VECTORS,
    WAYS,
    ended,
    pv_eoi_ends,
    pv_eoi_explorer,
    pv_eoi_run,
    pv_eoi_story,
    pv_eoi_toggled,
    pv_eoi_traces,
)

EVERY = [(vector, avic, way) for _, vector in VECTORS for _, avic in AVICS for _, way in WAYS]
KERNELS = ["6.1", "6.6", "6.12", "7.3"]


def kinds(vector, avic, way="paravirtual", kernel="6.12", broken=False):
    return [event.kind for event in pv_eoi_run(vector, avic, way, kernel, broken).trace.events]


@pytest.mark.parametrize("broken", [False, True])
@pytest.mark.parametrize(("vector", "avic", "way"), EVERY)
def test_words_are_few_and_columns_are_known(vector, avic, way, broken):
    story = pv_eoi_story(vector, avic, way, broken=broken)
    columns = {column.id for group in story.groups for column in group.columns}
    assert len(columns) <= 7
    for step in story.steps:
        assert len(step.sentence.split()) <= 20, step.sentence
        assert len(step.label.split()) <= 6, step.label
        assert {step.at, step.to} - {None} <= columns


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize(("vector", "avic", "way"), EVERY)
def test_every_interrupt_is_ended_and_the_guest_ends_it_in_one_way(vector, avic, way, kernel):
    bit, kvm, hardware, tested = ended(vector, avic, way, kernel)
    assert bit + kvm + hardware == len(FOLLOWED[vector])
    assert tested == (len(FOLLOWED[vector]) if way == "paravirtual" else 0)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("vector", [vector for _, vector in VECTORS])
def test_with_avic_active_the_bit_is_never_set_and_the_register_does_it(vector, kernel):
    """source: irr_pending is pinned true and highest_isr_cache unknown."""
    assert not {"pv_eoi_arm", "kvm_pv_eoi", "guest_pv_eoi"} & set(kinds(vector, "on", kernel=kernel))
    assert ended(vector, "on", "paravirtual", kernel)[:3] == ended(vector, "on", "register", kernel)[:3]


@pytest.mark.parametrize("vector", [vector for _, vector in VECTORS])
def test_no_stack_with_avic_active_has_an_eoi_below_the_bits_check(vector):
    """The notes' stack, apic_set_eoi under kvm_lapic_sync_from_vapic, thus says that AVIC was not active."""
    for avic, may in (("off", True), ("inhibited", True), ("on", False), ("hybrid", False)):
        records = pv_eoi_run(vector, avic, "paravirtual").trace.records
        stacks = [{f.name for f in record.stack} for record in records]
        found = any({"apic_set_eoi", "kvm_lapic_sync_from_vapic"} <= stack for stack in stacks)
        assert found is (may and vector == "edge")


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("vector", [vector for _, vector in VECTORS])
def test_the_hybrid_has_neither_the_bit_nor_the_hardware(vector, kernel):
    """source: the caches are pinned as with AVIC; x2APIC MSRs stay intercepted without x2AVIC."""
    for way in ("paravirtual", "register"):
        assert ended(vector, "hybrid", way, kernel)[:3] == (0, len(FOLLOWED[vector]), 0)
    assert "kvm_avic_unaccelerated_access" not in kinds(vector, "hybrid", kernel=kernel)


def test_inhibited_is_as_off_and_says_by_what():
    for _, vector in VECTORS:
        for _, way in WAYS:
            assert ended(vector, "inhibited", way) == ended(vector, "off", way)
    assert "inhibited by `PIT_REINJ`" in pv_eoi_story("edge", "inhibited").setup


def test_a_level_vector_is_refused_and_its_eoi_exits_in_any_case():
    for _, avic in AVICS:
        for _, way in WAYS:
            assert ended("level", avic, way)[:3] == (0, 1, 0)
    traps = [
        e for e in pv_eoi_run("level", "on", "register").trace.events if isinstance(e, ev.KvmAvicUnacceleratedAccess)
    ]
    assert [(trap.offset, trap.trap, trap.vec) for trap in traps] == [(0xB0, True, 0x62)]


def test_an_exit_in_the_handler_takes_the_bit_back():
    story = pv_eoi_story("exits", "off")
    told = [step.label for step in story.steps]
    assert told.index("arm PV EOI") < told.index("PV EOI taken back") < told.index("`WRMSR 0x80b = 0x0`")
    assert ended("exits", "off", "paravirtual")[:3] == (0, 1, 0)


def test_kvm_carries_the_bits_eoi_out_at_a_later_exit():
    story = pv_eoi_story("edge", "off")
    told = [step.label for step in story.steps]
    assert told[-3:] == ["`VMMCALL`", "`#VMEXIT` VMMCALL", "bit clear: clears ISR `0x41`"]
    cleared = told.index("PV EOI bit cleared")
    assert story.steps[cleared].states[0].isr == 1 << 0x41
    assert story.steps[-1].states[0].isr == 0


@pytest.mark.parametrize("avic", ["off", "inhibited"])
def test_set_though_another_vector_waits_the_bit_makes_that_one_late(avic):
    story = pv_eoi_story("two", avic, broken=True)
    assert story.broken
    assert story.verdict.startswith("Late: the handler of `0x51` is over, but IRR `0x41` waits")
    assert [step.label for step in story.steps if step.kind == "handler"] == ["handler of `0x51` runs"]
    assert "kvm_inj_virq" in kinds("two", avic, broken=True)


def test_late_is_not_lost():
    vm = pv_eoi_run("two", "off", "paravirtual", broken=True)
    vm.vcpus[0].guest.vmmcall(1, 0, 0, 0, 0)
    vm.run()
    assert vm.vcpus[0].guest.handled == {0x51: 1, 0x41: 1}


@pytest.mark.parametrize(
    ("vector", "avic", "way"), [c for c in EVERY if c[0] != "two" or c[1] in ("on", "hybrid") or c[2] == "register"]
)
def test_elsewhere_the_rule_is_not_missed(vector, avic, way):
    assert pv_eoi_story(vector, avic, way, broken=True).verdict.startswith("Nothing lost.")
    assert kinds(vector, avic, way, broken=True) == kinds(vector, avic, way)


@pytest.mark.parametrize("kernel", KERNELS)
def test_the_bit_follows_the_inhibit(kernel):
    table = pv_eoi_toggled(kernel)
    found = re.findall(r"<th[^>]*>([^<]+)</th><td>([^<]+)</td>", table)
    assert found == [("active", "hardware"), ("inhibited", "the bit"), ("active again", "hardware")]


def test_the_tables_have_a_row_for_each_case():
    assert pv_eoi_ends().count("<tr>") == 1 + len(VECTORS) * len(WAYS)
    assert pv_eoi_traces().count("<tr>") == 1 + 3 * 3


def test_the_explorer_starts_with_an_edge_and_avic_on():
    widget = pv_eoi_explorer()
    assert widget.story == pv_eoi_story("edge", "on")
    widget.choose(avic="off", vector="two")
    widget.set_broken(True)
    assert widget.story == pv_eoi_story("two", "off", broken=True)
