"""Recorded stacks against what the model emits when it runs its scenarios."""

from functools import cache
from pathlib import Path

import pytest

from kvmmodel.explain import Report, explain, read
from kvmmodel.explain.corpus import corpus, corpus_for
from kvmmodel.facts.releases import series

DATA = Path(__file__).parent / "data"
NOTES = DATA / "notes" / "interrupts.txt"
RECORDINGS = sorted(path.name for path in DATA.iterdir() if (path / "00-system.txt").is_file())

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
    return explain(text, corpus_for(kernel), kernel)


def _avic_off(name: str) -> bool:
    """By the recording's own record of the module parameter."""
    return "parameters/avic = N" in (DATA / name / "00-system.txt").read_text(encoding="utf-8")


def test_every_stack_and_every_path_of_the_notes_is_matched():
    report = explain(read(NOTES)[0], corpus(series()))
    assert len(report.stacks) == 7
    assert {one.match.verdict for one in report.stacks} == {"matched"}
    (graph,) = report.graphs
    assert set(graph.verdicts) - {name for name, count in graph.verdicts.items() if not count} == {"matched"}


@pytest.mark.parametrize("name", RECORDINGS)
def test_no_stack_of_a_recording_is_unknown(name):
    assert _explained(name).verdicts()["unknown"] == 0


@pytest.mark.parametrize("name", [name for name in RECORDINGS if _avic_off(name)])
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
