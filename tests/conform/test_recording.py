"""Reading recordings: what tracers and file systems do to them, and files that are none."""

import re
import shutil
from pathlib import Path

import pytest

from kvmmodel import cli
from kvmmodel.conform import RecordingError, compare, read
from kvmmodel.conform.recording import LINE, LOST_EVENTS, runs
from kvmmodel.explain import kernel_of

DATA = Path(__file__).parents[1] / "evidence" / "data"
SYSTEM, TRACE = "00-system.txt", "10-kvm-tracepoints.txt"


@pytest.fixture
def copy(tmp_path):
    """A recording, traces alone."""
    folder = tmp_path / "recording"
    folder.mkdir()
    for name in (SYSTEM, TRACE):
        shutil.copy(DATA / "6.12.95-avic0-nrips" / name, folder)
    return folder


def _edit(folder, change, name=TRACE):
    path = folder / name
    text = change(path.read_bytes().decode())
    path.write_bytes(text.encode())


def _differences(folder):
    return [(phase.name[:3], row) for phase in compare(read(folder)) for row in phase.differences]


@pytest.mark.parametrize(
    "row",
    [
        "L2-vcpu0-354     [001] d..1.     7.091814: kvm_entry: vcpu 0, rip 0x20085e",
        "        L2-vcpu0-354     [001] d...     7.091814: kvm_entry: vcpu 0, rip 0x20085e",
        " CPU 1/KVM-354   (   350) [001] d..1. 7.091814: kvm_entry: vcpu 0, rip 0x20085e",
        "<...>-354 [001]  7.091814: kvm_entry:            vcpu 0, rip 0x20085e",
    ],
    ids=["6.1", "5.10", "with the thread group", "without flags"],
)
def test_a_line_is_read_whatever_columns_it_has(row):
    """The second is 5.10's, which has one flag less."""
    match = LINE.match(row)
    assert (match["pid"], match["event"], match["text"]) == ("354", "kvm_entry", "vcpu 0, rip 0x20085e")


@pytest.mark.parametrize(
    ("text", "kernel"),
    [
        ("Linux (none) 6.1.0-50-cloud-amd64 #1 SMP PREEMPT_DYNAMIC Debian 6.1.176-1 (2026-07-02) x86_64", "6.1.176"),
        ("Linux version 5.10.0-46-amd64 (debian-kernel@lists.debian.org) #1 SMP Debian 5.10.262-1 (2026)", "5.10.262"),
        ("CPU: 1 PID: 77 Comm: qemu-kvm Not tainted 6.1.0-53-amd64 #1  Debian 6.1.187-1", "6.1.187"),
        ("Linux h 6.12.95+deb12-cloud-amd64 #1 SMP Debian 6.12.95-1~bpo12+1 (2026)", "6.12.95"),
    ],
)
def test_the_point_release_of_a_distribution_is_found(text, kernel):
    """Debian up to 12 has X.Y.0-ABI as the release; with it every behaviour of a later point release was missed."""
    assert kernel_of(text) == kernel


def test_an_abi_without_a_point_release_is_the_series(copy):
    _edit(copy, lambda text: re.sub(r"^Linux .*", "Linux h 6.12.0-9-generic #9-Ubuntu SMP x86_64", text), SYSTEM)
    assert read(copy).kernel == "6.12"


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace("\n", "\r\n"),
        lambda text: "\ufeff" + text,
        lambda text: text.replace("L2-vcpu0-", "CPU 0/KVM-").replace("L2-vcpu1-", "<...>-"),
        lambda text: re.sub(r"-(\d+)( +\[)", lambda m: f"-{int(m[1]) + 4_000_000}{m[2]}", text),
        lambda text: re.sub(r"^(.*? \[\d+\]) \S+ ", r"\1 ", text, flags=re.MULTILINE),
    ],
    ids=["CRLF", "byte order mark", "other names", "other numbers", "no flags"],
)
def test_what_does_not_matter_makes_no_difference(copy, change):
    before = (copy / TRACE).read_text()
    _edit(copy, change)
    assert (copy / TRACE).read_bytes() != before.encode()
    assert _differences(copy) == []


def test_other_threads_events_are_not_a_vcpus(copy):
    row = "           <idle>-0       [001] d.h1.     9.000001: kvm_apic_accept_irq: apicid 0 vec 239 (Fixed|edge)\n"
    _edit(copy, lambda text: row + text + row)
    assert _differences(copy) == []


def test_several_runs_in_a_trace_are_each_compared(copy):
    second = re.compile(r"-(\d+)( +\[)")
    _edit(copy, lambda text: text + second.sub(lambda m: f"-{int(m[1]) + 1000}{m[2]}", text))
    assert len(runs(read(copy).lines, "S00 enable x2APIC on vCPU0")) == 2
    phases = compare(read(copy))
    assert [p.verdict for p in phases] == ["equal"] * 52
    _edit(copy, lambda text: "IRQ 0xe3".join(text.rsplit("IRQ 0xe2", 1)))
    assert [n for n, p in enumerate(compare(read(copy))) if p.differences] == [26 + 9]


def test_lost_events_are_told_where_they_were_lost(copy):
    _edit(copy, lambda text: re.sub(r"(.*S07 .*\n)", r"\1CPU:1 [LOST 1234 EVENTS]\n", text))
    assert [line.text for line in read(copy).lines if line.event == LOST_EVENTS] == ["1234 on CPU 1"]
    assert _differences(copy) == [("S07", "- lost events: 1234 on CPU 1")]


def test_a_trace_without_its_beginning_differs_there_only(copy):
    """The ring buffer overwrites its oldest events."""
    _edit(copy, lambda text: text[text.rindex("\n", 0, text.index("S09 ")) + 1 :])
    different = {name for name, _ in _differences(copy)}
    assert {"S00", "S08"} <= different
    assert not different & {f"S{n:02}" for n in range(10, 25)}


def test_a_vcpu_that_the_guest_does_not_have_is_a_difference(copy):
    extra = "L2-vcpu2-77 [002] ..... 7.0: kvm_{}\n"
    rows = extra.format("entry: vcpu 2, rip 0x0") + extra.format("eoi: apicid 2 vector 33")
    _edit(copy, lambda text: re.sub(r"(.*S03 .*\n)", rf"\1{rows}", text))
    assert _differences(copy) == [("S03", "- vCPU 2 kvm_eoi: apicid 2 vector 33")]


@pytest.mark.parametrize("cut", [0.1, 0.5, 0.95])
def test_a_file_that_ends_in_the_middle_is_compared_as_far_as_it_goes(copy, cut):
    _edit(copy, lambda text: text[: int(len(text) * cut)])
    assert _differences(copy)[-1][0] == "S99"


@pytest.mark.parametrize(
    ("name", "content", "wanted"),
    [
        (SYSTEM, b"", "names no kernel release"),
        (SYSTEM, b"Linux h 6.12.95 #1 SMP\n", "no parameters of kvm_amd"),
        (SYSTEM, b"Linux h 3.10.0 #1\n/sys/module/kvm_amd/parameters/avic = N\n", "unknown kernel '3.10.0'"),
        (SYSTEM, b"Linux h 6.12.95 #1\n/sys/module/kvm_amd/parameters/avic = N\n", "no SVM"),
        (TRACE, b"", "has no KVM event"),
        (TRACE, bytes(range(256)) * 9, "has no KVM event"),
    ],
)  # fmt: skip
def test_bad_input_gets_one_line(copy, capsys, name, content, wanted):
    (copy / name).write_bytes(content)
    assert cli.main(["conform", str(copy)]) == 2
    (line,) = capsys.readouterr().err.splitlines()[-1:]
    assert wanted in line


@pytest.mark.parametrize(
    ("cpu", "params", "features", "resolved"),
    [
        ("", "avic = Y, npt = Y", {"avic", "npt"}, (True, False)),
        ("AMD EPYC", "avic = Y, npt = Y", {"avic", "x2avic", "npt"}, (True, True)),
        ("AMD EPYC", "avic = N, npt = Y", {"avic", "x2avic", "npt"}, (False, False)),
        ("AMD EPYC", "avic = N, npt = N", {"avic", "x2avic"}, (False, False)),
        ("QEMU TCG", "avic = Y, force_avic = Y, npt = Y", {"npt", "virq_at_equal_priority"}, (True, False)),
    ],
    ids=["by the parameter", "by the flags", "off", "nested paging switched off", "forced"],
)
def test_the_parameters_of_avic_are_taken_from_the_recording(copy, cpu, params, features, resolved):
    """avic=Y was refused. A forced AVIC was taken for the processor's own."""
    flags = {"AMD EPYC": "svm npt avic x2avic", "QEMU TCG": "svm npt"}
    told = [f"Linux h 6.12.95 #1\nmodel name\t: {cpu}\nflags\t\t: {flags[cpu]}" if cpu else "Linux h 6.12.95 #1"]
    told += [f"/sys/module/kvm_amd/parameters/{one}" for one in params.split(", ")]
    (copy / SYSTEM).write_text("\n".join(told) + "\n")
    system = read(copy).system
    assert system.processor.features == features
    host = system.host()
    assert (host.params["avic"], host.x2avic) == resolved
    assert read(copy).system.host("5.10").params["avic"] == (resolved[0] and "force_avic" not in params)


@pytest.mark.parametrize("what", ["missing", "file"])
def test_what_is_no_folder_gets_one_line(tmp_path, capsys, what):
    (tmp_path / "file").write_text("x")
    assert cli.main(["conform", str(tmp_path / what)]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_a_recording_without_stacks_is_compared(copy, capsys):
    """Such a folder was refused."""
    assert cli.main(["conform", str(copy), "--json"]) == 0
    assert '"matched": 0' in capsys.readouterr().out


def test_reading_says_which_folder(tmp_path):
    with pytest.raises(RecordingError, match=str(tmp_path)):
        read(tmp_path)
