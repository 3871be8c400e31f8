"""matrix.txt is what the model makes of every kernel on every processor. Here is a slice; all of it: `make matrix`."""

from pathlib import Path

import pytest

from kvmmodel import Host
from kvmmodel.facts.releases import series
from kvmmodel.matrix import CPUS, block, hosts, outcome, table
from kvmmodel.matrix.scenarios import LOSSES, expected

TABLE = Path(__file__).with_name("matrix.txt").read_text(encoding="utf-8")


def rows(kernel, cpu, avic):
    """guest -> its cells, by words without spaces."""
    lines = [line.split() for line in block(kernel, cpu, avic).splitlines()]
    return {words[6]: words[7:] for words in lines}


@pytest.mark.parametrize(("kernel", "cpu"), [(k, c) for k in series() for c in ("zen2", "zen4")])
def test_the_table_has_what_the_model_does(kernel, cpu):
    """The other processors' rows are compared by `make matrix`, which renews nothing by itself."""
    for avic in (False, True):
        assert block(kernel, cpu, avic) in TABLE


def test_the_table_has_every_host_once():
    wanted = [Host(cpu, kernel, avic=avic) for kernel, cpu, avic in hosts()]
    lines = TABLE.removeprefix(table([])).split("\n\n")[0].splitlines()
    heads = [line.split()[:2] for line in lines[::2]]
    assert heads == [[made.kernel.release, cpu] for made, (_, cpu, _) in zip(wanted, hosts(), strict=True)]
    assert len(wanted) == len(series()) * len(CPUS) * 2


SLICE = {
    ("5.15", "zen3", True): (),
    ("6.1", "zen4", True): ("ipi-logical-halted",),
    ("6.6", "zen2", True): ("cr8-handler",),
    ("7.3", "zen4", True): (),
    ("7.3", "zen4", False): (),
}


@pytest.mark.parametrize("host", SLICE)
def test_every_scenario_comes_to_its_end_or_is_known_not_to(host):
    found = outcome(*host)
    assert (found.failed, found.lost) == ((), SLICE[host])


def test_a_loss_needs_its_mode_and_its_release():
    """A logical x2APIC IPI to cluster 0 woke nobody from 6.0 on; 6.6 has that mended."""
    old, new = Host(kernel="6.1").kernel, Host(kernel="6.6").kernel
    assert expected("ipi-logical-halted", old, "x2avic")
    assert not expected("ipi-logical-halted", old, "xavic")
    assert not expected("ipi-logical-halted", new, "x2avic")
    assert not any(expected(name, Host(kernel="7.3").kernel, mode) for name in LOSSES for mode in ("hybrid", "x2avic"))


def test_the_modes():
    """Section by section of the matrix: what each pair of guest and host gives."""
    assert rows("5.15", "zen4", True)["x2APIC"][0] == "off"
    assert rows("5.15", "zen4", True)["xAPIC"][0] == "xavic"
    assert rows("6.1", "zen2", True)["x2APIC"][0] == "hybrid"
    assert rows("6.1", "zen4", True)["x2APIC"][0] == "x2avic"
    assert rows("7.3", "zen3", True)["x2APIC"][0] == "off"


def test_what_zen_2_pays_for_its_erratum():
    """From 6.17 on IsRunning stays clear in the table, so that every IPI exits; before, they did not."""
    assert rows("6.12", "zen2", True)["xAPIC"][1:3] == ["0", "401h"]
    assert rows("6.18", "zen2", True)["xAPIC"][1:3] == ["401h", "401h"]


def test_x2avic_by_release():
    """EOI of a level interrupt always exits; SELF_IPI until 7.0; TMICT as a trap before, as an MSR exit since."""
    old, new = rows("6.18", "zen4", True)["x2APIC"], rows("7.2", "zen4", True)["x2APIC"]
    assert (old[3:5], new[3:5]) == (["0", "402h"], ["0", "402h"])
    assert (old[6:8], new[6:8]) == (["MSR", "402h"], ["0", "MSR"])
