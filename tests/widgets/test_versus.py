"""The picture of two runs, and the widget over it."""

from xml.etree import ElementTree

import pytest
import traitlets

from kvmmodel.trace import align
from kvmmodel.widgets.comparison import comparison
from kvmmodel.widgets.parts import Choice
from kvmmodel.widgets.versus import Pair, draw, focus, heading, static, verdict
from tests.widgets.widget_stories import halted, lost

LENGTH = Choice("length", "Length", (("whole", "whole"), ("cut", "cut")))


def pair(length="whole"):
    return Pair("One `IPI`", "both", halted(), halted() if length == "whole" else lost(), ("left", "right"), "A note.")


def tree(html):
    return ElementTree.fromstring(f"<div>{html}</div>")


def marks(html, table):
    rows = tree(html).findall(f".//table[@aria-label='{table}']/tbody/tr")
    return [row.find(".//td[@class='eq']/b").text for row in rows]


def test_two_equal_runs():
    shown = draw(pair())
    assert set(marks(shown, "Steps")) == set(marks(shown, "Stacks")) == {"="}
    assert "15 steps, all the same, by the same functions." in shown
    assert "A note." in shown


def test_what_only_one_side_has_faces_a_gap():
    shown = draw(pair("cut"))
    found = marks(shown, "Steps")
    assert found == ["="] * 7 + ["−"] * 8
    assert shown.count("no such step") == 8
    assert "7 of 15 rows the same, 8 only on “left”." in shown


def test_a_verdict_counts_what_other_functions_did():
    rows = [align.StepRow(None, None, mark) for mark in "==±−+"]
    assert verdict(rows, ("A", "B")) == "2 of 5 rows the same, 1 by other functions, 1 only on “A”, 1 only on “B”."


def test_the_stacks_shown_are_the_first_that_differ_or_else_the_deepest():
    steps = halted().steps
    deep = max(steps, key=lambda step: len(step.stack))
    same = [align.StepRow(step, step, "=") for step in steps]
    assert focus(same).left is deep
    changed = align.StepRow(steps[2], steps[3], "±")
    assert focus([*same, changed]) is changed
    assert focus([align.StepRow(steps[0], None, "−")]) is None


def test_it_is_complete_without_scripts():
    shown = static(pair())
    assert heading(pair()) in shown
    assert tree(shown).find("section").get("aria-label") == "One IPI"


def test_a_difference_is_said_not_only_drawn():
    labels = {b.get("aria-label") for b in tree(draw(pair("cut"))).iter("b")} - {None}
    assert labels == {"same", "only on the left"}


def test_choices_make_other_runs_once():
    made = []

    def build(length):
        made.append(length)
        return pair(length)

    widget = comparison(build, (LENGTH,))
    widget.choose(length="cut")
    assert widget.pair == pair("cut")
    assert widget.values == {"length": "cut"}
    widget.choose(length="whole")
    assert made == ["whole", "cut"]
    with pytest.raises(traitlets.TraitError):
        widget.choose(length="no such")
    with pytest.raises(KeyError):
        widget.choose(width="cut")


def test_a_run_that_fails_is_one_line_and_the_controls_go_on():
    def build(length):
        if length == "cut":
            raise ValueError("no\nsuch run")
        return pair()

    widget = comparison(build, (LENGTH,))
    widget.choose(length="cut")
    assert widget.pair is None
    assert "no such run" in widget.error
    assert "These runs could not be made." in widget.children[-1].value
    widget.choose(length="whole")
    assert widget.error is None
    assert widget.pair == pair()


@pytest.mark.parametrize("css", [True, False])
def test_a_notebook_gets_the_widget_and_its_first_picture(css):
    data = comparison(pair, (LENGTH,), css=css)._repr_mimebundle_()
    assert static(pair()) in data["text/html"]
    assert data["text/html"].startswith("<style>") is css


def test_a_choice_of_many_is_a_list_that_opens():
    menu = Choice("length", "Length", LENGTH.options, "cut", menu=True)
    widget = comparison(pair, (menu,))
    control = widget._choices["length"]
    assert (type(control).__name__, control.value, control.description) == ("Dropdown", "cut", "Length")
    assert "km-choice-length" in control._dom_classes
    control.value = "whole"
    assert widget.pair == pair()
