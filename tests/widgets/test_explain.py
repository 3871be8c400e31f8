"""The explainer: it answers at once, goes on in slices, can be stopped, and gives every bad text one line."""

import asyncio
import xml.etree.ElementTree as ET

import pytest

from kvmmodel.widgets.explain import EXAMPLE, LONGEST, WANTED, explainer
from kvmmodel.widgets.explained import verdict

NEVER = "@[\n    kvm_set_cr8+1\n    apic_set_eoi+1\n    svm_vcpu_run+1\n]: 7\n"


@pytest.fixture(autouse=True)
def few(monkeypatch):
    """Two short scenarios on two hosts, and nothing kept from other tests."""
    from kvmmodel.explain.runs import runs_on

    runs_on.cache_clear()
    monkeypatch.setattr("kvmmodel.explain.runs.in_order", lambda: ("pv-eoi", "ipi-in-guest"))
    monkeypatch.setattr("kvmmodel.explain.runs.AVIC_OFF", (("zen4", False),))
    monkeypatch.setattr("kvmmodel.explain.runs.AVIC_ON", (("zen4", True),))
    monkeypatch.setattr("kvmmodel.widgets.explain.SLICE", 0)  # one run a slice
    yield
    runs_on.cache_clear()


class Page:
    """An event loop by hand: ``turn`` is the page's turn."""

    def __init__(self):
        self.due = []

    def later(self, step):
        self.due.append(step)
        return True

    def turn(self):
        steps, self.due = self.due, []
        for step in steps:
            step()
        return bool(steps)


def widget_on(page, text=EXAMPLE, kernel=""):
    from kvmmodel.widgets.explain import Explainer

    return Explainer(text, kernel, later=page.later)


def said(widget):
    return "".join(ET.fromstring(widget._progress.value).itertext())


def test_without_a_loop_the_first_answer_is_whole_and_is_the_static_picture():
    widget = explainer()
    assert not widget.running
    assert widget.shown.report.verdicts() == {"matched": 2, "known": 0, "unknown": 0}
    picture = widget._repr_mimebundle_()["text/html"]
    assert "The model takes both paths, too." in picture
    assert "kvm_lapic_sync_from_vapic+259" in picture


def test_what_it_means_is_told_before_the_first_run_and_the_rest_in_slices():
    page = Page()
    widget = widget_on(page, kernel="6.12")
    assert widget.running
    assert "PV EOI was used" in widget._figure.value
    assert verdict(widget.shown)[1] == "No run so far takes one."
    assert said(widget) == "0 runs of the model, 4 more at most, for 2 of 2 paths. Next: kernel 6.12, scenario pv-eoi."
    assert not widget._stop.disabled
    page.turn()
    assert not widget.running
    assert verdict(widget.shown)[1] == "The model takes both paths, too."
    assert said(widget) == "1 run of the model."
    assert widget._stop.disabled
    assert not page.turn(), "nothing is left to do"


def test_stop_keeps_what_was_found_and_the_button_goes_on():
    page = Page()
    widget = widget_on(page, NEVER + EXAMPLE, "6.12")
    page.turn()
    assert verdict(widget.shown)[1] == "So far the model takes 2 of 3 paths."
    widget.stop()
    page.turn()
    assert not widget.running
    assert verdict(widget.shown)[1] == "Stopped: the runs that were done took 2 of 3 paths."
    assert said(widget) == "1 run of the model; stopped, 3 more could follow."
    assert widget._go.description == "Go on"
    widget._go.click()
    while page.turn():
        pass
    assert verdict(widget.shown)[1] == "The model takes 2 of 3 paths."
    assert said(widget) == "4 runs of the model."
    assert "no scenario leads through them in this order" in widget._figure.value


def test_another_text_ends_the_runs_for_the_one_before():
    page = Page()
    widget = widget_on(page, NEVER, "6.12")
    widget._text.value = EXAMPLE
    while page.turn():
        pass
    assert widget.shown.report.verdicts()["matched"] == 2
    assert said(widget) == "1 run of the model."


def test_a_change_of_text_or_kernel_is_enough():
    """A link sets choices, then the text; nobody presses the button."""
    widget = explainer()
    assert widget._text.continuous_update is False
    assert {"km-text-trace"} <= set(widget._text._dom_classes)
    assert {"km-choice-kernel"} <= set(widget._kernel._dom_classes)
    assert {"km", "km-stepper"} <= set(widget._dom_classes)
    widget._kernel.value = "6.1"
    assert (widget.shown.told, widget.shown.report.kernels) == ("reader", ("6.1",))
    widget._text.value = NEVER
    assert widget.shown.report.verdicts() == {"matched": 0, "known": 1, "unknown": 0}


def test_the_kernel_that_the_text_names_counts_unless_the_reader_chose_one():
    widget = explainer("Linux host 6.6.9 #1 SMP\n" + EXAMPLE)
    assert (widget.shown.told, widget.shown.report.kernels) == ("text", ("6.6.9",))
    assert "Kernel 6.6.9, as the text says" in widget._head.value
    widget.choose(kernel="6.12")
    assert (widget.shown.told, widget.shown.report.kernels) == ("reader", ("6.12",))
    widget.choose(text="Linux host 6.8.4 #1 SMP\n" + EXAMPLE, kernel="")
    assert "Kernel 6.8.4, as the text says; not modelled, compared with 5.10 to 7.3" in widget._head.value


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", f"The text is empty. {WANTED}"),
        (" \n\t\n", f"The text is empty. {WANTED}"),
        ("Hello, what is apic_update_ppr?", f"There is no stack and no function graph in it. {WANTED}"),
        ("\x7fELF\x00\x00", f"This is not a text. {WANTED}"),
        ("\ufffd" * 40, f"This is not a text. {WANTED}"),
        ("kvm_vcpu_kick+1\n" * (1 << 16), "1,048,576 characters are too many for a page; 200,000 are read. Paste the "
         "part with the stacks, or give the file to `kvmmodel explain` in a terminal."),
    ],
)  # fmt: skip
def test_a_text_that_cannot_be_explained_gets_one_line_that_says_what_was_expected(text, line):
    widget = explainer()
    widget._text.value = text
    widget.go_on()
    assert widget.error == line
    assert (widget.shown, widget.running) == (None, False)
    (shown,) = ET.fromstring(widget._figure.value)
    assert shown.get("class") == "km-found", "the page reads it out"
    assert widget._progress.value == ""
    widget._text.value = EXAMPLE
    assert widget.error is None


def test_the_longest_text_that_is_read_is_answered():
    widget = explainer("prose\n" * ((LONGEST - len(EXAMPLE)) // 6) + EXAMPLE)
    assert widget.error is None
    assert len(widget.shown.report.stacks) == 2


def test_a_run_that_fails_is_one_line(monkeypatch):
    page = Page()
    widget = widget_on(page, kernel="6.12")
    monkeypatch.setattr("kvmmodel.explain.runs.Run.go", lambda _: 1 / 0)
    page.turn()
    assert widget.error == "These runs could not be made. ZeroDivisionError: division by zero"
    assert not page.turn()


def test_in_a_notebook_the_event_loop_has_its_turn_between_runs():
    async def reader():
        widget = explainer()
        widget._text.value = NEVER
        turns = 0
        while widget.running and turns < 1000:
            await asyncio.sleep(0.001)
            turns += 1
        return widget, turns

    widget, turns = asyncio.run(reader())
    assert turns > 3
    assert verdict(widget.shown)[1] == "The model takes it in no run."
