"""How much a page loads, cold and going live; that nothing is loaded twice; that the book says the truth about it."""

import gzip
import re
import tempfile
from collections import Counter
from functools import cache
from pathlib import Path

import pytest
import serve
from bookpage import BUILT, Site, go_live, launch_options, open_page, serving
from playwright.sync_api import Browser, Page, Response

PAGES = sorted(str(p.relative_to(BUILT).with_suffix("")) for p in Path(BUILT, "book").rglob("*.html"))
LIMIT = 1_500_000  # bytes, each body compressed by gzip -9
SAID = re.compile(r"(\d+) MB \((\d+) MB uncompressed\)")


@cache
def packed(body: bytes) -> int:
    return len(gzip.compress(body, 9))


@pytest.mark.parametrize("name", PAGES)
def test_a_cold_load_is_light_without_errors_on_this_host_and_nothing_twice(page: Page, site: Site, name: str) -> None:
    answers: list[Response] = []
    page.context.on("response", lambda answer: answers.append(answer))  # noqa: PLW0108 (it wants a function of its own)
    page.goto(site.page(name))
    page.wait_for_load_state("networkidle")
    assert [answer.url for answer in answers if answer.status != 200] == []
    assert [url for url, count in Counter(answer.url for answer in answers).items() if count > 1] == []
    bodies = {answer.url.removeprefix(site.address): packed(answer.body()) for answer in answers}
    heaviest = sorted(bodies.items(), key=lambda item: -item[1])[:5]
    assert sum(bodies.values()) <= LIMIT, f"too heavy; the largest are {heaviest}"


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The paths that reach the server: what a browser has in its cache does not."""
    paths: list[str] = []
    plain = serve.Handler.do_GET

    def do_get(handler: serve.Handler) -> None:
        paths.append(handler.path.partition("?")[0])
        plain(handler)

    monkeypatch.setattr(serve.Handler, "do_GET", do_get)
    return paths


def test_going_live_loads_what_the_book_says_once_and_nothing_of_it_on_the_next_page(
    browser: Browser, asked: list[str]
) -> None:
    """In a profile of its own, as a reader has one: a private window keeps no big file."""
    with serving(BUILT) as site, tempfile.TemporaryDirectory() as profile:
        context = browser.browser_type.launch_persistent_context(profile, **launch_options())
        page = context.new_page()
        open_page(page, site, "book/ppr")
        said = SAID.search(page.get_by_role("status").first.inner_text())
        page.wait_for_load_state("networkidle")
        asked.clear()
        go_live(page)
        assert [path for path, count in Counter(asked).items() if count > 1] == []
        bodies = [(BUILT / path.lstrip("/")).read_bytes() for path in asked]
        raw, small = sum(map(len, bodies)), sum(min(len(body), packed(body)) for body in bodies)
        assert said, "the bar says how much is loaded"
        assert said.groups() == (f"{small / 1e6:.0f}", f"{raw / 1e6:.0f}")

        asked.clear()
        open_page(page, site, "book/inject")
        go_live(page)
        assert [path for path in asked if "/_static/live/" in path] == []
        context.close()


def test_the_first_page_says_the_same(page: Page, site: Site) -> None:
    open_page(page, site, "book/intro")
    bar = SAID.search(page.get_by_role("status").first.inner_text())
    text = SAID.search(page.get_by_text("Python starts in your browser").inner_text())
    assert bar
    assert text
    assert bar.groups() == text.groups()
