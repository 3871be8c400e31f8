"""The decision on AVIC: the model's conditions in the kernel's order, and the words that a reader gets."""

import xml.etree.ElementTree as ET

import pytest

from kvmmodel import Host
from kvmmodel.facts.releases import series
from kvmmodel.widgets.avic_default import (
    ASKED,
    CONDITIONS,
    CPUS,
    GROUPS,
    answer,
    avic_default,
    avic_table,
    decide,
    draw,
    heading,
    kernel_log,
    static,
)

OFF = {"avic": "unset", "force_avic": False, "no_npt": False, "snp": False}


def made(cpu="zen4", kernel="6.18", **asked):
    return decide(cpu, kernel, **(OFF | asked))


def keys(decision):
    return [row.key for row in decision.rows if row.value is not None]


def parsed(html):
    return ET.fromstring(f"<x>{html}</x>")


def text(html):
    return " ".join(" ".join(parsed(html).itertext()).split())


@pytest.mark.parametrize("kernel", series())
@pytest.mark.parametrize("cpu", [cpu for _, cpu in CPUS])
@pytest.mark.parametrize("avic", [value for _, value in ASKED])
def test_the_answer_is_what_the_module_says(cpu, kernel, avic):
    """And the last condition is the one that decided: one stops, or none does."""
    decision = made(cpu, kernel, avic=avic)
    stops = [n for n, row in enumerate(decision.rows) if row.stops]
    asked = len(keys(decision))
    assert decision.on == (decision.host.sysfs["avic"] in ("Y", "1"))
    assert stops == ([] if decision.on else [asked - 1])
    assert answer(decision)[0].startswith("Yes" if decision.on else "No")
    assert all(row.value is not None for row in decision.rows[:asked])
    assert all(row.value is None for row in decision.rows[asked:])
    assert {row.key for row in decision.rows} <= CONDITIONS.keys()
    parsed(heading(decision) + draw(decision) + static(decision))


@pytest.mark.parametrize(
    ("cpu", "kernel", "asked", "wanted"),
    [
        ("zen4", "6.12", {}, ["avic"]),
        ("zen4", "6.12", {"avic": "1"}, ["avic", "npt", "avic_cpuid", "snp", "x2avic_cpuid"]),
        ("zen4", "6.1", {"avic": "1"}, ["avic", "npt", "avic_cpuid", "x2avic_cpuid"]),
        ("zen4", "5.15", {"avic": "1"}, ["avic", "npt", "avic_cpuid"]),
        ("zen2", "6.18", {}, ["avic", "auto_x2avic"]),
        ("zen4-nested", "6.18", {"avic": "1"}, ["avic", "npt", "avic_cpuid", "force_avic"]),
        ("zen4", "6.18", {"no_npt": True}, ["avic", "auto_x2avic", "auto_zen4", "npt"]),
        ("zen4", "6.18", {"snp": True}, ["avic", "auto_x2avic", "auto_zen4", "npt", "avic_cpuid", "snp", "hv_inuse"]),
        ("zen4", "6.18", {}, ["avic", "auto_x2avic", "auto_zen4", "npt", "avic_cpuid", "snp", "x2avic_cpuid",
                              "erratum_1235"]),
    ],
)  # fmt: skip
def test_conditions_are_asked_in_the_kernels_order_up_to_the_one_that_stops(cpu, kernel, asked, wanted):
    """source: avic_want_avic_enabled of 6.18.35 and 7.3.4, avic_hardware_setup of 6.1.176 and 6.12.117."""
    assert keys(made(cpu, kernel, **asked)) == wanted


def test_what_is_no_longer_asked_is_listed():
    idle = [row.key for row in made("zen2").rows if row.value is None]
    assert idle == ["npt", "avic_cpuid", "snp", "x2avic_cpuid", "erratum_1235"]


@pytest.mark.parametrize(
    ("cpu", "asked", "said"),
    [
        ("zen4", {}, "Yes, a VM may use AVIC. x2AVIC; IPIs go without an exit."),
        ("zen2", {"avic": "1"}, "Yes, a VM may use AVIC. AVIC for xAPIC guests, and a half of it for x2APIC guests; "
                                 "each IPI exits, what arrives does not."),
        ("zen3", {"avic": "1", "force_avic": True}, "Yes, by force: CPUID says no. AVIC for xAPIC guests, and a half "
                                                     "of it for x2APIC guests; IPIs go without an exit."),
        ("zen4-nested", {"avic": "1", "force_avic": True}, "Yes, by force, and it does not work. The processor has no "
                                                            "AVIC: interrupts are accepted and never arrive."),
        ("zen3", {}, "No. No VM on this host has AVIC. KVM delivers every interrupt in software."),
    ],
)  # fmt: skip
def test_the_answer_in_words(cpu, asked, said):
    assert " ".join(answer(made(cpu, **asked))) == said


def test_that_a_forced_avic_does_not_work_is_what_a_run_does():
    vm = Host("zen4-nested", "6.18", avic=True, force_avic=True).create_vm(2, boot=True)
    vm.vcpus[0].guest.wrmsr(0x830, 1 << 32 | 0x41)
    vm.run(limit_ns=1_000_000)
    assert vm.vcpus[1].apicv_active
    assert vm.vcpus[1].lapic.irr == 1 << 0x41
    assert not vm.vcpus[1].guest.handled


def test_what_a_host_does_not_have_is_left_out_and_said():
    older = made("zen2", "5.15", force_avic=True, snp=True)
    assert older.command == "modprobe kvm_amd"
    assert older.notes == ("5.15 has no `force_avic`.", "Shown without SNP guests: CPU 'zen2' has no SNP.")
    assert "5.15 has no force_avic." in "".join(parsed(draw(older)).itertext())


def test_the_picture_shows_sysfs_and_the_log():
    shown = text(draw(made("zen3", avic="1", force_avic=True)))
    for line in ("avic Y", "force_avic Y", "Setting dangerous option force_avic - tainting kernel",
                 "kvm_amd: AVIC unsupported in CPUID but force enabled, your system might crash and burn"):  # fmt: skip
        assert line in shown


def test_the_widget_follows_its_controls():
    widget = avic_default()
    assert widget.decision is not None
    assert not widget.decision.on
    widget.choose(kernel="6.18")
    assert widget.decision.on
    widget.choose(cpu="zen2", avic="1", no_npt=True)
    assert [row.key for row in widget.decision.rows if row.stops] == ["npt"]
    assert widget.decision.command == "modprobe kvm_amd avic=1 npt=0"
    assert "km-decide" in widget._repr_mimebundle_()["text/html"]


def test_a_host_that_cannot_be_made_is_one_line(monkeypatch):
    widget = avic_default()
    monkeypatch.setattr("kvmmodel.widgets.avic_default.Host", lambda *_, **__: 1 / 0)
    widget.choose(kernel="6.18")
    assert widget.decision is None
    assert widget.error == "This host could not be made. ZeroDivisionError: division by zero"


def test_the_table_has_what_each_release_makes_of_the_default_and_of_1():
    rows = {row[0].text: ["".join(cell.itertext()) for cell in row[1:]] for row in parsed(avic_table()).iter("tr")}
    assert rows["processor"] == [name for name, _, _ in GROUPS]
    assert rows["Zen 4"] == ["0 / N", "Y x2AVIC", "Y x2AVIC", "Y x2AVIC"]
    assert rows["Zen 2"] == ["0 / N", "N", "Y", "Y IPIs exit"]
    assert rows["Zen 3"] == rows["in a VM"] == ["0 / N", "N", "N", "N"]


def test_the_log_has_what_is_said_of_avic():
    assert str(kernel_log("zen4", "7.3")).splitlines() == [
        "kvm_amd: AVIC enabled",
        "kvm_amd: x2AVIC enabled (max 512 vCPUs)",
    ]
    assert str(kernel_log("zen3", "6.12", avic=True, force_avic=True)).splitlines() == [
        "Setting dangerous option force_avic - tainting kernel",
        "kvm_amd: AVIC is not supported in CPUID but force enabled",
        "kvm_amd: Your system might crash and burn",
    ]
