"""Drives the built book in Chromium. Where there is none the tests are skipped, except in CI, where they fail."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from bookpage import BUILT, CHROMIUM, Site, launch, recorded, serving
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if CHROMIUM or os.environ.get("CI"):
        return
    skip = pytest.mark.skip(reason="no Chromium on this machine (Debian: apt-get install chromium)")
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(skip)


@pytest.fixture(scope="session")
def site() -> Iterator[Site]:
    assert (BUILT / "index.html").exists(), "the book is not built: make book"
    with serving(BUILT) as served:
        yield served


@pytest.fixture
def broken_site(tmp_path: Path) -> Iterator[Site]:
    """A copy to take files away from, below a folder, as on a host with several sites."""
    folder = tmp_path / "some" / "where"
    shutil.copytree(BUILT, folder)
    with serving(tmp_path) as served:
        yield Site(folder, served.address + "/some/where")


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        chromium = launch(playwright)
        yield chromium
        chromium.close()


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    own = browser.new_context(viewport={"width": 1280, "height": 900})
    own.set_default_timeout(10_000)
    yield own
    own.close()


@pytest.fixture
def page(context: BrowserContext, site: Site) -> Iterator[Page]:
    """A page that must stay on its host and without errors."""
    own = context.new_page()
    record = recorded(own)
    yield own
    assert record.elsewhere(site.address) == []
    assert record.errors == []
