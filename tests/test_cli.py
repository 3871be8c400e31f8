"""The command line: what it prints, what --json has, and how it says no."""

import json
import subprocess
import sys

import pytest

from kvmmodel.cli import main
from kvmmodel.scenarios.run import names

EVENT_KEYS = {"t", "vcpu", "cpu", "lane", "kind", "text", "stack"}


def output(capsys, *args):
    assert main(args) == 0
    caught = capsys.readouterr()
    assert caught.err == ""
    return caught.out


def test_scenarios_are_listed(capsys):
    rows = json.loads(output(capsys, "scenarios", "--json"))
    assert [row["name"] for row in rows] == names()
    assert all(set(row) == {"name", "title", "page"} for row in rows)
    assert all(name in output(capsys, "scenarios") for name in names())


@pytest.mark.parametrize("flags", [("--json",), ("--format", "json")])
def test_the_json_of_a_run(capsys, flags):
    made = json.loads(output(capsys, "run", "ipi-halted", "--kernel", "6.12", *flags))
    assert made["kernel"] == "6.12.117"
    assert all(set(event) == EVENT_KEYS for event in made["events"])
    assert {event["lane"] for event in made["events"]} == {"guest", "hw", "kvm", "sched"}
    kick = next(event for event in made["events"] if event["kind"] == "kick")
    assert kick["stack"][:2] == ["kvm_vcpu_kick", "svm_complete_interrupt_delivery"]


@pytest.mark.parametrize(
    ("form", "words"),
    [
        ("ftrace", "kvm_apic_accept_irq: apicid 1 vec 67 (Fixed|edge)"),
        ("stacks", "    svm_complete_interrupt_delivery\n    svm_deliver_interrupt\n"),
        ("graph", "svm_complete_interrupt_delivery [kvm_amd]() {"),
    ],
)
def test_the_text_of_a_run(capsys, form, words):
    assert words in output(capsys, "run", "ipi-halted", "--avic", "off", "--format", form)


def test_another_root_for_the_graph(capsys):
    graph = output(capsys, "run", "ipi-halted", "--format", "graph", "--graph-function", "kvm_vcpu_wake_up")
    assert "rcuwait_wake_up" in graph


def test_without_an_option_avic_is_what_the_release_makes_of_it(capsys):
    assert output(capsys, "run", "ipi-halted") == output(capsys, "run", "ipi-halted", "--avic", "on")
    old = ("run", "ipi-halted", "--kernel", "6.12")
    assert output(capsys, *old) == output(capsys, *old, "--avic", "off") == output(capsys, *old, "--avic", "auto")


def test_a_file_of_ones_own(capsys, tmp_path):
    mine = tmp_path / "my.toml"
    mine.write_text('title = "mine"\n[vm]\nvcpus = 1\nboot = true\n[vcpu.0]\nprogram = ["wrmsr SELF_IPI 0x55"]\n')
    assert "kvm_eoi: apicid 0 vector 85" in output(capsys, "run", str(mine), "--avic", "off")


def test_parameters_reach_the_host(capsys):
    fast = output(capsys, "run", "ipi-in-guest", "--kernel", "6.12")
    slow = output(capsys, "run", "ipi-in-guest", "--kernel", "6.12", "--param", "nrips=N")
    assert fast != slow
    assert slow == output(capsys, "run", "ipi-in-guest", "--kernel", "6.12", "--cpu", "tcg")


def told(capsys, *args):
    """Standard error of a run of a scenario that works."""
    assert main(["run", "ipi-halted", *args]) == 0
    return capsys.readouterr().err


def test_avic_is_asked_for_as_in_modprobe_conf(capsys):
    """Whoever asks and does not get it hears what the kernel log says of it."""
    no = "avic resolves to N on"
    assert told(capsys, "--param", "avic=auto", "--cpu", "zen2") == ""
    assert told(capsys, "--param", "avic=off", "--cpu", "zen3,+avic") == ""
    assert told(capsys, "--avic", "on", "--cpu", "zen3") == f"kvmmodel: --avic on: {no} zen3 with kernel 6.18.35\n"
    bug = "kvm_amd: [Firmware Bug]: Cannot enable x2AVIC, AVIC is unsupported"
    asked = ("--param", "avic=y", "--cpu", "zen4-client", "--kernel", "7.3")
    assert told(capsys, *asked) == f"kvmmodel: --param avic=y: {no} zen4-client with kernel 7.3.4; its log: {bug}\n"


@pytest.mark.parametrize(
    "args",
    [
        ("run", "ipi-halted", "--param", "avic=auto", "--kernel", "6.12"),
        ("run", "ipi-halted", "--param", "avic=maybe"),
        ("run", "ipi-halted", "--param", "avic=0", "--avic", "off"),
        ("run", "ipi-halted", "--cpu", "zen4,+warp"),
        ("run", "no-such-scenario"),
        ("run", "no/such.toml"),
        ("run", "ipi-halted", "--kernel", "4.19"),
        ("run", "ipi-halted", "--kernel", "six"),
        ("run", "ipi-halted", "--cpu", "z80"),
        ("run", "ipi-halted", "--cpu", "none"),
        ("run", "ipi-halted", "--avic", "maybe"),
        ("run", "ipi-halted", "--param", "gravity=1"),
        ("run", "ipi-halted", "--param", "halt_poll_ns=much"),
        ("run", "ipi-halted", "--param", "halt_poll_ns=Y"),
        ("run", "ipi-halted", "--param", "halt_poll_ns"),
        ("run", "ipi-halted", "--format", "postcard"),
        ("run", "ipi-halted", "--format", "graph", "--graph-function", "printk"),
        ("run",),
        ("fly",),
        ("explain", "no-such-file"),
        ("explain", "--kernel", "6"),
        (),
    ],
)
def test_bad_input_is_one_line_and_status_2(capsys, monkeypatch, args):
    """Nothing on standard output."""
    monkeypatch.setattr("sys.stdin", open("/dev/null"))  # noqa: SIM115 -- closed with the test
    try:
        status = main(args)
    except SystemExit as end:
        status = end.code
    caught = capsys.readouterr()
    assert (status, caught.out) == (2, "")
    assert caught.err.startswith("kvmmodel")
    assert caught.err.count("\n") == 1
    assert "Traceback" not in caught.err


def test_a_bad_file_names_its_line(capsys, tmp_path):
    mine = tmp_path / "my.toml"
    mine.write_text('title = "mine"\n[vcpu.0]\nprogram = ["jump"]\n')
    assert main(["run", str(mine)]) == 2
    assert f"{mine}, line 3: " in capsys.readouterr().err
    mine.write_bytes(b"\xff\xfe\x00")
    assert main(["run", str(mine)]) == 2
    assert "not a text file" in capsys.readouterr().err


def test_explain_reads_standard_input():
    text = "@[\n    svm_complete_interrupt_delivery+5\n    kvm_apic_set_irq+60\n]: 976\n"
    made = subprocess.run([sys.executable, "-m", "kvmmodel.cli", "explain", "--kernel", "6.12", "--json"], input=text,
                          capture_output=True, text=True, check=True)  # fmt: skip
    stacks = json.loads(made.stdout)["stacks"]
    assert [(one["count"], one["frames"]) for one in stacks] == [
        (976, ["svm_complete_interrupt_delivery", "kvm_apic_set_irq"])
    ]


def test_explain_refuses_an_empty_file_before_it_runs_anything(tmp_path, monkeypatch, capsys):
    """Once the model ran for ten seconds first."""
    monkeypatch.setattr("kvmmodel.explain.runs.Runs.more", lambda *_, **__: pytest.fail("the scenarios were run"))
    (tmp_path / "empty").write_text("", encoding="utf-8")
    assert main(["explain", str(tmp_path / "empty")]) == 2
    assert capsys.readouterr().err == "kvmmodel: the input is empty\n"


def test_run_with_an_iommu(capsys):
    """In the guest, posted: no exit between the device's message and its handler. Without an IOMMU there is one."""
    for option, exits in (("vapic", False), ("legacy", True)):
        said = output(capsys, "run", "device-in-guest", "--kernel", "7.3", "--avic", "on", "--iommu", option)
        assert ("kvm_apic_accept_irq" in said) is exits
