"""The explorer of the IPI's page: every way to send one to every target; and what the kick is for."""

from pathlib import Path

import pytest

from kvmmodel.explain import find
from kvmmodel.widgets.ipi import FORMS, KERNELS, NRIPS, SENT, TARGETS, ipi_explorer, ipi_run, ipi_story
from kvmmodel.widgets.ipi_costs import NAMES, WAYS, counted, ipi_costs, ipi_ways, ipi_ways_table, ranges

RECORDINGS = Path(__file__).resolve().parents[1] / "evidence" / "data"

EVERY = [(form, target) for _, form in FORMS for _, target in (TARGETS[:1] if SENT[form].to_itself else TARGETS)]
HOSTS = [(kernel, nrips) for _, kernel in KERNELS for _, nrips in NRIPS]
FAST = "fast path: `WRMSR` is done"


def labels(*values, **options):
    return [step.label for step in ipi_story(*values, **options).steps]


@pytest.mark.parametrize(("kernel", "nrips"), HOSTS)
@pytest.mark.parametrize(("form", "target"), EVERY)
def test_a_story_ends_with_the_eoi_of_its_vector(form, target, kernel, nrips):
    story = ipi_story(form, target, kernel, nrips)
    last, vector = story.steps[-1], SENT[form].vector
    assert (last.kind, story.verdict, story.broken) == ("eoi", None, None)
    assert f"{vector:#x}" in last.label
    assert not (last.states[-1].irr | last.states[-1].isr) >> vector & 1


@pytest.mark.parametrize("broken", [False, True])
@pytest.mark.parametrize("kernel", [kernel for _, kernel in KERNELS])
@pytest.mark.parametrize(("form", "target"), EVERY)
def test_words_are_few(form, target, kernel, broken):
    story = ipi_story(form, target, kernel, broken=broken)
    columns = {column.id for group in story.groups for column in group.columns}
    for step in story.steps:
        assert len(step.sentence.split()) <= 20, step.sentence
        assert len(step.label.split()) <= 6, step.label
        assert len(step.label) <= 38, step.label
        assert {step.at, step.to} - {None} <= columns


@pytest.mark.parametrize(("form", "target"), EVERY)
def test_every_way_to_send_one_begins_with_an_exit(form, target):
    """Without AVIC there is no other."""
    first, second = ipi_story(form, target).steps[:2]
    assert (first.kind, second.kind) == ("write", "exit")
    assert second.label == ("`#VMEXIT` NPF" if form == "xapic" else "`#VMEXIT` MSR")


@pytest.mark.parametrize("target", [target for _, target in TARGETS])
def test_the_xapic_s_story_begins_with_the_destination(target):
    """It once began with the second write, and the first exit was missing."""
    told = labels("xapic", target)
    assert told[0] == "`MOV [0xfee00310] = 0x1000000`"
    assert [label for label in told if label.startswith("emulate")][:2] == [
        "emulate: `0x310` := `0x1000000`",
        "emulate: `0x300` := `0x43`",
    ]


@pytest.mark.parametrize(
    ("form", "took"),
    [
        ("one", {"6.1", "6.12.95", "7.3.4"}),
        ("logical", {"7.3.4"}),
        ("others", set()),
        ("itself", {"6.1", "6.12.95", "7.3.4"}),
        ("self", set()),
        ("xapic", set()),
    ],
)
def test_the_scope_of_the_fast_path(form, took):
    """source 6.1.192, 6.12.117, 6.18.35, 7.2.13; and nowhere without NRIPS."""
    assert {kernel for _, kernel in KERNELS if FAST in labels(form, "in-guest", kernel)} == took
    assert not any(FAST in labels(form, "in-guest", kernel, "off") for _, kernel in KERNELS)


@pytest.mark.parametrize(("kernel", "at_once"), [("6.1", False), ("6.12.95", True), ("7.3.4", True)])
def test_after_the_fast_path_the_sender_enters_at_once_or_goes_round(kernel, at_once):
    told = labels("one", "in-guest", kernel)
    assert ("`VMRUN`, at once" in told) is at_once
    assert ("`VMRUN`, after a full round" in told) is not at_once
    assert ("out of the entry loop" in told) is not at_once


def test_an_ipi_to_itself_takes_the_fast_path_and_leaves_the_loop():
    """recorded 6.12.95, 7.3.4: kvm_inj_virq before the next kvm_entry."""
    told = labels("itself")
    assert told.index(FAST) < told.index("out of the entry loop") < told.index("`EVENTINJ` `0x42`: IRR to ISR")


def test_only_a_shorthand_needs_the_loop():
    found = {form: [label for label in labels(form) if " finds vCPU" in label] for _, form in FORMS}
    assert found == {
        "one": ["the map finds vCPU 1"],
        "logical": ["the map finds vCPU 1"],
        "others": ["the loop finds vCPU 1"],
        "itself": [],
        "self": [],
        "xapic": ["the map finds vCPU 1"],
    }


@pytest.mark.parametrize(
    ("form", "kernel", "meant"),
    [
        ("one", "6.12.95", "to APIC ID 1"),
        ("logical", "6.12.95", "to logical 0x2"),
        ("others", "7.3.4", "to all but the sender"),
        ("self", "7.3.4", "to the sender itself"),
    ],
)
def test_the_message_says_whom_it_is_for(form, kernel, meant):
    """All were "to APIC ID", with the 0 that stands in the destination of a shorthand."""
    steps = ipi_story(form, kernel=kernel).steps
    assert [step.detail for step in steps if step.label == "KVM decodes the message"] == [meant]


@pytest.mark.parametrize("form", [form for _, form in FORMS])
def test_no_lane_for_a_scheduler_that_has_no_part(form):
    """An IPI to oneself had an empty one."""
    assert ("host" in [group.label for group in ipi_story(form).groups]) is not SENT[form].to_itself


def test_a_shorthand_s_story_follows_one_target_and_names_the_other():
    told = labels("others")
    assert told.count("the same for vCPU 2") == 1
    assert [told.count(label) for label in ("set IRR `0x43`", "`smp_mb__after_atomic`", "host IPI to CPU 5")] == [1] * 3


@pytest.mark.parametrize(("form", "target"), EVERY)
def test_without_the_kick_only_a_sleeper_and_a_running_guest_miss_it(form, target):
    story = ipi_story(form, target, broken=True)
    state, vector = story.steps[-1].states[-1], SENT[form].vector
    missed = not SENT[form].to_itself and target in ("in-guest", "halted")
    assert story.broken
    assert bool(state.irr >> vector & 1) is missed
    assert (story.steps[-1].kind == "eoi") is not missed
    assert story.verdict.split(":")[0].split(".")[0] == (
        {"in-guest": "Late", "halted": "Lost wake-up"}[target] if missed else "Nothing lost"
    )
    assert "EVENT" in state.requests or not missed


@pytest.mark.parametrize(
    ("form", "kernel", "nrips", "counts"),
    [
        ("one", "6.6", "on", ("1 MSR", "yes", "1", "1 INTR, 1 MSR")),
        ("one", "6.12", "on", ("1 MSR", "yes, enters at once", "1", "1 INTR, 1 MSR")),
        ("one", "6.12", "off", ("1 MSR", "no", "1", "1 INTR, 1 MSR")),
        ("one", "6.6", "off", ("1 MSR", "yes", "1", "1 INTR, 1 MSR")),
        ("logical", "6.12", "on", ("1 MSR", "no", "1", "1 INTR, 1 MSR")),
        ("logical", "6.18", "on", ("1 MSR", "yes, enters at once", "1", "1 INTR, 1 MSR")),
        ("others", "7.3", "on", ("1 MSR", "no", "2", "2 INTR, 2 MSR")),
        ("itself", "7.3", "on", ("1 MSR", "yes", "0", "1 MSR")),
        ("self", "7.3", "on", ("1 MSR", "no", "0", "1 MSR")),
        ("xapic", "7.3", "on", ("2 NPF", "no", "1", "1 INTR, 1 NPF")),
    ],
)
def test_what_is_counted(form, kernel, nrips, counts):
    assert tuple(cell.replace("\N{NO-BREAK SPACE}", " ") for cell in counted(form, kernel, nrips)) == counts


def test_the_cost_table_has_every_form_and_joins_the_kernels():
    table = ipi_costs()
    assert all(f">{name}</th>" in table for name in NAMES)
    assert all(f">{label}</th>" in table for label, _ in FORMS)
    assert "<td>5.10 to 6.6</td>" in table
    assert "<td>5.10 to 6.1, 6.12 to 7.3</td>" in table


@pytest.mark.parametrize(
    ("kernels", "text"),
    [(["6.6"], "6.6"), (["5.10", "5.15", "6.12"], "5.10 to 5.15, 6.12"), (["7.2", "7.3"], "7.2 to 7.3")],
)
def test_ranges_of_kernels(kernels, text):
    assert ranges(kernels) == text


def test_an_ipi_to_itself_has_no_other_target_to_choose():
    assert ipi_story("self", "halted") == ipi_story("self", "in-guest")
    assert "the target is the sender itself" in ipi_story("self", "halted").setup


def test_the_host_of_a_run_is_the_one_that_was_chosen():
    assert ipi_run("one", "halted", "6.1", "off").host.params["nrips"] is False
    assert "`nrips=0`" in ipi_story("one", "halted", "6.1", "off").setup
    assert "xAPIC guest" in ipi_story("xapic", "halted").setup


def test_the_explorer_starts_with_an_x2apic_ipi_to_a_running_guest():
    widget = ipi_explorer()
    assert widget.story == ipi_story("one", "in-guest", "7.3.4")
    widget.choose(form="xapic", target="halted", kernel="6.1", nrips="off")
    assert widget.story == ipi_story("xapic", "halted", "6.1", "off")
    widget.set_broken(True)
    assert (widget.error, widget.story.broken is not None) == (None, True)


@pytest.mark.parametrize(("kernel", "numbers"), [("6.12.95", (12, 4, 9, 1)), ("7.3.4", (15, 1, 9, 1))])
def test_the_lab_s_guest_sends_its_ipis_through_the_recorded_doors(kernel, numbers):
    """recorded: the page prints these numbers; hist triggers counted them at kvm_apic_ipi."""
    text = (RECORDINGS / f"{kernel}-avic0-nrips" / "20-hist-stacks.txt").read_text(encoding="utf-8")
    section = text[text.index("##### kvm_apic_ipi\n") :].partition("Totals:")[0]
    recorded = dict.fromkeys(WAYS, 0)
    for stack in find(section):
        recorded[WAYS[door(" ".join(frame.name for frame in stack.frames))]] += stack.count
    assert tuple(recorded.values()) == numbers
    assert ipi_ways("lab", kernel) == recorded


def door(frames):
    """Of WAYS: by names that a build with inlining shows."""
    if "fastpath" in frames:
        return 0
    return 1 if "icr_write" in frames else 3 if "apic_mmio_write" in frames else 2


def test_without_nrips_no_ipi_takes_the_fast_path():
    """recorded 7.3.4 without NRIPS: no stack with a fast path in it, but the ICR's under __kvm_emulate_wrmsr."""
    text = (RECORDINGS / "7.3.4-avic0-bpftrace" / "50-bpftrace.txt").read_text(encoding="utf-8")
    frames = [" ".join(frame.name for frame in stack.frames) for stack in find(text)]
    assert not any("fastpath" in names for names in frames)
    assert any("icr_write" in names and "__kvm_emulate_wrmsr" in names for names in frames)
    assert ipi_ways("lab", "7.3.4", nrips=False) == dict(zip(WAYS, (0, 16, 9, 1), strict=True))


def test_the_table_of_doors_sets_the_model_beside_the_recording():
    table = ipi_ways_table("self-ipi", {"7.3.4": (0, 0, 1, 0)})
    assert ">SELF_IPI</th><td>1</td><td>1</td>" in table
    assert ">ICR, handler</th><td>0</td><td>0</td>" in table
    assert table.count("<tr>") == 1 + len(WAYS)
