"""The names that the model gives its functions are kernel functions that the facts know, in every release."""

import pytest

from kvmmodel.facts.functions import FUNCTIONS as KNOWN
from kvmmodel.facts.releases import kernel, series
from kvmmodel.kvm import ioctl, vcpu_ioctl  # noqa: F401 -- registers everything
from kvmmodel.kvm.names import FUNCTIONS, name_in


@pytest.mark.parametrize("release", series())
def test_every_name_is_in_the_facts_with_the_same_module(release):
    names = {(name_in(function, kernel(release)), function.module) for function in FUNCTIONS.values()}
    wrong = [(name, module) for name, module in names if name and (name not in KNOWN or KNOWN[name].module != module)]
    assert wrong == []
