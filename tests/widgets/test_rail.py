"""The narrow drawing: the headings over its lanes. They were missing over the host's lane and over the timer's."""

from itertools import pairwise

import pytest

from kvmmodel.widgets import rail
from kvmmodel.widgets.inject import inject_story
from kvmmodel.widgets.svg import width


@pytest.mark.parametrize(
    ("source", "headings"),
    [("ipi", ["vCPU 0", "host", "vCPU 1"]), ("timer", ["host", "vCPU 0"]), ("msi", ["VMM", "host", "vCPU 0"])],
)
def test_every_group_has_a_heading_and_none_runs_into_the_next(source, headings):
    story = inject_story(source, "halted")
    placed = rail.captions(story)
    assert [text for text, _, _ in placed] == headings
    reach = []
    for text, x, anchor in placed:
        long = width(text, size=11.5)
        left = x - {"start": 0, "middle": long / 2, "end": long}[anchor]
        reach.append((left, left + long))
    assert reach[0][0] >= 0
    assert reach[-1][1] <= rail.rail_width(story)
    for (_, end), (start, _) in pairwise(reach):
        assert start - end >= rail.GAP
