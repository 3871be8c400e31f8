"""The legends say what every lane, bar and symbol means; one that is added without a word is noticed here."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest

from kvmmodel.widgets import lanes, legend
from kvmmodel.widgets.glyphs import ALIASES, shape, shapes

CONTROLS = {"first", "back", "fwd", "play", "pause", "no", "link"}


@pytest.mark.parametrize("draw", [legend.lanes_legend, legend.glyphs_legend, legend.grid_legend])
def test_a_legend_is_well_formed(draw) -> None:
    ElementTree.fromstring(draw())


def test_every_lane_has_its_word_its_icon_and_its_texture() -> None:
    drawn = legend.lanes_legend()
    assert tuple(legend.WHO) == lanes.LANES
    for lane in lanes.LANES:
        assert f"<b>{lanes.LANE_WORDS[lane]}</b>" in drawn
        assert shape(f"lane-{lane}") in drawn
        assert "km-solid km-guest" in drawn if lane == "guest" else f"url(#legend-{lane}-{lane})" in drawn


def test_the_three_states_of_a_bar_look_as_in_a_figure() -> None:
    drawn = legend.lanes_legend()
    assert "km-blocked km-kvm" in drawn
    assert "km-hollow" in drawn


def test_every_symbol_of_a_step_has_a_meaning() -> None:
    steps = {name for name in shapes() if not name.startswith(("lane-", "how-"))} - CONTROLS
    assert set(legend.KINDS) == steps
    assert set(ALIASES.values()) <= steps


def test_the_grid_has_every_sign() -> None:
    drawn = legend.grid_legend()
    for sign in ("irr", "isr", "tmr", "now"):
        assert f"km-bit {sign}" in drawn
    assert "km-ppr" in drawn


def test_no_pattern_is_defined_twice() -> None:
    ids = [element.get("id") for element in ElementTree.fromstring(legend.lanes_legend()).iter("pattern")]
    assert len(ids) == len(set(ids)) > 0
