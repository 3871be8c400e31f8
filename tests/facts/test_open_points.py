"""Open points: each is a question with choices, a default among them, and a reason."""

import pytest

from kvmmodel import Host
from kvmmodel.facts.open_points import choose, open_points


@pytest.mark.parametrize("point", open_points().values(), ids=lambda p: p.id)
def test_a_default_is_one_of_at_least_two_choices(point):
    assert point.default in point.choices
    assert len(point.choices) > 1
    assert point.question.endswith("?")
    assert point.because
    assert point.source


def test_a_host_carries_its_choices():
    chosen = Host("zen4", "6.12", open_points={"avic_ppr_low_nibble": "dropped"}).create_vm(1).machine.host.open_points
    assert chosen == choose() | {"avic_ppr_low_nibble": "dropped"}
    assert chosen["avic_logical_empty"] == "ID2"


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ({"avic_colour": "red"}, "unknown open point 'avic_colour': expected one of avic_icr_check_order, "),
        ({"avic_ppr_low_nibble": "lost"}, "open point avic_ppr_low_nibble: expected one of kept, dropped, got 'lost'"),
    ],
)
def test_one_line_says_what_was_expected(wanted, message):
    with pytest.raises(ValueError, match=message) as refused:
        Host("zen4", "6.12", open_points=wanted)
    assert "\n" not in str(refused.value)
