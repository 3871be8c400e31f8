"""Processors: names, features, what CPUID says, and the kernel's generations."""

import pytest

from kvmmodel import Host
from kvmmodel.facts import load
from kvmmodel.facts.cpus import from_cpuid, generation, hide, names, processor, show


def test_a_zen3_that_shows_avic():
    """mail of 2025: AVIC is hidden from CPUID on many parts of Zen 3."""
    hidden, shown = processor("zen3"), processor("zen3,+avic")
    assert shown.features == hidden.features | {"avic"}
    assert (shown.name, shown.title) == ("zen3,+avic", "Zen 3")
    assert show(hidden, ["avic"]) == shown
    assert hide(shown, ["avic"]).features == hidden.features


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("z80", "unknown CPU 'z80': expected one of zen1, zen1"),
        ("zen4,+warp", "unknown feature 'warp': expected one of npt"),
        ("zen4,vgif", r"CPU 'zen4,vgif': expected \+FEATURE or -FEATURE after the comma, got 'vgif'"),
        ("zen4,", r"expected \+FEATURE or -FEATURE after the comma, got ''"),
    ],
)
def test_one_line_says_what_was_expected(name, message):
    with pytest.raises(ValueError, match=message) as refused:
        processor(name)
    assert "\n" not in str(refused.value)


def test_from_cpuid():
    """Recorded: EDX of the emulator's CPUID 8000_000A. Bits as in cpufeatures.h, 6.18.35."""
    assert from_cpuid(0x10010001).features == {"npt", "vgif", "pmu"}
    assert from_cpuid(1 << 13 | 1 << 18 | 1, ecx=1 << 6).features == {"npt", "avic", "x2avic", "x2avic_ext", "pmu"}
    assert from_cpuid(0, sev_eax=1 << 30).features == {"hv_inuse_wr_allowed", "pmu"}


def test_every_feature_of_a_processor_is_a_fact():
    facts = load("cpus")
    known = facts["feature"].keys() | facts["trait"].keys()
    assert all(processor(name).features <= known for name in names())


# source 6.18.35, bsp_init_amd: the flags that avic_want_avic_enabled asks about, and their neighbours.
@pytest.mark.parametrize(
    ("family", "model", "flag"),
    [
        (0x19, 0x0F, "zen3"),
        (0x19, 0x10, "zen4"),
        (0x19, 0x1F, "zen4"),
        (0x19, 0x20, "zen3"),
        (0x19, 0x5F, "zen3"),
        (0x19, 0x60, "zen4"),
        (0x19, 0xAF, "zen4"),
        (0x19, 0xB0, None),
        (0x1A, 0x02, "zen5"),
        (0x1A, 0x50, "zen6"),
        (0x17, 0x31, "zen2"),
        (0x18, 0x00, None),
    ],
)
def test_generations(family, model, flag):
    cpu = from_cpuid(1 | 1 << 13 | 1 << 18, family=family, model=model)
    assert generation(cpu) == flag
    auto = Host(cpu, "7.3").params["avic"]
    assert auto is (flag == "zen4" or family >= 0x1A)


def test_the_named_ones_are_of_the_generation_that_they_are_named_for():
    assert {name: generation(processor(name)) for name in names()} == {
        "zen1": "zen1",
        "zen1+": "zen1",
        "zen2": "zen2",
        "zen3": "zen3",
        "zen4": "zen4",
        "zen4-client": "zen4",
        "zen4-nested": "zen4",
        "zen5": "zen5",
        "hygon": None,
        "tcg": None,
        "none": None,
    }
