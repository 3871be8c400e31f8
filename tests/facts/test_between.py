"""What lies between two releases, and where on the way."""

from itertools import product

import pytest

from kvmmodel.facts.between import CHANGED, GONE, NEW, differences, known, now_and_before, stops
from kvmmodel.facts.releases import changes, gained, kernel, series, version


def between(a, b):
    return {row.change.id: (row.mark, row.at) for row in differences(kernel(a), kernel(b))}


def test_a_row_tells_what_is_and_what_was():
    assert now_and_before(changes()["avic_auto"]) == (
        "By default avic is auto: Y on Zen 4 and later if CPUID reports x2AVIC.",
        "Before: N.",
    )
    assert now_and_before(changes()["entry_traced_in_svm"])[1] == "In 5.10: in common code."
    assert now_and_before(changes()["hlt_fastpath"]) == ("HLT is handled in the fast path.", None)


def test_no_word_is_lost_between_is_and_was():
    for change in changes().values():
        now, before = now_and_before(change)
        assert f"{now} {before}".removesuffix(" None") == change.summary
        assert "Before" not in now, change.id


def test_the_releases_to_choose_are_those_of_which_something_is_known():
    assert set(series()) < set(known())
    assert {"5.10.262", "6.1.187", "6.12.95", "6.12.114"} < set(known())
    points = [kernel(name).point for name in known()]
    assert points == sorted(set(points)), "one name for each release, oldest first"


def test_the_way_has_all_series_and_its_ends_are_releases():
    found = stops(kernel("6.12.95"), kernel("7.3"))
    assert found == ("5.10", "5.15", "6.1", "6.6", "6.12.95", "6.18", "7.2", "7.3.4")
    assert stops(kernel("7.3"), kernel("6.12.95")) == found


def test_the_way_within_a_series_has_what_its_stable_releases_took():
    found = stops(kernel("6.12.95"), kernel("6.12"))
    assert found == ("6.12.95", "6.12.101", "6.12.103", "6.12.114", "6.12.117")
    assert stops(kernel("7.3"), kernel("7.3")) == ("7.3.4",)


def test_a_change_stands_where_its_series_does():
    found = between("6.12", "7.3")
    assert found["avic_auto"] == (CHANGED, "6.18")
    assert found["enable_ipiv"] == (NEW, "6.18")
    assert found["avic_tables_lazily"] == (CHANGED, "7.3.4"), "the last stop goes by its release"
    assert "hlt_fastpath" not in found


def test_backwards_everything_goes_where_it_came():
    there, back = between("6.12", "7.3"), between("7.3", "6.12")
    assert {id: at for id, (_, at) in there.items()} == {id: at for id, (_, at) in back.items()}
    assert {mark for mark, _ in back.values()} == {GONE}


def test_what_a_stable_line_took_is_lost_where_a_newer_series_lacks_it():
    """The fixes of 6.12.101 to 6.12.114 are in 6.12.117 and not in 6.18.35."""
    found = between("6.12", "6.18")
    lost = {id: at for id, (mark, at) in found.items() if mark == GONE}
    ours = ("timer_expired_wants_to_run", "inhibited_in_l2_intercepts_msrs", "cr8_recomputed_on_ppr")
    assert lost == dict.fromkeys(ours, "6.18.35")


def test_what_a_newer_series_has_by_a_backport_stands_at_its_release():
    """Mainline has it in 7.2; 6.18.35 took it."""
    assert between("6.6", "6.18")["cr8_intercept_follows_avic"] == (CHANGED, "6.18.35")


def test_within_a_series_each_stands_at_its_point_release():
    assert between("6.12.95", "6.12") == {
        "timer_expired_wants_to_run": (CHANGED, "6.12.101"),
        "inhibited_in_l2_intercepts_msrs": (CHANGED, "6.12.103"),
        "cr8_recomputed_on_ppr": (NEW, "6.12.114"),
    }


@pytest.mark.parametrize(("a", "b"), list(product(series(), known())))
def test_each_difference_stands_on_the_way_in_its_order(a, b):
    first, second = kernel(a), kernel(b)
    rows, way = differences(first, second), stops(first, second)
    low, high = sorted((first.point, second.point))
    assert {row.change.id for row in rows} == {c.id for c in (*gained(first, second), *gained(second, first))}
    places = [way.index(row.at) for row in rows]
    assert places == sorted(places, reverse=second.point < first.point)
    assert all(low < version(row.at) <= high or low < kernel(row.at).point <= high for row in rows)
