"""What holds for each page of the book."""

from pathlib import Path

import pytest
from bookpage import BUILT, Site, open_page
from playwright.sync_api import Page

PAGES = sorted(str(p.relative_to(BUILT).with_suffix("")) for p in Path(BUILT, "book").rglob("*.html"))


@pytest.mark.parametrize("name", PAGES)
def test_the_page_opens_without_errors_and_stays_on_the_host(page: Page, site: Site, name: str) -> None:
    page.goto(site.page(name))
    page.wait_for_load_state("networkidle")


@pytest.mark.parametrize("name", PAGES)
def test_the_page_fits_a_phone(page: Page, site: Site, name: str) -> None:
    page.set_viewport_size({"width": 390, "height": 844})
    page.goto(site.page(name))
    page.wait_for_load_state("networkidle")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_a_page_without_widgets_loads_no_live_script(page: Page, site: Site) -> None:
    page.goto(site.page("search"))
    assert page.locator("script[src*='/live/']").count() == 0


def test_a_live_page_names_its_assets_by_content(page: Page, site: Site) -> None:
    open_page(page, site)
    assert f"live/{site.live.name}/live.js" in (page.locator("script[src*='/live/']").get_attribute("src") or "")
