"""Module parameters: which release has which, what it takes, and how sysfs spells it."""

import re
from pathlib import Path

import pytest

from kvmmodel import Host
from kvmmodel.facts import load
from kvmmodel.facts.params import kind_of
from kvmmodel.facts.releases import kernel, series

DATA = Path(__file__).parents[1] / "evidence" / "data"
PARAMETER = re.compile(r"^/sys/module/(\w+)/parameters/(\w+) = (\S+)$", re.MULTILINE)
# Recordings: the emulator of some was patched to report NRIPS, one was told avic=1 force_avic=1.
RECORDED = {
    "5.10.262-avic0": ("tcg", {}),
    "6.1.176-avic0": ("tcg", {}),
    "6.12.95-avic0-nrips": ("tcg,+nrips", {}),
    "7.3.4-avic0": ("tcg", {}),
    "7.3.4-avic0-nrips": ("tcg,+nrips", {}),
    "7.3.4-avic1-forced-tcg": ("tcg", {"avic": "1", "force_avic": "1"}),
}


@pytest.mark.parametrize("name", RECORDED)
def test_sysfs_is_as_recorded(name):
    """Value, spelling and module of every parameter that the model has; none that the kernel did not have."""
    cpu, asked = RECORDED[name]
    host = Host(cpu, name.split("-")[0], **asked)
    text = (DATA / name / "00-system.txt").read_text(encoding="utf-8")
    recorded = {name: (module, value) for module, name, value in PARAMETER.findall(text)}
    rows = load("params")
    assert {name: (rows[name]["module"], value) for name, value in host.sysfs.items()} == {
        name: found for name, found in recorded.items() if name in rows
    }


# avic's type and what it is by default. Source: 5.10.223, 5.15.85, 6.1.176, 6.6.9, 6.12.117, 6.18.35, 7.2.13, 7.3.4.
AVIC = {
    "5.10": ("int", False),
    **dict.fromkeys(("5.15", "6.1", "6.6", "6.12"), ("bool", False)),
    **dict.fromkeys(("6.18", "7.2", "7.3"), ("auto", True)),
}


@pytest.mark.parametrize("name", series())
def test_avic_by_release_on_zen4(name):
    kind, default = AVIC[name]
    assert kind_of("avic", kernel(name)) == kind
    assert Host("zen4", name).params["avic"] is default
    assert Host("zen4", name, avic=True).sysfs["avic"] == ("1" if kind == "int" else "Y")
    assert Host("zen4", name, avic=False).sysfs["avic"] == ("0" if kind == "int" else "N")


FIRST = {"force_avic": "6.1", "lbrv": "6.1", "tsc_scaling": "6.1", "vnmi": "6.6", "enable_ipiv": "6.18"}
FIRST |= {"enable_device_posted_irqs": "6.18", "intercept_smi": "5.15", "npt": "5.10", "vls": "5.10"}


@pytest.mark.parametrize("parameter", FIRST)
def test_a_parameter_is_there_from_a_release_on(parameter):
    has = [name for name in series() if parameter in Host("zen4", name).params]
    assert has == list(series()[series().index(FIRST[parameter]) :])


@pytest.mark.parametrize("word", ["Y", "y", "1", "on", "ON", "true", "yes", True, 1])
def test_words_for_yes(word):
    """source 6.6.9, kstrtobool: the first letter counts, and of o the second."""
    assert Host("zen4", "6.12", avic=word).params["avic"] is True


@pytest.mark.parametrize("word", ["N", "n", "0", "off", "false", "no", False, 0])
def test_words_for_no(word):
    assert Host("zen4", "6.18", avic=word).params["avic"] is False


def test_what_only_some_releases_take():
    """auto: source 6.18.35, avic_param_set. enabled, disabled: kstrtobool of 6.18.35, not of 6.6.9."""
    assert Host("zen4", "6.18", avic="auto").params["avic"] is True
    assert Host("zen2", "6.18", avic="auto").params["avic"] is False
    assert Host("zen4", "6.18", avic="disabled").params["avic"] is False
    with pytest.raises(ValueError, match=r"expected Y or N with kernel 6\.6\.9, got 'enabled'"):
        Host("zen4", "6.6", avic="enabled")


def test_a_number_that_is_a_switch_takes_any_number_and_keeps_it():
    """source 6.18.35: vgif and nested are ints; nrips is one, but 0 or 1 after loading, which 6.1.176 does not do."""
    assert Host("zen4", "6.18", vgif=7).sysfs["vgif"] == "7"
    assert Host("zen4", "6.18", vgif="0x2").sysfs["vgif"] == "2"
    assert Host("zen4", "6.18", nested=False).sysfs["nested"] == "0"
    assert Host("zen4", "6.18", nrips=7).sysfs["nrips"] == "1"
    assert Host("zen4", "6.1", nrips=7).sysfs["nrips"] == "7"
    assert Host("zen4", "6.18", vgif=0).params["vgif"] == 0
    assert Host("zen1", "5.10", avic=2).sysfs["avic"] == "2"


def test_5_10_shows_npt_as_it_was_asked():
    """source 5.15.85; recalled for 5.10."""
    assert (Host("tcg,-npt", "5.10").sysfs["npt"], Host("tcg,-npt", "5.10").params["npt"]) == ("1", False)
    assert Host("tcg,-npt", "5.15").sysfs["npt"] == "N"


@pytest.mark.parametrize(
    ("kernel", "asked", "message"),
    [
        ("6.18", {"vnmi": 7}, "vnmi is a switch: expected Y or N with kernel 6.18.35, got 7"),
        ("6.18", {"avic": 2}, "avic is a switch: expected Y, N or auto with kernel 6.18.35, got 2"),
        ("6.18", {"avic": "maybe"}, "avic is a switch: expected Y, N or auto"),
        ("6.18", {"avic": None, "force_avic": None}, "force_avic is a switch: expected Y or N"),
        ("6.18", {"vgif": "on"}, "vgif is a switch: expected Y, N or a number, got 'on'"),
        ("6.18", {"vgif": 1 << 31}, "vgif: expected a number from -2147483648 to 2147483647"),
        ("6.18", {"halt_poll_ns": 10**14}, "halt_poll_ns: expected a number from 0 to 4294967295"),
        ("6.18", {"halt_poll_ns": -1}, "halt_poll_ns: expected a number from 0"),
        ("6.18", {"halt_poll_ns": True}, "halt_poll_ns takes a number, got True"),
        ("6.18", {"halt_poll_ns": "Y"}, "halt_poll_ns takes a number, got 'Y'"),
        ("6.1", {"vnmi": False}, "kernel 6.1.192 has no parameter 'vnmi' in the model"),
        ("5.15", {"force_avic": True}, "kernel 5.15.100 has no parameter 'force_avic'"),
        ("6.12", {"enable_ipiv": True}, "has no parameter 'enable_ipiv'"),
        ("6.12", {"lapic_timer_advance_ns": 0}, "has no parameter 'lapic_timer_advance_ns'"),
        ("6.6", {"lapic_timer_advance": True}, "has no parameter 'lapic_timer_advance'"),
        ("6.12", {"avic": "auto"}, "avic is a switch: expected Y or N with kernel 6.12.117, got 'auto'"),
        ("5.10", {"avic": "auto"}, "avic is a switch: expected Y, N or a number, got 'auto'"),
    ],
)
def test_one_line_says_what_was_expected(kernel, asked, message):
    with pytest.raises(ValueError, match=message) as refused:
        Host("zen4", kernel, **asked)
    assert "\n" not in str(refused.value)


def test_a_switch_is_off_without_its_feature_or_the_parameter_that_it_needs():
    assert Host("zen3", "6.18", vnmi=True).params["vnmi"] is False
    assert Host("zen4", "6.18", vgif=False).params["vnmi"] is False
    assert Host("zen4", "6.18", npt=False, avic=True).params["avic"] is False
    assert Host("zen4", "6.18", npt=False).params["vls"] is False
    assert Host("tcg", "6.18").params["enable_pmu"] is False


def test_force_avic_overrides_the_bit_alone():
    """source 6.1.176 to 7.3.4: it needs avic=1 and npt as any."""
    for name in ("6.1", "6.12", "7.3"):
        assert Host("zen3", name, avic=True, force_avic=True).params["avic"] is True
        assert Host("zen3", name, force_avic=True).params["avic"] is False
        assert Host("zen3", name, avic=True, force_avic=True, npt=False).params["avic"] is False


def test_ipi_virtualization_goes_with_avic_and_not_on_zen1_zen2_and_hygon():
    """source 6.18.35, 7.3.4: erratum #1235; nothing turns it on again."""
    assert Host("zen4", "6.18").params["enable_ipiv"] is True
    assert Host("zen4", "6.18", enable_ipiv=False).params["enable_ipiv"] is False
    assert Host("zen4", "6.18", avic=False).params["enable_ipiv"] is False
    for cpu in ("zen1", "zen1+", "zen2", "hygon"):
        host = Host(cpu, "7.3", avic=True, enable_ipiv=True)
        assert (host.params["avic"], host.params["enable_ipiv"]) == (True, False)
    assert Host("hygon", "6.18.0", avic=True).params["enable_ipiv"] is True
    assert Host("hygon", "6.18.35", avic=True).params["enable_ipiv"] is False


def test_device_interrupts_are_posted_with_avic_and_an_iommu_that_can():
    """source 7.3.4, kvm_x86_vendor_init. Zen 3: mail of 2025. Recorded 7.3.4: off without an IOMMU, AVIC on."""

    def posted(cpu="zen4", **options):
        return Host(cpu, "7.3", **options).sysfs["enable_device_posted_irqs"]

    assert posted(iommu="vapic") == "Y"
    assert posted() == "N"
    assert posted(iommu="legacy") == "N"
    assert posted(iommu="vapic", avic=False) == "N"
    assert posted(iommu="vapic", enable_device_posted_irqs=False) == "N"
    assert posted("zen3", iommu="vapic", avic=True, force_avic=True) == "N"


def test_without_svm_only_kvm_has_parameters():
    host = Host("none", "7.3")
    assert host.params["avic"] is False
    assert "avic" not in host.sysfs
    assert host.sysfs["halt_poll_ns"] == "200000"
