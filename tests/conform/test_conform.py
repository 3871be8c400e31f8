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
FORCED = DATA / "7.3.4-avic1-forced-tcg"
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
    assert stacks.matched >= {"5.10.262-avic0": 12, FORCED.name: 27}.get(folder.name, 80)
    left = 4 if folder == FORCED else 0  # there the host preempts a vCPU where the model's cannot be
    assert len(stacks.unmatched) == left


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


def test_a_guest_that_hangs_is_compared_up_to_there(capsys):
    """AVIC forced on a processor that has none: KVM sets the IRR bit and leaves it to a processor that never looks."""
    *done, hung = compare(read(FORCED))
    assert [p.name[:3] for p in (*done, hung)] == ["S00", "S01", "S02"]
    assert {p.unfinished for p in done} == {""}
    assert (hung.verdict, hung.unfinished) == ("equal", "vCPU 0 waits: seen 65 1")
    assert cli.main(["conform", str(FORCED)]) == 0
    told = capsys.readouterr().out
    assert "unfinished, in the recording and in the model: vCPU 0 waits" in told
    assert "3 of 3 phases equal" in told


@pytest.mark.parametrize(
    ("change", "wanted"),
    [
        (lambda t: _without(t, "kvm_apicv_accept_irq", -1),
         ["+ vCPU 0 kvm_apicv_accept_irq: apicid 0 vec 65 (Fixed|edge)"]),
        (lambda t: _added(t, "kvm_inj_virq: IRQ 0x41"), ["- vCPU 0 kvm_inj_virq: IRQ 0x41"]),
        (lambda t: _added(t, "kvm_eoi: apicid 0 vector 65"), ["- vCPU 0 kvm_eoi: apicid 0 vector 65"]),
        (lambda t: t.replace("vec 65 (Fixed|edge)", "vec 66 (Fixed|edge)"), 4),
    ],
    ids=["no accept", "an injection", "an EOI", "another vector"],
)  # fmt: skip
def test_a_hang_that_goes_otherwise_is_a_difference(tmp_path, change, wanted):
    """The event behind the last exit to userspace was left out, as of a guest that ends."""
    folder = Path(shutil.copytree(FORCED, tmp_path / "recording"))
    _edit(folder, change)
    rows = compare(read(folder))[-1].differences
    assert rows == wanted if isinstance(wanted, list) else len(rows) == wanted


def _added(text, event):
    """The trace with an event behind the accepted interrupt."""
    lines = text.splitlines(keepends=True)
    at = next(n for n, line in enumerate(lines) if "kvm_apicv_accept_irq: " in line)
    row = lines[at].partition("kvm_apicv_accept_irq: ")[0] + event + "\n"
    return "".join([*lines[: at + 1], row, *lines[at + 1 :]])


def test_a_recording_that_goes_on_behind_the_models_hang_differs(tmp_path):
    """As one would on a processor with AVIC that was said to have none."""
    folder = Path(shutil.copytree(FORCED, tmp_path / "recording"))
    mark = "        L2-vcpu0-364     [000] ...1.    16.000000: tracing_mark_write: L2 S03 self-IPI\n"
    _edit(folder, lambda text: _before_last(text, "kvm_vcpu_wakeup", mark))
    hung = compare(read(folder))[-1]
    assert hung.differences == ["- mark L2 S03 self-IPI"]


def _before_last(text, event, row):
    at = text.rindex("\n", 0, text.rindex(f": {event}: ")) + 1
    return text[:at] + row + text[at:]
