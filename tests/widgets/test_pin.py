"""A pin as a field bar."""

import re
from dataclasses import replace

import pytest

from kvmmodel.trace.story import PinState
from kvmmodel.widgets import figure, pin
from tests.widgets.widget_stories import halted

STORY = halted()
DOWN = PinState(20, 1 << 56 | 0x8062, ())


def shown(before, after):
    steps = (replace(STORY.steps[0], pin=after), *STORY.steps[1:])
    return pin.draw(replace(STORY, steps=steps, pin=before), 0)


def test_the_fields_of_an_entry():
    assert {name: value for name, _, value in pin.fields(DOWN)} == {
        "line, by source": "down",
        "destination": "1",
        "mask": "0",
        "trigger": "level",
        "remote IRR": "0",
        "vector": "0x62",
    }


@pytest.mark.parametrize(
    ("after", "marked"),
    [
        (DOWN, []),
        (replace(DOWN, entry=DOWN.entry | 1 << 14), ["1"]),
        (replace(DOWN, sources=(0, 1)), ["up: 0, 1"]),
        (replace(DOWN, entry=0x10072), ["0", "1", "edge", "0x72"]),
    ],
)
def test_what_changed_is_marked(after, marked):
    assert re.findall("<mark>(.*?)</mark>", shown(DOWN, after)) == marked


def test_a_story_without_a_pin_has_no_bar():
    assert pin.draw(STORY, 0) == ""
    assert "km-pin" not in figure.render(STORY, 0)
