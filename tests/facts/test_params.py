"""Module parameters: which release has which, what switches what off, and values that no kernel takes."""

import pytest

from kvmmodel import Host


@pytest.mark.parametrize(
    ("kernel", "asked", "message"),
    [
        ("6.18", {"nrips": 7}, "nrips is a switch: expected Y or N, got 7"),
        ("6.18", {"halt_poll_ns": 10**14}, "halt_poll_ns: expected a number from 0 to 2147483647"),
        ("6.18", {"halt_poll_ns": -1}, "halt_poll_ns: expected a number from 0"),
        ("6.18", {"halt_poll_ns": True}, "halt_poll_ns takes a number, got True"),
        ("6.1", {"vnmi": False}, "kernel 6.1.192 has no parameter 'vnmi' in the model"),
        ("6.12", {"lapic_timer_advance_ns": 0}, "has no parameter 'lapic_timer_advance_ns'"),
        ("6.6", {"lapic_timer_advance": True}, "has no parameter 'lapic_timer_advance'"),
        ("6.12", {"avic": "auto"}, "avic is a switch"),
    ],
)
def test_one_line_says_what_was_expected(kernel, asked, message):
    with pytest.raises(ValueError, match=message):
        Host("zen4", kernel, **asked)


def test_a_switch_is_off_without_its_feature_or_the_parameter_that_it_needs():
    assert Host("zen3", "6.18", vnmi=True).params["vnmi"] is False
    assert Host("zen4", "6.18", vgif=False).params["vnmi"] is False
    assert Host("zen4", "6.18", npt=False, avic=True).params["avic"] is False
    assert Host("zen4", "6.18", vgif=0).params["vgif"] == 0
