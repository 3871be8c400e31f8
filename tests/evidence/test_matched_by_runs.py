"""Recorded stacks against what the model emits when it runs its scenarios."""

from functools import cache
from pathlib import Path

import pytest

from kvmmodel.explain import Report, explain, read
from kvmmodel.explain.corpus import AVIC_OFF, corpus, explain_by_runs
from kvmmodel.explain.system import system_at
from kvmmodel.facts.releases import series

DATA = Path(__file__).parent / "data"
NOTES = DATA / "notes" / "interrupts.txt"
RECORDINGS = sorted(path.name for path in DATA.iterdir() if (path / "00-system.txt").is_file())

# Stacks of the host's own preemption in the middle of a function, which the model has no place for.
PREEMPTED = {"preempt_schedule", "preempt_schedule_irq"}
FORCED = "7.3.4-avic1-forced-tcg"

# The paths that the model has so far: a stack with all of these frames must be one that a run emitted.
MODELLED = {
    "IPI by x2APIC": ("kvm_apic_send_ipi", "kvm_set_msr_ignored_check"),
    "IPI by xAPIC": ("kvm_apic_send_ipi", "apic_mmio_write"),
    "IPI, fast path of 6.12": ("kvm_apic_send_ipi", "handle_fastpath_set_msr_irqoff"),
    "IPI, fast path of 7.3": ("__kvm_x2apic_icr_write", "__handle_fastpath_wrmsr"),
    "timer": ("kvm_apic_local_deliver",),
    "timer callback": ("apic_timer_fn",),
    "MSI": ("kvm_send_userspace_msi",),
    "EOI by register": ("apic_set_eoi", "kvm_lapic_reg_write"),
    "EOI by PV EOI": ("apic_set_eoi", "kvm_lapic_sync_from_vapic"),
    "CR8 sync": ("kvm_set_cr8", "svm_vcpu_run"),
    "injection": ("svm_inject_irq",),
}


@cache
def _explained(name: str) -> Report:
    text, kernel = read(DATA / name)
    return explain_by_runs(text, kernel, system_at(DATA / name, text))


def test_every_stack_and_every_path_of_the_notes_is_matched():
    report = explain(read(NOTES)[0], corpus(series(), hosts=AVIC_OFF))
    assert len(report.stacks) == 7
    assert {one.match.verdict for one in report.stacks} == {"matched"}
    (graph,) = report.graphs
    assert set(graph.verdicts) - {name for name, count in graph.verdicts.items() if not count} == {"matched"}


@pytest.mark.parametrize("name", RECORDINGS)
def test_no_stack_of_a_recording_is_unknown(name):
    assert _explained(name).verdicts()["unknown"] == 0


@pytest.mark.parametrize("name", RECORDINGS)
def test_every_stack_of_a_modelled_path_is_matched(name):
    report = _explained(name)
    for path, frames in MODELLED.items():
        stacks = [one for one in report.distinct() if set(frames) <= set(one.frames)]
        assert [one.frames for one in stacks if one.match.verdict != "matched"] == [], path


@pytest.mark.parametrize("path", MODELLED)
def test_every_modelled_path_is_in_some_recording(path):
    recorded = [one.frames for name in RECORDINGS for one in _explained(name).distinct()]
    assert any(set(MODELLED[path]) <= set(frames) for frames in recorded)


def test_without_scenario_runs_nothing_is_matched():
    nothing = corpus(series(), scenarios=[])
    assert explain(read(NOTES)[0], nothing).verdicts()["matched"] == 0
    for name in RECORDINGS:
        text, kernel = read(DATA / name)
        assert explain(text, nothing, kernel).verdicts()["matched"] == 0


def test_with_avic_on_all_but_four_stacks_are_matched():
    """1 of 31 was, before the model had AVIC. The four: the host preempts a vCPU where the model's cannot be."""
    report = _explained(FORCED)
    assert report.verdicts() == {"matched": 27, "known": 4, "unknown": 0}
    left = [one.frames for one in report.distinct() if one.match.verdict != "matched"]
    assert all({"kvm_sched_out", "kvm_sched_in"} & set(frames) and PREEMPTED & set(frames) for frames in left)
    assert {"kvm_make_all_cpus_request", "kvm_mmu_load"} == {
        name for frames in left for name in frames if name in ("kvm_make_all_cpus_request", "kvm_mmu_load")
    }
    assert [graph.verdicts["matched"] for graph in report.graphs] == [2]


def test_without_its_own_record_of_the_host_the_same_stacks_are_matched():
    """Runs with AVIC on are tried because those with AVIC off leave stacks over."""
    text, kernel = read(DATA / FORCED)
    assert explain_by_runs(text, kernel).verdicts() == _explained(FORCED).verdicts()


def test_with_avic_off_the_model_emits_none_of_avics_own_functions():
    text, kernel = read(DATA / FORCED)
    report = explain(text, corpus([kernel], hosts=AVIC_OFF), kernel)
    matched = [one.frames for one in report.distinct() if one.match.verdict == "matched"]
    assert matched
    assert not any(name.startswith("avic_") for frames in matched for name in frames)
