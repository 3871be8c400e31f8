"""The delivery lab: the files that its choices stand for, the runs of them, and the widget as a reader drives it."""

from __future__ import annotations

import re
import time
import tomllib

import pytest

from kvmmodel.cli import main
from kvmmodel.facts.releases import series
from kvmmodel.machine.breakable import BREAKABLE
from kvmmodel.scenarios.format import read
from kvmmodel.scenarios.run import names, text_of
from kvmmodel.widgets import lab_run
from kvmmodel.widgets.lab import CPUS, delivery_lab, with_rule
from kvmmodel.widgets.lab_run import Wanted, command, every_kernel, kernels, make, setup, told
from kvmmodel.widgets.lab_text import APICS, INHIBITS, SOURCES, STATES, Nonsense, scenario_text
from kvmmodel.widgets.parts import Refused
from tests.widgets.test_stepper import part

OFF, ON = Wanted(kernel="6.12", avic="off"), Wanted(avic="on")
MINE = """title = "mine"
[vm]
vcpus = 1
boot = true
[vcpu.0]
program = ["cli", "wrmsr SELF_IPI 0x77", "sti", "nop"]
"""


@pytest.fixture(scope="module")
def shared():
    return delivery_lab()


@pytest.fixture
def lab(shared):
    """One widget for all: it is put back to where it begins."""
    shared.choose(start="", source="ipi", state="in-guest", apic="x2apic", inhibit="none", rule="", follow=1)
    shared.choose(cpu="zen4", kernel="7.3", avic="auto", ipiv="default", iommu="vapic")
    shared.set_params("")
    shared._rewrite()
    shared._mine = None
    shared._show()
    shared.stepper.go(0)
    return shared


# -- the files ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wanted", [OFF, ON], ids=["off", "on"])
@pytest.mark.parametrize("apic", [value for _, value in APICS])
@pytest.mark.parametrize("state", [value for _, value in STATES])
@pytest.mark.parametrize("source", [value for _, value in SOURCES])
def test_each_file_runs_to_its_end_and_is_told(source, state, apic, wanted):
    if source == "self" and state not in ("in-guest", "masked"):
        with pytest.raises(Nonsense, match="is in the guest"):
            scenario_text(source, state, apic, "none")
        return
    made = make(scenario_text(source, state, apic, "none"), wanted)
    assert made.notes == ()
    assert len(made.happened) == 1
    story = told(made, 1)
    assert story.verdict is None
    kind = {"nmi": "nmi", "smi": "smi", "device": "device", "extint": "extint", "msi": "msi", "irqfd": "msi"}
    kind |= dict.fromkeys(("deadline", "oneshot", "periodic"), "timer") | dict.fromkeys(("edge", "level"), "line")
    assert made.happened[0].kind == kind.get(source, "ipi")
    if made.happened[0].kind in ("ipi", "msi", "timer", "device"):
        assert story.steps[-1].kind == "eoi"


def in_state(source, state, wanted=OFF):
    """How the vCPU that gets it is when the IRR bit, or the request, is set."""
    made = make(scenario_text(source, state, "x2apic", "none"), wanted)
    target = made.happened[0].target
    sets = ("set_irr", "avic_set_irr", "iommu_post")
    record = next(r for r in made.vm.trace.records if r.event.kind in sets)
    before = made.vm.trace.records[made.vm.trace.records.index(record) - 1]
    return next(s for s in before.states if s.vcpu == target)


@pytest.mark.parametrize("source", ["ipi", "logical", "others", "msi", "irqfd", "level", "edge", "device"])
@pytest.mark.parametrize("wanted", [OFF, ON], ids=["off", "on"])
def test_the_target_is_in_the_state_that_was_chosen(source, wanted):
    assert in_state(source, "in-guest", wanted).in_guest
    assert in_state(source, "masked", wanted).in_guest
    assert in_state(source, "halted", wanted).thread == "blocked"
    assert in_state(source, "preempted", wanted).thread == "runnable"
    host = in_state(source, "in-host", wanted)
    assert (host.in_guest, host.thread, host.mode) == (False, "running", "OUTSIDE_GUEST_MODE")


@pytest.mark.parametrize("source", ["deadline", "oneshot", "periodic"])
def test_a_timer_chosen_to_fire_in_the_host_does(source):
    made = make(scenario_text(source, "in-host", "x2apic", "none"), OFF)
    fired = next(r for r in made.vm.trace.records if r.event.kind == "timer_pending")
    assert not fired.states[0].in_guest


@pytest.mark.parametrize(
    ("inhibit", "reason"), [("pit", "PIT_REINJ"), ("id", "APIC_ID_MODIFIED"), ("base", "APIC_BASE_MODIFIED")]
)
@pytest.mark.parametrize("source", ["ipi", "msi", "irqfd", "device", "edge", "level", "deadline"])
def test_an_inhibit_is_in_force_and_the_interrupt_arrives(inhibit, reason, source):
    made = make(scenario_text(source, "in-guest", "xapic", inhibit), ON)
    assert reason in made.vm.inhibits
    assert (made.notes, told(made, 1).verdict) == ((), None)
    assert f"inhibited by `{reason}`" in setup(made)


def test_an_x2apic_s_id_cannot_change():
    with pytest.raises(Nonsense, match="read-only"):
        scenario_text("ipi", "in-guest", "x2apic", "id")
    assert dict(INHIBITS)["none"] == "none"


def test_the_files_are_toml_that_the_command_runs(tmp_path, capsys):
    path = tmp_path / "my.toml"
    path.write_text(scenario_text("level", "preempted", "xapic", "pit"), encoding="utf-8")
    assert main(["run", str(path), "--kernel", "6.12", "--avic", "on"]) == 0
    assert "kvm_ioapic_set_irq" in capsys.readouterr().out


@pytest.mark.parametrize("name", names())
def test_a_rule_goes_into_any_file_and_out_again(name):
    text = text_of(name)
    broken = with_rule(text, "no-kick")
    assert tomllib.loads(broken) == tomllib.loads(text) | {"break": ["no-kick"]}
    assert tomllib.loads(with_rule(broken, "no-request"))["break"] == ["no-request"]
    assert with_rule(broken, "") == text


# -- the runs ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        (Wanted(params="vgif"), "More parameters: expected NAME=VALUE, got 'vgif'"),
        (Wanted(params="vgif=0 vgif=1"), "More parameters: vgif is given twice"),
        (Wanted(params="vgif=perhaps"), "parameter vgif is a switch: expected Y, N or a number, got 'perhaps'"),
        (Wanted(params="kernel=6.1"), "More parameters: kernel is no parameter of kvm or kvm_amd"),
        (Wanted(kernel="6.12", ipiv="off"), "Kernel 6.12.117 has no parameter enable_ipiv: 6.18 and later have it."),
        (Wanted(cpu="none"), "CPU 'none' has no SVM: kvm_amd does not load, so there are no VMs"),
    ],
)
def test_a_host_that_cannot_be_is_refused_in_one_line(wanted, words):
    with pytest.raises(Refused) as refused:
        make(MINE, wanted)
    assert str(refused.value) == words


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        MINE.replace("cli", "cly"),
        MINE.replace("boot", "boat"),
        MINE.replace("[vcpu.0]", "[vcpu.1]"),
        "break = ['gravity']\n" + MINE,
        'after = "nothing"\n' + MINE,
        MINE.replace('"cli"', '"handler 0x41 nobody"'),
    ],
)
def test_a_wrong_file_gets_the_line_of_the_command(text, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my.toml").write_text(text, encoding="utf-8")
    assert main(["run", "my.toml", "--kernel", "7.3"]) == 2
    with pytest.raises(Refused) as refused:
        make(text, Wanted())
    assert capsys.readouterr().err == f"kvmmodel: {refused.value}\n"


def test_a_run_that_goes_on_and_on_is_cut_short_and_told():
    storm = MINE.replace('"cli", "wrmsr SELF_IPI 0x77", "sti", "nop"', '"wrmsr SELF_IPI 0x77", "spin 90000000"')
    storm += '[handlers]\nagain = ["wrmsr SELF_IPI 0x77", "eoi"]\n'
    storm = storm.replace("[handlers]", 'idt = { "0x77" = "again" }\n[handlers]').replace("boot = true", "boot = true")
    made = make(storm, OFF)
    assert "Cut short after 4000 events" in made.notes[0]
    assert told(made, 3).steps
    assert "and " in lab_run.listed(made, 1)
    with pytest.raises(Refused, match="more than 16 vCPUs"):
        make(MINE.replace("vcpus = 1", "vcpus = 17"), OFF)


def test_a_guest_that_waits_for_ever_is_said():
    made = make(MINE.replace('"nop"', '"busy 0x78 1"'), OFF)
    assert made.notes == ("my.toml: vCPU 0 did not finish: it is still at `busy 120 1`",)


def test_avic_that_was_asked_for_in_vain_is_said():
    made = make(MINE, Wanted("zen3", "6.12", "on"))
    assert made.notes[0].startswith("`avic` resolves to N on Zen 3 with kernel 6.12.117")


def test_the_title_s_line_says_what_avic_is():
    text = scenario_text("ipi", "in-guest", "x2apic", "none")
    assert setup(make(text, Wanted())).endswith("Zen 4, x2APIC guest: `avic=Y`, x2AVIC")
    assert setup(make(text, Wanted("zen2", "7.3", "on"))).endswith("`avic=Y`, `enable_ipiv=N`, hybrid AVIC")
    assert setup(make(text, Wanted(kernel="5.15", avic="on"))).endswith("inhibited by `X2APIC`")
    assert setup(make(text, OFF)).endswith("`avic=N`")


def test_the_command_says_the_same_in_a_terminal(tmp_path, monkeypatch, capsys):
    wanted = Wanted("zen3,+avic", "7.3", "on", "off", "legacy", "vgif=0")
    line = command(wanted)
    assert line == (
        "kvmmodel run my.toml --kernel 7.3 --cpu zen3,+avic --avic on --iommu legacy"
        " --param enable_ipiv=N --param vgif=0"
    )
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my.toml").write_text(MINE, encoding="utf-8")
    assert main(line.split()[1:]) == 0
    assert "kvm_entry" in capsys.readouterr().out
    assert lab_run.host_of(wanted).params["enable_ipiv"] is False


def test_the_bill_s_columns_have_the_numbers_of_the_list():
    made = make(text_of("inhibits-none"), ON)
    assert [one.kind for one in made.happened] == ["ipi", "ipi", "ipi", "timer"]
    bill = lab_run.billed(made, 1)
    assert [f"{n}: {v}" in bill for n, v in ((1, "0x41"), (3, "0x41"), (4, "0xe1"))] == [True] * 3
    assert lab_run.billed(make(text_of("nmi"), ON), 1) == ""


def test_one_file_on_every_kernel():
    """source: 5.10 and 5.15 inhibit AVIC for a guest whose CPUID has x2APIC."""
    rows = [
        re.findall(r"<t[hd][^>]*>([^<]*)</t[hd]>", row) for row in every_kernel("ipi", "in-guest").split("<tr>")[2:]
    ]
    assert rows == [["5.10 to 5.15", *"310310"], ["6.1 to 7.3", *"310001"]]
    assert "6.18 to 7.3" in every_kernel("ipi", "in-guest", "xapic", "zen2")
    assert set(series()) < set(kernels())


# -- the widget --------------------------------------------------------------------------------------------------------


def test_every_control_that_a_link_carries_has_its_class(lab):
    assert {"km", "km-stepper", "km-lab"} <= set(lab._dom_classes)
    assert "km-stepper" not in lab.stepper._dom_classes
    keys = ["cpu", "kernel", "avic", "ipiv", "iommu", "start", "source", "state", "apic", "inhibit", "rule", "follow"]
    for key in keys:
        assert part(lab, f"km-choice-{key}").description
    for key in ("km-text-file", "km-text-params", "km-scrub"):
        assert part(lab, key) is not None
    assert part(lab, "km-text-file").continuous_update is False


def test_a_choice_of_the_scenario_writes_the_file_and_runs_it(lab):
    part(lab, "km-choice-source").value = "level"
    part(lab, "km-choice-state").value = "halted"
    assert "0x8062" in lab.text
    assert lab.story.pin is not None
    assert read("x", lab.text).title == lab.story.title == "A level line of the IOAPIC, for a vCPU that is halted"


def test_a_choice_of_the_host_keeps_the_reader_s_text(lab):
    lab.write(MINE)
    lab.choose(kernel="6.1", avic="off", cpu="zen2")
    assert lab.text == MINE
    assert "Kernel 6.1.192, Zen 2" in lab.story.setup
    assert lab.story.steps[0].label == "`WRMSR 0x83f = 0x77`"


def test_the_text_runs_without_a_button_and_the_button_does_no_harm(lab):
    part(lab, "km-text-file").value = MINE
    assert lab.story.title == "mine"
    part(lab, "km-run").click()
    assert lab.story.title == "mine"


def test_an_edited_text_comes_back_after_a_choice_has_replaced_it(lab):
    back = part(lab, "km-back-mine")
    assert back.layout.display == "none"
    lab.write(MINE)
    assert part(lab, "km-undo").layout.display is None
    assert "km-own" in part(lab, "km-text-file")._dom_classes
    lab.choose(source="msi")
    assert lab.story.title == "An MSI, for a vCPU in guest mode"
    assert back.layout.display is None
    back.click()
    assert (lab.text, lab.story.title, back.layout.display) == (MINE, "mine", "none")
    assert "km-own" in part(lab, "km-text-file")._dom_classes
    part(lab, "km-undo").click()
    assert lab.story.title == "An MSI, for a vCPU in guest mode"
    assert "km-own" not in part(lab, "km-text-file")._dom_classes


def test_a_rule_is_written_into_an_edited_text_too(lab):
    lab.write(MINE)
    lab.choose(rule="no-window")
    assert 'break = ["no-window"]\n' in lab.text
    assert "cli" in lab.text
    assert lab.story.broken == f"`no-window`: {BREAKABLE['no-window']}"
    lab.choose(rule="")
    assert lab.text == MINE


def test_a_broken_run_says_what_came_of_it(lab):
    lab.choose(avic="off", state="halted", rule="no-kick")
    lab.stepper.go(99)
    assert "Stuck: IRR" in part(lab, "km-figure").value
    lab.choose(rule="no-unhalt")
    assert lab.story.verdict == "Nothing lost. This run gets there without the rule."


def test_a_built_in_scenario_brings_its_text_and_rests_the_other_choices(lab):
    lab.choose(start="cr8-held")
    assert lab.text == text_of("cr8-held")
    assert part(lab, "km-choice-source").disabled
    assert part(lab, "km-choice-state").disabled
    lab.choose(start="")
    assert not part(lab, "km-choice-source").disabled
    assert lab.story.title == "An IPI to a vCPU in guest mode"


@pytest.mark.parametrize("name", names())
def test_every_built_in_scenario_is_told(lab, name):
    lab.choose(start=name)
    assert lab.error is None
    assert lab.story.steps


def test_choices_that_make_no_sense_together_get_one_line_and_the_next_goes_on(lab):
    lab.choose(source="self", state="halted")
    assert lab.error.startswith("A vCPU that sends an IPI to itself is in the guest")
    assert lab.story is None
    assert lab.error in re.sub(r"<[^>]+>", "", part(lab, "km-says").value)
    lab.choose(state="masked")
    assert lab.error is None
    assert lab.story.steps


def test_a_wrong_text_is_said_by_the_editor_and_the_host_stays_in_view(lab):
    lab.write(MINE.replace("cli", "cly"))
    assert lab.error.startswith("my.toml, line 6: [vcpu.0] program: unknown instruction 'cly'")
    assert "km-error" in part(lab, "km-says").value
    assert "avic=Y" in part(lab, "km-below").value
    lab.set_params("vgif=x")
    assert "avic=Y" not in part(lab, "km-below").value


def test_a_mistake_of_the_model_is_one_line_too(lab, monkeypatch):
    def fails(*_, **__):
        raise KeyError("oops")

    monkeypatch.setattr(lab_run, "run", fails)
    lab.write(MINE + "# again\n")
    assert lab.error == "This run could not be made. KeyError: 'oops'"


def test_following_another_interrupt_or_a_vcpu(lab):
    lab.choose(start="window-clear-higher", follow=2)
    assert "0x51" in lab.story.steps[0].label
    assert "<mark><code>0x51</code>" in part(lab, "km-happened-box").value
    lab.choose(follow="vcpu0")
    assert lab.story.steps[0].label == "`CLI`"
    lab.choose(follow=6)  # past the last: the last
    assert "0x51" in lab.story.steps[0].label
    lab.choose(start="startup", follow=1)
    assert "No interrupt came" in part(lab, "km-happened-box").value
    lab.choose(follow="vcpu1")
    assert lab.story.steps[0].who == "Guest on CPU 5"


def test_the_host_s_parameters_and_log_are_shown(lab):
    lab.choose(cpu="zen3", kernel="6.12", avic="on")
    lab.set_params("force_avic=1")
    below = part(lab, "km-below").value
    assert "force_avic=Y" in below
    assert "AVIC is not supported in CPUID but force enabled" in below
    assert "--avic on --iommu vapic --param force_avic=1" in below


def test_each_processor_can_be_chosen(lab):
    for _, cpu in CPUS:
        lab.choose(cpu=cpu)
        assert (lab.error is None) is (cpu != "none")


def test_restoring_a_link_ends_where_it_was_made_whatever_it_passes(lab):
    """Choices come first, one after the other, then the texts, then the step."""
    other = delivery_lab()
    lab.choose(source="msi", state="halted", avic="off", rule="no-kick", follow="vcpu0", kernel="6.12.95")
    lab.set_params("vgif=0")
    lab.write(lab.text.replace("0x63", "0x73"))
    lab.stepper.go(2)
    for key, value in lab.values.items():
        other.choose(**{key: value})
    other.set_params("vgif=0")
    other.write(lab.text)
    other.stepper.go(lab.stepper.index)
    assert (other.story, other.stepper.index) == (lab.story, lab.stepper.index)


def test_the_picture_for_readers_without_scripts_is_the_first_run_with_its_file(lab):
    html = delivery_lab()._repr_mimebundle_()["text/html"]
    assert '<pre class="km-file"' in html
    assert "An IPI to a vCPU in guest mode" in html
    assert "kvmmodel run my.toml" in html
    assert "Step 1 ·" in html


def test_an_answer_costs_little(lab):
    begin = time.perf_counter()
    for state in ("halted", "in-host", "preempted", "masked", "in-guest"):
        lab.choose(state=state)
    assert (time.perf_counter() - begin) / 5 < 0.15
