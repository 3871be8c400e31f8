"""Recordings of the lab's guest on real kernels against the model's own run of it, phase by phase."""

import shutil
from pathlib import Path

import pytest

from kvmmodel import cli
from kvmmodel.conform import RecordingError, compare, compare_stacks, read
from kvmmodel.conform.excluded import TABLE, comparable

DATA = Path(__file__).parents[1] / "evidence" / "data"
TRACE = "10-kvm-tracepoints.txt"
RECORDINGS = sorted(path.parent for path in DATA.glob(f"*/{TRACE}"))
names = pytest.mark.parametrize("folder", RECORDINGS, ids=lambda folder: folder.name)


@pytest.fixture
def copy(tmp_path):
    return Path(shutil.copytree(DATA / "6.12.95-avic0-nrips", tmp_path / "recording"))


def _edit(folder, change):
    path = folder / TRACE
    path.write_text(change(path.read_text()))


def _without(text, event, of):
    """The trace without the ``of``-th line of an event."""
    lines = text.splitlines(keepends=True)
    at = [number for number, line in enumerate(lines) if f": {event}: " in line][of]
    return "".join(lines[:at] + lines[at + 1 :])


@names
def test_every_phase_of_a_recording_is_equal(folder):
    phases = compare(read(folder))
    assert [(p.name, p.differences) for p in phases if p.differences] == []
    assert len(phases) == sum("tracing_mark_write" in line for line in (folder / TRACE).read_text().splitlines())


@names
def test_every_stack_with_a_frame_of_kvm_is_emitted(folder):
    """kvmclock_update_fn and kvm_mmu_notifier_invalidate_range_end were not. The other recordings have all probes."""
    stacks = compare_stacks(folder, read(folder))
    assert stacks.matched == 12 if folder.name == "5.10.262-avic0" else stacks.matched >= 80
    assert stacks.unmatched == ()


@names
def test_a_stack_without_a_frame_of_kvm_is_neither_matched_nor_unmatched(folder):
    """It is rcuwait_wake_up by something that is not KVM, or by a KVM function that jumped to it and left no frame."""
    for frames in compare_stacks(folder, read(folder)).outside:
        assert frames[0] == "rcuwait_wake_up"
        assert {"exit_signals", "__mmu_notifier_invalidate_range_end"} & set(frames)


@pytest.mark.parametrize("event", ["kvm_inj_virq", "kvm_apic_accept_irq", "kvm_eoi", "kvm_exit", "kvm_set_irq"])
def test_a_lost_event_is_a_difference(copy, event):
    _edit(copy, lambda text: _without(text, event, -1))
    differences = [d for p in compare(read(copy)) for d in p.differences]
    assert len(differences) == 1
    assert differences[0].startswith("+ vCPU")
    assert event in differences[0]


def test_a_wrong_vector_is_a_difference_in_its_phase(copy):
    _edit(copy, lambda text: text.replace("kvm_inj_virq: IRQ 0xe2", "kvm_inj_virq: IRQ 0xe3", 1))
    (phase,) = [p for p in compare(read(copy)) if p.differences]
    assert phase.name.startswith("S09 ")
    assert phase.differences == ["- vCPU 0 kvm_inj_virq: IRQ 0xe3", "+ vCPU 0 kvm_inj_virq: IRQ 0xe2"]


def test_a_trace_that_ends_early_differs_where_it_ends(copy):
    _edit(copy, lambda text: text[: text.index("S12 ")])
    different = [p.name[:3] for p in compare(read(copy)) if p.differences]
    assert different[0] in ("S11", "S12")
    assert different[-1] == "S99"


def test_another_release_differs():
    """A recording of 7.3 is not what 5.15 does: names, and the order of an ICR write's events, are others."""
    folder = next(f for f in RECORDINGS if read(f).kernel.startswith("7."))
    assert any(p.differences for p in compare(read(folder), "5.15"))


@pytest.mark.parametrize("name", ["00-system.txt", TRACE])
def test_a_folder_without_a_file_is_no_recording(copy, name, capsys):
    (copy / name).unlink()
    with pytest.raises(RecordingError, match=name):
        read(copy)
    assert cli.main(["conform", str(copy)]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


@pytest.mark.parametrize(("name", "text"), [("00-system.txt", "nothing"), (TRACE, "# tracer: nop\n")])
def test_a_file_without_its_content_is_named(copy, name, text):
    (copy / name).write_text(text)
    with pytest.raises(RecordingError, match=name):
        read(copy)


def test_the_exit_status_tells_a_difference(copy, capsys):
    assert cli.main(["conform", str(copy)]) == 0
    _edit(copy, lambda text: _without(text, "kvm_eoi", 0))
    assert cli.main(["conform", str(copy), "--json"]) == 1
    capsys.readouterr()


def test_every_exclusion_has_a_reason():
    assert all(reason for _, _, reason in TABLE)


def test_an_exclusion_with_its_exit_takes_that_exit_only():
    events = [
        ("kvm_exit", "vcpu 1 reason hlt"),
        ("kvm_exit", "vcpu 1 reason msr"),
        ("kvm_msr", "msr_read c0000080 = 0x0"),
    ]
    assert comparable(events) == ["kvm_exit: vcpu 1 reason hlt", None, None]
