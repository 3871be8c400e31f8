"""Releases, and the behaviours that they have: facts/changes."""

import re

import pytest

from kvmmodel.facts import files, load, releases
from kvmmodel.facts.releases import at, changes, kernel, series, version

HOW = {"recorded", "source", "mail", "manual", "inferred", "recalled"}
HASH = re.compile(r"[0-9a-f]{12,40}")


def test_every_row_is_complete():
    for change in changes().values():
        assert change.since in series()[1:], f"{change.id}: 5.10 would be always"
        assert change.how in HOW, change.id
        assert change.source, change.id
        assert change.summary.endswith("."), change.id
        assert re.fullmatch(r"[a-z0-9_]+", change.id), change.id


def test_stable_releases_are_points_of_older_series():
    for change in changes().values():
        for line, point in change.stable:
            assert line in series(), change.id
            assert version(line) < version(change.since), change.id
            assert version(point)[:2] == version(line), change.id
            assert len(version(point)) == 3, change.id


def test_the_mainline_release_lies_between_the_series_read():
    """After the last series without the behaviour, and not after the first with it."""
    read = [version(line) for line in series()]
    for change in changes().values():
        if change.mainline is None:
            continue
        text, how = change.mainline
        assert how in HOW, change.id
        last = max(line for line in read if line < version(change.since))
        for release in text.split(" or "):
            assert last < version(release) <= version(change.since), change.id


def test_a_commit_is_one_hash_or_several():
    for change in changes().values():
        assert change.commit is None or all(HASH.fullmatch(one) for one in change.commit.split(", ")), change.id


def test_a_file_reads_as_history():
    """Its rows are in the order of the series that brought them."""
    for file in files("changes"):
        order = [version(row["since"]) for row in load(file)["change"]]
        assert order == sorted(order), file


def test_an_id_with_two_rows_is_refused(monkeypatch):
    row = {"id": "x", "since": "6.1", "how": "source", "source": "s", "summary": "S."}
    monkeypatch.setattr(releases, "files", lambda _: ("changes/a", "changes/b"))
    monkeypatch.setattr(releases, "load", lambda _: {"change": [row]})
    changes.cache_clear()
    try:
        with pytest.raises(ValueError, match="facts/changes has two rows 'x', in a and changes/b"):
            changes()
    finally:
        changes.cache_clear()


def test_a_point_release_has_what_stable_brought_it():
    """The CR8 intercept follows AVIC from 6.12.78 on; mainline has it after 6.18."""
    id = "cr8_intercept_follows_avic"
    assert not kernel("6.12.77").has(id)
    assert kernel("6.12.78").has(id)
    assert kernel("6.12").has(id)
    assert not kernel("6.6").has(id)
    assert not kernel("6.18.1").has(id)
    assert kernel("7.2").has(id)


def test_a_behaviour_that_the_facts_have_not_is_an_error():
    with pytest.raises(KeyError, match="no behaviour 'gravity' in facts/changes"):
        kernel("6.12").has("gravity")


@pytest.mark.parametrize(
    ("series", "value"), [("5.10", None), ("5.15", 1), ("6.1", 1), ("6.6", 2), ("6.12", 2), ("6.18", None)]
)
def test_a_value_holds_from_its_series_on(series, value):
    assert at({"5.15": 1, "6.6": 2}, kernel(series), until="6.18") == value
