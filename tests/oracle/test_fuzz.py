"""Random operations on the kernel that runs here and on the model, compared after each: a slice of `make fuzz`."""

from __future__ import annotations

import pytest

from tests.oracle.fuzz.engine import check
from tests.oracle.fuzz.found import FOUND
from tests.oracle.fuzz.histogram import Histogram
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
