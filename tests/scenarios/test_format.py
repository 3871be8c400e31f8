"""A reader's own scenario: what is wrong is said in one line with file, line and what was expected."""

import pytest

from kvmmodel import Host, cli
from kvmmodel.scenarios.format import ScenarioError, read
from kvmmodel.scenarios.run import built_in, names, run, unfinished

GOOD = """title = "t"
[vm]
vcpus = 2
boot = true
[handlers]
slow = ["spin 100", "eoi"]
[vcpu.0]
program = ["wrmsr ICR 0x1_0000_0043"]
[vcpu.1]
program = ["wait 0x43 1"]
idt = { "0x40-0x4f" = "slow" }
"""


def test_a_good_file_runs():
    made = run(read("my.toml", GOOD), Host(kernel="6.12", avic=False))
    assert made.vcpus[1].guest.handled == {0x43: 1}


@pytest.mark.parametrize(
    ("old", "new", "line", "words"),
    [
        ('title = "t"', "title = ", 1, "not TOML"),
        ("boot = true", "boot = true\nboot = false", 5, "not TOML"),
        ("boot = true", "boat = true", 4, "unknown key 'boat', expected one of vcpus, x2apic, boot, pcpus, "
         "irqchip, pit"),
        ("boot = true", "boot = 1", 4, "boot takes true or false, got 1"),
        ("vcpus = 2", 'vcpus = "2"', 3, "vcpus takes a number"),
        ("vcpus = 2", "vcpus = 0", 3, "vcpus takes 1 to 255"),
        ("vcpus = 2", "pcpus = [2]", 3, "pcpus has one physical CPU for each of 2 vCPUs, got [2]"),
        ("vcpus = 2", "pit = true", 3, "pit takes a string, got True"),
        ("vcpus = 2", "pit = 'delay'", 3, "pit takes 'reinject' or 'discard', got 'delay'"),
        ("vcpus = 2", "irqchip = 'off'", 3, "irqchip takes 'kernel' or 'split', got 'off'"),
        ("vcpus = 2", "irqchip = 'split'\npit = 'discard'", 4, "KVM has no PIT with irqchip = 'split'"),
        ("[vm]", "limit_ns = -5\n[vm]", 2, "limit_ns takes 1 or more, got -5"),
        ("[vm]", "[[race]]\nat = { event = 'kick' }\nrun = 1\nuntil = 'x'\n[vm]", 5, "expected one of ack, apic_"),
        ("wait 0x43 1", "weight 0x43 1", 10, "unknown instruction 'weight': expected one of wrmsr, rdmsr"),
        ("wait 0x43 1", "wait 0x43", 10, "'wait' takes N N, got '0x43'"),
        ("wait 0x43 1", "wait this 1", 10, "expected a number, got 'this'"),
        ("wrmsr ICR", "wrmsr IRC", 8, "expected a number or one of ID, LVR"),
        ('"spin 100"', "100", 6, "expected a string, got 100"),
        ('= "slow" }', '= "slew" }', 11, "no handler 'slew', expected one of eoi, none, pv_eoi, slow"),
        ("0x40-0x4f", "0x40-0x14f", 11, "expected a vector or a range of vectors"),
        ("[vcpu.1]", "[vcpu.7]", 9, "the VM has vCPUs 0 to 1"),
        ("[vm]", "[vn]", 2, "unknown key 'vn', expected one of title, page"),
        ("[vm]", 'break = "no-kick"\n[vm]', 2, "break takes an array"),
        ("[vm]", "known = { heard = 'x' }\n[vm]", 2, "known: expected recorded, source"),
        ("[vm]", "[[userspace]]\nwhen = { start = true }\n[vm]", 2, "needs when and do"),
        ("[vm]", "[[userspace]]\nwhen = { start = true }\ndo = ['signal_msi 1']\n[vm]", 4,
         "expected one of signal_msi with 2 numbers"),
        ("[vm]", "[[userspace]]\nwhen = { start = true }\ndo = ['burn 1 x']\n[vm]", 4, "expected numbers"),
        ("[vm]", "[[userspace]]\nwhen = { vcpu = 9, halted = true }\ndo = []\n[vm]", 3, "the VM has vCPUs 0 to 1"),
        ("[vm]", "[[userspace]]\nwhen = { vcpu = 1 }\ndo = []\n[vm]", 3, "expected one of start, mark"),
        ("[vm]", "[[userspace]]\nwhen = { start = true, text = 'NOP' }\ndo = []\n[vm]", 3,
         'text goes with event = "instruction"'),
        ("[vm]", "[[race]]\nat = { event = 'kick' }\nrun = 5\nuntil = 'vmrun'\n[vm]", 4, "run takes a vCPU"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_with_its_line(old, new, line, words):
    assert GOOD.count(old) == 1
    with pytest.raises(ScenarioError) as error:
        read("my.toml", GOOD.replace(old, new))
    message = str(error.value)
    assert message.startswith(f"my.toml, line {line}: ")
    assert words in message
    assert "\n" not in message


@pytest.mark.parametrize(("line", "irqchip", "pit"), [
    ("", "kernel", None),
    ("pit = 'reinject'", "kernel", True),
    ("irqchip = 'kernel'\npit = 'discard'", "kernel", False),
    ("irqchip = 'split'", "split", None),
])  # fmt: skip
def test_a_vm_has_the_irqchip_and_the_pit_that_are_asked_for(line, irqchip, pit):
    kvm = run(read("my.toml", GOOD.replace("boot = true", "boot = true\n" + line)), Host(avic=False)).machine.kvm
    assert (kvm.irqchip, None if kvm.vpit is None else kvm.vpit.reinject) == (irqchip, pit)


@pytest.mark.parametrize("text", ["", "title = 't'", "[vcpu.0]\nprogram = []"])
def test_a_title_and_a_program_are_needed(text):
    with pytest.raises(ScenarioError, match=r"my.toml, line 1: a scenario needs a title"):
        read("my.toml", text)


@pytest.mark.parametrize(
    "text",
    [
        "title = 3\n[vcpu.0]\nprogram = []",
        "title = 't'\nhandlers = { a = 3 }\n[vcpu.0]\nprogram = []",
        "title = 't'\nvcpu = { 0 = 3 }",
        "title = 't'\nuserspace = [3]\n[vcpu.0]\nprogram = []",
        "title = 't'\n[vcpu.0]\nprogram = []\nidt = { '0x41' = 3 }",
        "title = 't'\n[vm]\npcpus = ['a', 'b']\n[vcpu.0]\nprogram = []",
        "title = 't'\n[vm]\npcpus = [2, 4096]\n[vcpu.0]\nprogram = []",
        "title = 't'\n[[race]]\nat = 3\nrun = 0\nuntil = 'x'\n[vcpu.0]\nprogram = []",
        "title = 't'\n[[race]]\nat = {event = 'kick'}\nrun = -1\nuntil = 'x'\n[vcpu.0]\nprogram = []",
        "title = 't'\n[vcpu.0]\nprogram = ['wrmsr ICR 0x10000000000000000']",
        "title = 't'\n[vcpu.0]\nprogram = ['handler 0x41 nobody']",
        "title = 't'\nbreak = ['gravity']\n[vcpu.0]\nprogram = []",
        "title = 't'\nafter = 'nothing'",
        "title = 't'\n[vm]\nvcpus = 2\npcpus = [1]\n[vcpu.0]\nprogram = []",
        "title = 't'\n[[userspace]]\nwhen = {start = true}\ndo = ['burn 77 100']\n[vcpu.0]\nprogram = []",
        "title = 't'\n[[userspace]]\nwhen = {event = 'nonsense'}\ndo = []\n[vcpu.0]\nprogram = []",
    ],
)
def test_bad_input_never_escapes_as_another_error(text):
    """Whatever is in the file, reading and running it says so by a ValueError in one line."""
    with pytest.raises(ValueError) as error:  # noqa: PT011 -- the message differs, its form is what counts
        run(read("my.toml", text), Host(avic=False))
    assert "\n" not in str(error.value)
    assert str(error.value)


@pytest.mark.parametrize("name", names())
def test_built_in_scenarios_say_how_they_are_known(name):
    scenario = built_in(name)
    assert scenario.title
    assert scenario.known
    assert scenario.page.startswith("book/")


def test_after_goes_on_from_anothers_end():
    mine = 'title = "t"\nafter = "self-ipi"\n[vm]\nvcpus = 1\n[vcpu.0]\nprogram = ["wrmsr SELF_IPI 0x51"]\n'
    made = run(read("my.toml", mine),
               Host(avic=False))  # fmt: skip
    assert made.vcpus[0].guest.handled == {0x41: 1, 0x51: 1}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (('[vm]', 'after = "nosuch"\n[vm]'), "my.toml: after: no scenario 'nosuch'"),
        (('vcpus = 2', 'vcpus = 9'), "my.toml: [vcpu.5]: the VM of 'lab' has vCPUs 0 to 1"),
    ],
)  # fmt: skip
def test_what_a_scenario_goes_on_from_is_checked(change, words):
    """The second was an IndexError."""
    text = GOOD.replace(*change)
    if "vcpus = 9" in text:
        text = text.replace("[vm]", 'after = "lab"\n[vm]').replace("[vcpu.1]", "[vcpu.5]")
    with pytest.raises(ScenarioError) as error:
        run(read("my.toml", text), Host(kernel="6.12", avic=False))
    assert str(error.value).startswith(words)


def test_a_guest_that_waits_for_ever_is_told(tmp_path, capsys):
    """It ended with status 0 and without a word."""
    file = tmp_path / "my.toml"
    file.write_text(GOOD.replace("wait 0x43 1", "wait 0x44 1"), encoding="utf-8")
    assert cli.main(["run", str(file)]) == 1
    assert capsys.readouterr().err == f"kvmmodel: {file}: vCPU 1 did not finish: it is still at 'wait 68 1'\n"
    file.write_text(GOOD, encoding="utf-8")
    assert cli.main(["run", str(file), "--kernel", "6.12.95+deb12-cloud-amd64"]) == 0
    assert capsys.readouterr().err == ""


def test_a_parameter_is_given_once(capsys):
    assert cli.main(["run", "ipi-halted", "--param", "npt=Y", "--param", "npt=N"]) == 2
    assert capsys.readouterr().err == "kvmmodel: --param npt is given twice\n"


def test_built_in_scenarios_finish():
    for name in names():
        if not name.startswith(("ipi-", "lab")):
            assert unfinished(run(built_in(name), Host(kernel="6.12", avic=False), stacks=False)) == {}, name


def test_userspace_listens_to_an_instruction_and_to_a_resample_eventfd():
    text = """title = "t"
[vm]
vcpus = 1
boot = true
[vcpu.0]
program = ["mmio_write 0xfec00000 0x38", "mmio_write 0xfec00010 0x8062", "cli", "nop", "sti", "spin 20000"]
[[userspace]]
when = { start = true }
do = ["irqfd_resample 20"]
[[userspace]]
when = { event = "instruction", text = "NOP" }
do = ["eventfd 20"]
[[userspace]]
when = { event = "resample" }
do = ["eventfd 20"]
"""
    made = run(read("my.toml", text), Host(kernel="6.12", avic=False))
    assert made.vcpus[0].guest.handled == {0x62: 2}
