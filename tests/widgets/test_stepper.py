"""The stepper, driven as a reader drives it: buttons, scrubber, choices, the switch, playing."""

from __future__ import annotations

import re
import time
import xml.etree.ElementTree as ET
from dataclasses import replace
from typing import Any

import pytest

from kvmmodel.trace.story import Story
from kvmmodel.widgets.stepper import Choice, Stepper, stepper, styled
from tests.widgets.widget_stories import doorbell, halted, lost

AVIC = Choice("avic", "AVIC", (("off", "off"), ("on", "on"), ("hybrid", "hybrid")), "off")


class Builder:
    """Counts what it was asked for."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, bool]] = []

    def __call__(self, *, broken: bool, **values: Any) -> Story:
        self.asked.append((values["avic"], broken))
        if values["avic"] == "hybrid":
            raise LookupError("no such <mode>\nyet")
        return doorbell() if values["avic"] == "on" else lost() if broken else halted()


@pytest.fixture
def build() -> Builder:
    return Builder()


@pytest.fixture
def widget(build: Builder) -> Stepper:
    return stepper(build, [AVIC], break_it="no `kvm_vcpu_kick`")


def part(widget: Any, css_class: str) -> Any:
    """The one child, at any depth, with this class."""
    found = []

    def look(w: Any) -> None:
        if css_class in w._dom_classes:
            found.append(w)
        for child in getattr(w, "children", ()):
            look(child)

    look(widget)
    assert len(found) == 1, css_class
    return found[0]


def says(widget: Any) -> str:
    match = re.search(r'<div class="km-say".*?<small>(.*?) ·', part(widget, "km-figure").value)
    return match[1] if match else ""


def test_it_begins_at_the_first_step_with_title_and_setup(widget: Stepper) -> None:
    assert says(widget) == "Step 1"
    assert "km-title" in part(widget, "km-head").value
    assert "Zen 4" in part(widget, "km-head").value
    assert part(widget, "km-count").value == "<b>1</b> of 15"
    assert {"km", "km-stepper"} <= set(widget._dom_classes)


def test_forward_back_and_first(widget: Stepper) -> None:
    for _ in range(3):
        part(widget, "km-fwd").click()
    assert says(widget) == "Step 4"
    assert part(widget, "km-scrub").value == 4
    part(widget, "km-back").click()
    assert says(widget) == "Step 3"
    part(widget, "km-first").click()
    part(widget, "km-back").click()
    assert says(widget) == "Step 1"


def test_forward_stops_at_the_end(widget: Stepper) -> None:
    for _ in range(40):
        part(widget, "km-fwd").click()
    assert part(widget, "km-count").value == "<b>15</b> of 15"


def test_the_scrubber_goes_to_a_step(widget: Stepper) -> None:
    part(widget, "km-scrub").value = 8
    assert says(widget) == "Step 8"
    assert widget.index == 7


def test_a_choice_brings_another_run_and_its_title(widget: Stepper) -> None:
    part(widget, "km-choice-avic").value = "on"
    assert "which is in guest mode" in part(widget, "km-head").value
    assert part(widget, "km-scrub").max == 9


@pytest.mark.parametrize(("step", "after"), [(1, 1), (5, 5), (12, 1), (15, 9)])
def test_a_choice_keeps_the_place_where_that_makes_sense(widget: Stepper, step: int, after: int) -> None:
    widget.go(step - 1)
    widget.choose(avic="on")
    assert widget.index + 1 == after
    assert part(widget, "km-scrub").value == after


def test_breaking_a_rule_and_putting_it_back(widget: Stepper) -> None:
    part(widget, "km-break").value = True
    assert "Broken on purpose." in part(widget, "km-figure").value
    part(widget, "km-scrub").value = 7
    assert "Lost wake-up" in part(widget, "km-figure").value
    widget.set_broken(False)
    assert "Broken on purpose." not in part(widget, "km-figure").value


def test_each_run_is_made_once(widget: Stepper, build: Builder) -> None:
    for value in ("on", "off", "on", "off"):
        widget.choose(avic=value)
    assert build.asked == [("off", False), ("on", False)]


def test_a_run_that_cannot_be_made_is_said_in_one_line_and_breaks_nothing(widget: Stepper) -> None:
    part(widget, "km-choice-avic").value = "hybrid"
    shown = ET.fromstring(part(widget, "km-figure").value)
    assert "".join(shown.itertext()) == "This run could not be made. LookupError: no such <mode> yet"
    part(widget, "km-fwd").click()
    part(widget, "km-choice-avic").value = "off"
    assert says(widget) == "Step 1"
    assert widget.error is None


def test_playing_moves_the_figure_and_a_hand_stops_it(widget: Stepper) -> None:
    part(widget, "km-play").click()
    timer = part(widget, "km-timer")
    assert timer.playing
    assert part(widget, "km-play").tooltip == "Pause"
    timer.value = 1  # what the timer in the browser does
    assert says(widget) == "Step 2"
    assert timer.interval >= 1600
    part(widget, "km-back").click()
    assert not timer.playing
    assert part(widget, "km-play").tooltip == "Play"
    assert timer.value == 0


def test_new_bounds_and_value_of_the_scrubber_travel_in_one_message(widget: Stepper) -> None:
    """Apart, the front end would clip its old value to the new bound and answer with it, and the reader would jump."""
    widget.go(8)
    scrub, sent = part(widget, "km-scrub"), []
    scrub._send = lambda message, **_: sent.append(message["state"])
    widget.set_broken(True)
    assert [set(state) for state in sent if "max" in state] == [{"max", "value"}]
    assert scrub.max == 7
    assert scrub.value == 1


def test_its_html_alternative_is_the_first_state_and_complete(widget: Stepper) -> None:
    widget.go(5)
    bundle = widget._repr_mimebundle_()
    assert bundle["application/vnd.jupyter.widget-view+json"]["model_id"] == widget.model_id
    html = bundle["text/html"]
    assert "<style>" in html
    assert "km-title" in html
    assert "Step 1 ·" in html
    assert set(re.findall(r'id="([^"]+)"', html)).isdisjoint(
        re.findall(r'id="([^"]+)"', part(widget, "km-figure").value)
    )


def test_pages_that_link_the_style_sheet_do_not_get_it_again(build: Builder) -> None:
    widget = stepper(build, [AVIC], css=False)
    assert "<style>" not in widget._repr_mimebundle_()["text/html"]
    assert "km-css" not in [c for w in widget.children for c in w._dom_classes]
    assert styled("x").endswith("x")


def test_two_widgets_on_a_page_share_no_ids(build: Builder) -> None:
    one, two = (part(stepper(build, [AVIC]), "km-figure").value for _ in range(2))
    assert set(re.findall(r'id="([^"]+)"', one)).isdisjoint(re.findall(r'id="([^"]+)"', two))


def test_a_wrong_default_is_refused(build: Builder) -> None:
    with pytest.raises(ValueError, match="choice 'avic'"):
        stepper(build, [replace(AVIC, default="maybe")])


def test_a_step_costs_little(widget: Stepper) -> None:
    widget.go(1)
    begin = time.perf_counter()
    for i in range(15):
        widget.go(i)
    assert (time.perf_counter() - begin) / 15 < 0.015
