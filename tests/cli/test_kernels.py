"""kvmmodel kernels: the releases, what one has, what changed between two."""

import json

import pytest

from kvmmodel.cli import main
from kvmmodel.facts.releases import changes, series

KEYS = {"id", "since", "stable", "commit", "summary", "source"}


def told(capsys, *args):
    assert main(("kernels", *args)) == 0
    caught = capsys.readouterr()
    assert caught.err == ""
    return caught.out


def made(capsys, *args):
    return json.loads(told(capsys, *args, "--json"))


def ids(rows):
    return {row["id"] for row in rows}


@pytest.mark.parametrize("args", [(), ("6.12",), ("6.12", "7.3"), ("7.3", "6.12")])
def test_the_json_of_a_change(capsys, args):
    """The public contract; a commit that is not known is null, not missing."""
    rows = made(capsys, *args)["changes"]
    assert rows
    for row in rows:
        assert set(row) >= KEYS
        known = changes()[row["id"]]
        assert (row["since"], row["commit"], row["summary"]) == (known.since, known.commit, known.summary)
        assert row["stable"] == dict(known.stable)


def test_all_releases_are_listed(capsys):
    out = told(capsys)
    listed = made(capsys)
    assert [row["name"] for row in listed["series"]] == list(series())
    assert all(f"{row['name']:6}  {row['release']}" in out for row in listed["series"])
    assert all(build in out for build in listed["recorded"])
    assert ids(listed["changes"]) == set(changes())


@pytest.mark.parametrize("name", series())
def test_a_release_has_or_lacks_each_behaviour(capsys, name):
    found = made(capsys, name)
    has, lacks = ids(found["changes"]), ids(found["lacks"])
    assert has | lacks == set(changes())
    assert not has & lacks
    out = told(capsys, name)
    assert all(f"\n{id} (" in out for id in changes())


def test_a_release_tells_new_from_taken_from_old(capsys):
    out = told(capsys, "6.12")
    headings = [line for line in out.splitlines() if line.startswith("== ")]
    starts = [out.index(heading) for heading in headings]
    places = [out.index(f"\n{id} (") for id in ("hlt_fastpath", "cr8_intercept_follows_avic", "x2avic", "avic_auto")]
    assert headings[0].startswith("== New in 6.12: ")
    assert [sum(start < place for start in starts) for place in places] == [1, 2, 3, 4]


def test_two_releases_differ_both_ways(capsys):
    """6.12.117 took fixes that 6.18.35 had not taken yet."""
    there = made(capsys, "6.12", "6.18")
    assert (there["from"], there["to"]) == ("6.12.117", "6.18.35")
    by_side = {side: ids(row for row in there["changes"] if row["in"] == side) for side in ("6.12.117", "6.18.35")}
    assert {"avic_auto", "enable_ipiv"} < by_side["6.18.35"]
    assert "timer_expired_wants_to_run" in by_side["6.12.117"]
    back = made(capsys, "6.18", "6.12")
    assert {(row["id"], row["in"]) for row in back["changes"]} == {(row["id"], row["in"]) for row in there["changes"]}


def test_point_releases_of_one_series_differ(capsys):
    """6.12.95, which was recorded, has not what 6.12.114 took."""
    rows = made(capsys, "6.12.95+deb12-amd64", "6.12.117")["changes"]
    assert {row["id"]: row["stable"]["6.12"] for row in rows}["cr8_recomputed_on_ppr"] == "6.12.114"
    assert made(capsys, "6.12.114", "6.12.117")["changes"] == []
    assert "nothing that is known" in told(capsys, "6.12.114", "6.12.117")


def test_a_release_with_itself(capsys):
    assert made(capsys, "7.3", "7.3")["changes"] == []
    assert told(capsys, "7.3", "7.3.4") == told(capsys, "7.3", "7.3") == "7.3.4 is one release: no difference.\n"


def test_a_block_tells_releases_commit_and_how_it_is_known(capsys):
    block = next(part for part in told(capsys, "6.6", "7.3").split("\n\n") if part.startswith("cr8_intercept_follows"))
    assert " ".join(block.split()).count(
        "Since 7.2 (mainline 7.0, inferred); 6.18 since 6.18.35; 6.12 since 6.12.78; 6.1 since 6.1.167; "
        "commit 87d0f901a9bd."
    )
    assert "\n    How known: read in source: arch/x86/kvm/svm/avic.c" in block
    assert all(len(line) <= 100 for line in block.splitlines())


def test_the_inhibits_that_moved(capsys):
    assert made(capsys, "6.1", "6.6")["inhibits"] == {
        "APIC_ID_MODIFIED": [4, 5],
        "APIC_BASE_MODIFIED": [5, 6],
        "NESTED": [6, 7],
        "IRQWIN": [7, 8],
        "PIT_REINJ": [8, 9],
        "SEV": [9, 10],
        "PHYSICAL_ID_ALIASED": [None, 4],
        "LOGICAL_ID_ALIASED": [None, 11],
    }
    assert "NESTED 6 -> 7" in told(capsys, "6.1", "6.6")
    assert "X2APIC 5 -> none" in told(capsys, "5.15", "6.1")
    assert "by bit: the same." in told(capsys, "7.2", "7.3")


@pytest.mark.parametrize(
    "args", [("4.19",), ("6.12", "six"), ("", "6.12"), ("6.12.0-1-amd64",), ("6.12.x",), ("6.1", "6.6", "6.12")]
)
@pytest.mark.parametrize("flags", [(), ("--json",)])
def test_bad_input_is_one_line_and_status_2(capsys, args, flags):
    try:
        status = main(("kernels", *args, *flags))
    except SystemExit as end:
        status = end.code
    caught = capsys.readouterr()
    assert (status, caught.out) == (2, "")
    assert caught.err.startswith("kvmmodel")
    assert caught.err.count("\n") == 1
