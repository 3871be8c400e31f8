"""The tables of the page on releases agree with the facts, and its prose with the tables."""

from xml.etree import ElementTree

from kvmmodel.facts import load
from kvmmodel.facts.releases import changes, kernel, series
from kvmmodel.widgets.releases_tables import (
    backports,
    between,
    how_changes_are_known,
    how_releases_are_known,
    milestones,
    older_has,
    recordings,
)


def cells(html):
    """The rows of a table: the text of each cell."""
    found = ElementTree.fromstring(html)
    return [["".join(cell.itertext()) for cell in row] for row in found.iter("tr")]


def test_the_milestones_count_every_change_once():
    head, *areas, total = cells(milestones())
    assert head[1:] == list(series()[1:])
    counts = [[int(number) for number in row[1:]] for row in areas]
    assert [sum(column) for column in zip(*counts, strict=True)] == [int(number) for number in total[1:]]
    assert sum(map(sum, counts)) == len(changes())


def test_6_1_brought_most():
    """The page's first sentence."""
    head, *_, total = cells(milestones())
    assert head[max(range(1, len(head)), key=lambda i: int(total[i]))] == "6.1"


def test_each_series_with_what_was_read_and_recorded_of_it():
    rows = {row[0]: row[1:] for row in cells(how_releases_are_known())[1:]}
    assert {name: row[0] for name, row in rows.items()} == load("kernels")["series"]
    assert rows["6.1"][1] == "6.1.176, 6.1.187, 6.1.192"
    assert rows["6.12"] == ["6.12.117", "6.12.95, 6.12.107", "11, 6.12.26 to 6.12.114"]
    assert rows["6.18"][2] == "8, 6.18.35 to 6.18.44"
    assert rows["7.2"][2] == "none"


def test_every_recorded_build_is_told():
    assert {tuple(row) for row in cells(recordings())[1:]} == set(load("kernels")["recorded"].items())


def test_how_known_adds_up():
    rows = {row[0]: int(row[1]) for row in cells(how_changes_are_known())[1:]}
    assert rows.pop("with their commit") == sum(change.commit is not None for change in changes().values())
    assert rows.pop("all") == sum(rows.values()) == len(changes())


def test_backports_are_in_the_order_of_the_point_releases():
    rows = cells(backports("6.12"))[1:]
    assert [kernel(row[0]).point for row in rows] == sorted(kernel(row[0]).point for row in rows)
    assert (rows[-1][0], rows[-1][2]) == ("6.12.114", "7.2")
    assert rows[-1][1].startswith("cr8_recomputed_on_ppr")


def test_what_is_lost_from_one_series_to_the_next():
    """The page: 6.18.35 lacks three that 6.12.117 has; the early 6.6.9 lacks more; else nothing is lost."""
    rows = {row[0]: int(row[1]) for row in cells(older_has())[1:]}
    assert rows.pop("6.12.117 → 6.18.35") == 3
    assert rows.pop("6.1.192 → 6.6.9") > 3
    assert set(rows.values()) == {0}


def test_between_two_point_releases():
    listed = [row[2] for row in cells(between("6.12.95", "6.12.117"))[1:]]
    assert [text.split("_")[0] for text in listed] == ["timer", "inhibited", "cr8"]
