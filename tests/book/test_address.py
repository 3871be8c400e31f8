"""All absolute addresses come from BOOK_URL."""

import pytest

from kvmbook import site


def test_without_it_the_book_is_for_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for nothing in ("", "  "):
        monkeypatch.setenv("BOOK_URL", nothing)
        assert site.address() == "http://127.0.0.1:8000/"
        assert not site.is_published()
        assert site.path() == "/"


@pytest.mark.parametrize("given", ["https://example.org/some/where", "https://example.org/some/where/"])
def test_a_slash_at_the_end_makes_no_difference(monkeypatch: pytest.MonkeyPatch, given: str) -> None:
    monkeypatch.setenv("BOOK_URL", given)
    assert site.is_published()
    assert site.page("book/ppr") == "https://example.org/some/where/book/ppr.html"
    assert site.file("_static/x.whl") == "https://example.org/some/where/_static/x.whl"
    assert site.path() == "/some/where/"


@pytest.mark.parametrize("given", ["example.org", "/some/where", "ftp://example.org/", "https://example.org/?x=1"])
def test_what_is_no_address_is_refused(monkeypatch: pytest.MonkeyPatch, given: str) -> None:
    monkeypatch.setenv("BOOK_URL", given)
    with pytest.raises(ValueError, match="BOOK_URL"):
        site.address()


def test_the_way_to_a_neighbour() -> None:
    assert site.neighbour("book/ppr", "book/ipi") == "ipi"
    assert site.neighbour("book/ppr", "book/deep/ipi") == "deep/ipi"
    assert site.neighbour("index", "book/ipi") == "book/ipi"
