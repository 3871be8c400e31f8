"""The page on releases: what its widget shows of two releases and of the same run on both."""

import re
from dataclasses import replace
from itertools import pairwise
from xml.etree import ElementTree

import pytest

from kvmmodel.facts.between import differences
from kvmmodel.facts.releases import changes, kernel, series
from kvmmodel.trace import align
from kvmmodel.widgets import releases_rows, releases_way
from kvmmodel.widgets.releases import CPUS, draw, heading, releases_diff, releases_explorer, static
from kvmmodel.widgets.releases_runs import CASES, CREATE, LOAD, RUN, Turned, compare, differ, tell

ICR = "icr_fastpath_any_destination"


def tree(html):
    return ElementTree.fromstring(f"<div>{html}</div>")


def rows(html):
    """The tables of changes: for each, its label and the rows' cells as text."""
    return {
        table.get("aria-label"): [["".join(cell.itertext()) for cell in row] for row in table.findall("tbody/tr")]
        for table in tree(html).iter("table")
        if table.get("class") == "km-changes"
    }


def marks(diff):
    return [row.mark for row in align.steps(diff.pair.left, diff.pair.right)]


def moving(diff):
    return {row.change.id for row in diff.rows if releases_rows.moves(row, diff.both)}


# -- the page's own statements ----------------------------------------------------------------------------------------


def test_at_first_one_of_four_changes_that_are_asked_for_moves_steps():
    diff = releases_diff()
    assert (diff.a.release, diff.b.release) == ("6.12.117", "7.3.4")
    assert sum(mark != "=" for mark in marks(diff)) == 9
    assert len(releases_rows.asked(diff.rows, diff.both)) == 4
    assert moving(diff) == {ICR}


def test_the_change_of_one_point_release_makes_all_the_difference_of_the_tpr():
    """6.12.95, which was recorded, does not compute the CR8 intercept when the TPR is raised; 6.12.114 and later do."""
    diff = releases_diff("6.12.95", "6.12.117", "cr8")
    assert sum(mark != "=" for mark in marks(diff)) == 11
    assert diff.both.turned == {"cr8_recomputed_on_ppr": Turned(11, 11)}


def test_an_msi_from_6_12_to_7_3_differs_in_names_alone():
    diff = releases_diff(scenario="msi-in-guest")
    assert [mark for mark in marks(diff) if mark != "="] == ["±"] * 7
    assert not moving(diff)
    assert "none of these moves a step" in draw(diff)


def test_with_avic_on_an_ipi_is_the_same_from_6_12_to_7_3():
    diff = releases_diff(avic="on")
    assert marks(diff) == ["="] * 9
    assert "9 steps, all the same, by the same functions." in draw(diff)


def test_on_5_10_x2apic_inhibits_avic():
    diff = releases_diff("5.10", "7.3", avic="on")
    assert diff.pair.names == ("5.10.223: AVIC inhibited, `X2APIC`", "7.3.4: x2AVIC")
    assert marks(diff).count("=") < 4


def test_the_default_of_avic_is_said():
    setup = releases_diff(avic="default").pair.setup
    assert "it reads N on 6.12.117, Y on 7.3.4" in setup


# -- runs -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("avic", [False, None, True])
@pytest.mark.parametrize("case", CASES)
def test_every_scenario_can_be_told_on_every_series(case, avic):
    for name in series():
        told = tell(CASES[case], kernel(name), "zen4", avic)
        assert len(told.story.steps) > 3, name
        assert told.asked


@pytest.mark.parametrize("cpu", [cpu for _, cpu in CPUS])
def test_every_processor_runs(cpu):
    for avic in ("off", "default", "on"):
        assert releases_diff("6.1", "6.18", cpu=cpu, avic=avic).pair.left.steps


@pytest.mark.parametrize(("a", "b"), list(pairwise(series())))
def test_from_one_series_to_the_next_what_is_asked_for_is_turned_round(a, b):
    both = compare(CASES["timer-halted"], kernel(a), kernel(b), "zen4", False)
    assert not both.too_many
    asked = {row.change.id for row in differences(kernel(a), kernel(b)) if both.asked(row.change.id) in (CREATE, RUN)}
    assert set(both.turned) == asked


def test_a_change_turned_round_in_the_older_is_what_the_newer_does():
    case, old, new = CASES["timer-in-guest"], kernel("6.12.95"), kernel("6.12.114")
    both = compare(case, old, new, "zen4", False)
    assert differ(both.left.story, both.right.story) == 0
    assert both.turned == {"cr8_recomputed_on_ppr": Turned(0, 0)}


def test_the_order_of_the_two_does_not_matter_for_what_moves():
    there, back = releases_diff("6.12", "7.3"), releases_diff("7.3", "6.12")
    assert there.both.turned[ICR] == back.both.turned[ICR] == Turned(7, 1)


def test_too_many_are_not_turned_round_and_that_is_said():
    diff = releases_diff("5.10", "7.3", "extint", "on")
    assert diff.both.too_many
    assert not diff.both.turned
    assert "Choose two releases that are nearer" in draw(diff)
    assert "turned round alone" not in draw(diff)


def test_a_release_that_the_model_cannot_run_is_said():
    row = next(row for row in differences(kernel("6.12"), kernel("7.3")) if row.change.id == ICR)
    both = replace(releases_diff().both, turned={ICR: None})
    assert "a release that the model cannot run" in releases_rows.draw([row], both)


def test_what_is_asked_last_counts():
    both = releases_diff("6.6", "6.12").both
    assert {both.asked("nrips_normalised"), both.asked("hlt_fastpath")} == {LOAD, None}
    assert both.asked("icr_fastpath_reenters") == RUN


# -- pictures ---------------------------------------------------------------------------------------------------------


def test_every_change_between_has_one_row():
    for pair in (("6.12", "7.3"), ("7.3", "6.12"), ("6.12", "6.18"), ("5.10", "7.3")):
        diff = releases_diff(*pair)
        listed = [code.text for code in tree(draw(diff)).iter("code") if code.get("class") == "km-id"]
        assert sorted(listed) == sorted(row.change.id for row in diff.rows)


def test_a_row_tells_all_that_is_known():
    diff = releases_diff("6.6", "7.3")
    table = rows(draw(diff))["AVIC"]
    cells = next(cells for cells in table if cells[2].startswith("cr8_intercept_follows_avic"))
    known = changes()["cr8_intercept_follows_avic"]
    assert (cells[0], cells[1], cells[3], cells[4]) == ("±", "7.2", "87d0f901a9bd", "read in source")
    assert "Before, one set while AVIC was inhibited stayed." in cells[2]
    assert all(point in cells[2] for _, point in known.stable)
    assert known.source in cells[2]


def test_what_moves_a_step_stands_open_and_says_so():
    shown = draw(releases_diff())
    ours = rows(shown)["Changes that move a step"]
    assert [cells[2].startswith(ICR) for cells in ours] == [True]
    assert "7 steps come out otherwise, and the runs differ in 1 line fewer." in ours[0][2]
    assert [table.get("aria-label") for d in tree(shown).iter("details") for table in d.iter("table")] == [
        label for label in rows(shown) if label != "Changes that move a step"
    ]


def stops_of(html):
    """Each stop of the track: its name, and what a screen reader is told of its changes."""
    return [("".join(li[-1].itertext()), [em.text for em in li.iter("em")]) for li in tree(html).iter("li")]


def test_the_track_counts_what_is_inferred_or_recalled_by_itself():
    rows = differences(kernel("6.1"), kernel("6.12"))
    found = dict(stops_of(releases_way.draw(("6.1.192", "6.6", "6.12.117"), ("6.1.192", "6.12.117"), rows)))
    assert found["6.1.192"] == []
    assert any("new, inferred or recalled" in text for text in found["6.12.117"]), "snp_host is recalled"
    said = [int(text.split()[0]) for texts in found.values() for text in texts]
    assert sum(said) == len(rows)


def test_the_track_has_two_handles_and_the_way_between_them():
    shown = tree(draw(releases_diff("6.6", "6.18")))
    items = shown.findall(".//ol[@class='km-rels']/li")
    assert [(li[-1].text, li.get("class")) for li in items] == [
        ("5.10", None), ("5.15", None), ("6.1", None), ("6.6.9", "in end"), ("6.12", "in way"),
        ("6.18.35", "in way end"), ("7.2", None), ("7.3", None),
    ]  # fmt: skip


def test_a_long_track_stands_upright():
    """6.1's stable releases took so much that their names do not fit beside each other."""
    assert '<ol class="km-rels many"' in draw(releases_diff("6.1.14", "6.1"))
    assert '<ol class="km-rels"' in draw(releases_diff("6.12.93", "6.12"))


def test_what_a_stop_is_is_said():
    assert "A stop is a series" in draw(releases_diff())
    assert "A stop is a stable release" in draw(releases_diff("6.12.95", "6.12"))


def test_two_names_of_one_release():
    shown = draw(releases_diff("7.3", "7.3.4"))
    assert "One release: no change." in shown
    assert "all the same, by the same functions" in shown
    assert rows(shown) == {}


def test_two_releases_between_which_nothing_is_known():
    assert "No change between them is known." in draw(releases_diff("6.12.114", "6.12"))


def test_how_the_two_are_known():
    def badges(*args):
        return [(badge.how, badge.text) for badge in releases_diff(*args).pair.badges]

    assert badges("6.12.95", "7.3") == [("recorded", "6.12.95, 7.3.4"), ("source", "7.3.4")]
    assert badges("6.12.95", "7.3", "ipi-in-guest", "on") == [("source", "7.3.4"), ("inferred", "6.12.95")]
    assert badges("6.12.101", "6.12.103") == [("inferred", "6.12.101, 6.12.103")]


# -- the widget -------------------------------------------------------------------------------------------------------


def test_every_control_has_a_name_for_links_and_a_label():
    widget = releases_explorer()
    assert {"km", "km-stepper"} <= set(widget._dom_classes)
    controls = widget._choices
    assert list(controls) == ["a", "b", "scenario", "avic", "cpu"]
    for key, control in controls.items():
        assert f"km-choice-{key}" in control._dom_classes
        assert control.description
    assert [type(control).__name__ for control in controls.values()].count("Dropdown") == 4


def test_choosing_shows_other_releases_in_any_order():
    widget = releases_explorer()
    widget.choose(a="7.3", b="6.12.95", scenario="timer-halted", avic="on", cpu="zen5")
    assert widget.error is None
    assert "What changed between 7.3.4 and 6.12.95" in widget._head.value
    assert "Zen 5" in widget._head.value
    assert "−" in {cells[0] for table in rows(widget._figure.value).values() for cells in table}


def test_it_is_complete_without_scripts():
    diff = releases_diff()
    section = tree(static(diff)).find("section")
    assert section.get("aria-label") == "What changed between 6.12.117 and 7.3.4"
    bundle = releases_explorer()._repr_mimebundle_()
    assert heading(diff) in bundle["text/html"]
    assert re.search(r'<ol class="km-rels" aria-label="The way from 6.12.117 to 7.3.4">', bundle["text/html"])
