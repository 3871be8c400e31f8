"""The bill as the pages show it: every mode in its place, every count printed, and a word where a mode is missing."""

import re

import pytest

from kvmmodel.widgets.bill import KERNELS, MODES, SOURCES, bill_explorer, bill_sheet, bill_table, draw


@pytest.mark.parametrize("kernel", [kernel for _, kernel in KERNELS])
@pytest.mark.parametrize("source", [source for _, source in SOURCES])
def test_columns_are_off_inhibited_hybrid_on(source, kernel):
    for _, entries in bill_sheet(source, kernel).cases:
        assert tuple(e.mode for e in entries) == MODES
        assert [e.bill is not None for e in entries] == [True, True, kernel != "5.15", kernel != "5.15"]


def test_a_release_without_x2avic_says_what_is_in_the_way():
    missing = bill_sheet("ipi", "5.15").cases[0][1][3]
    assert missing.note == "not on 5.15: `X2APIC` inhibits"


def test_counts_get_smaller_from_left_to_right():
    running = [len(e.bill.exits) for e in bill_sheet("ipi").cases[0][1]]
    assert running == [3, 3, 2, 0]
    assert [len(e.bill.exits) for e in bill_sheet("ipi").cases[1][1]] == [2, 2, 2, 1]


def test_zero_is_printed_and_every_event_named():
    html = draw(bill_sheet("ipi"))
    rows = re.findall(r"<tr><th scope=\"row\">(.*?)</th>(.*?)</tr>", html)
    assert all("<b" in cells for _, cells in rows)
    assert html.count('<table class="km-bill"') == 2
    assert html.count('<table class="km-bp"') == 8
    assert "by hardware" in html


def test_the_widget_redraws_and_has_a_picture_without_scripts():
    widget = bill_explorer()
    before = widget._figure.value
    widget.choose(source="timer", kernel="6.12")
    assert widget.error is None
    assert widget._figure.value != before
    assert "What one interrupt costs" in widget._repr_mimebundle_()["text/html"]
    assert "TSC deadline write" in bill_table("timer")
