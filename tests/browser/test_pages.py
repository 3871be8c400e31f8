"""What holds for each page of the book. test_weight.py has what a cold load of each shows."""

from pathlib import Path

import pytest
from bookpage import BUILT, Site, open_page
from playwright.sync_api import Page

PAGES = sorted(str(p.relative_to(BUILT).with_suffix("")) for p in Path(BUILT, "book").rglob("*.html"))

TOO_WIDE = """() => [...document.querySelectorAll(".bd-article table")]
    .filter(table => table.offsetParent && table.scrollWidth > table.parentElement.clientWidth + 1)
    .map(table => table.innerText.slice(0, 60))"""


@pytest.mark.parametrize("name", PAGES)
def test_the_page_fits_a_phone(page: Page, site: Site, name: str) -> None:
    page.goto(site.page(name))
    page.wait_for_load_state("networkidle")
    for width in (390, 320):
        page.set_viewport_size({"width": width, "height": 844})
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert page.evaluate(TOO_WIDE) == [], "a table scrolls sideways in its own box"


def test_a_page_without_widgets_loads_no_live_script(page: Page, site: Site) -> None:
    page.goto(site.page("search"))
    assert page.locator("script[src*='/live/']").count() == 0


def test_a_live_page_names_its_assets_by_content(page: Page, site: Site) -> None:
    open_page(page, site)
    assert f"live/{site.live.name}/live.js" in (page.locator("script[src*='/live/']").get_attribute("src") or "")
