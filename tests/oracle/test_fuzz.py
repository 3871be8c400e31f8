"""Random operations on the kernel that runs here and on the model, compared after each: a slice of `make fuzz`."""

from __future__ import annotations

import pytest

from tests.oracle.fuzz import __main__ as program
from tests.oracle.fuzz.case import Case
from tests.oracle.fuzz.engine import check
from tests.oracle.fuzz.found import FOUND
from tests.oracle.fuzz.histogram import Histogram
from tests.oracle.fuzz.model import Model
from tests.oracle.fuzz.search import search
from tests.oracle.test_dev_kvm import REASON

here = pytest.mark.skipif(REASON is not None, reason=str(REASON))
SLICE = 15  # cases, about 1000 operations


@here
@pytest.mark.parametrize("case", FOUND.values(), ids=FOUND)
def test_what_once_differed(case):
    check(case)


@here
@pytest.mark.parametrize("seed", range(101, 107))
def test_a_slice(seed):
    histogram = Histogram()
    assert search(seed, SLICE, histogram) is None
    assert histogram.operations > 20 * SLICE


@here
def test_a_model_that_is_wrong_is_found_and_the_case_is_small(monkeypatch):
    """It takes one IRR bit more than the kernel for what NMIs are."""
    real = Model.do_nmi

    def wrong(self, v):
        self.vm.vcpus[v].lapic.irr |= 1 << 77
        return real(self, v)

    monkeypatch.setattr(Model, "do_nmi", wrong)
    monkeypatch.setattr("tests.oracle.fuzz.search.SHRINKING_S", 1)
    seen = []
    told = search(1, 100, Histogram(), seen.append)
    assert len(seen) == 1
    assert "register 0x220: kernel 0x0, model 0x2000" in told
    operations = [line.strip() for line in told.splitlines() if "  # " in line]
    assert [line.startswith("('nmi', ") for line in operations] == [True]


def test_where_nothing_can_be_compared_it_says_why(monkeypatch, capsys):
    monkeypatch.setattr(program, "why_not", lambda: "/dev/kvm cannot be opened: No such file or directory")
    monkeypatch.setattr("sys.argv", ["fuzz"])
    assert program.main() == 2
    assert capsys.readouterr().err.splitlines() == ["fuzz: /dev/kvm cannot be opened: No such file or directory"]


def test_a_class_below_one_in_a_hundred_is_rare():
    histogram = Histogram()
    for _ in range(99):
        histogram.add(("msi", 0xFEE00000, 0x41), 1)
    histogram.add(("msi", 0xFEE00000, 0x41), -1)
    assert histogram.rare() == []
    histogram.add(("guest", 0, "open"), (0, (2,)))
    assert histogram.rare() == ["KVM_SIGNAL_MSI: -1", "guest: an NMI comes"]


def test_a_case_prints_as_what_makes_it():
    case = Case((("msi", 0xFEE00000, 0x41), ("nmi", 1)), vcpus=2, split=True, watch=False)
    assert eval(str(case), {"Case": Case}) == case
