"""What holds for each page of the book. test_weight.py has what a cold load of each shows."""

import re
from pathlib import Path

import pytest
from axe import violations
from bookpage import BUILT, LIVE, Site, go_live, open_page
from playwright.sync_api import Locator, Page, expect

PAGES = sorted(str(p.relative_to(BUILT).with_suffix("")) for p in Path(BUILT, "book").rglob("*.html"))
RUNS = [name for name in PAGES if 'id="live-cells"' in Path(BUILT, f"{name}.html").read_text(encoding="utf-8")]

TOO_WIDE = """() => [...document.querySelectorAll(".bd-article table")]
    .filter(table => table.offsetParent && table.scrollWidth > table.parentElement.clientWidth + 1)
    .map(table => table.innerText.slice(0, 60))"""


@pytest.mark.parametrize("name", [*PAGES, "search", "genindex"])
def test_the_page_opens_without_errors_is_accessible_and_fits_a_phone(page: Page, site: Site, name: str) -> None:
    """Errors and requests to other hosts are the fixture's to notice."""
    page.goto(site.page(name))
    page.wait_for_load_state("networkidle")
    assert violations(page, "light") == []
    assert violations(page, "dark") == []
    for width in (390, 320):
        page.set_viewport_size({"width": width, "height": 844})
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert page.evaluate(TOO_WIDE) == [], "a table scrolls sideways in its own box"


# Everything that a page's first widget says, its pictures' words included.
WORDS = """() => {
    const widget = document.querySelector('.live-outputs:not([hidden]) .km-stepper');
    const pictures = [...widget.querySelectorAll('svg[role=img]')].map(svg => svg.getAttribute('aria-label'));
    return [widget.innerText, ...pictures].join();
}"""


def drive(page: Page, widget: Locator) -> None:
    """Another answer to one of its questions, by the keyboard alone."""
    first = widget.locator("[role=radiogroup] [role=radio][aria-checked=true], select").first
    page.keyboard.press("Tab")  # from here on the browser shows where the focus is
    first.focus()
    assert first.evaluate("element => element === document.activeElement"), "the keyboard gets to it"
    outline = first.evaluate("element => { const s = getComputedStyle(element); return s.outlineStyle + s.boxShadow; }")
    assert outline != "nonenone", "the focus is visible"
    page.keyboard.press("ArrowRight" if first.get_attribute("role") == "radio" else "ArrowDown")


@pytest.mark.parametrize("name", RUNS)
def test_the_page_goes_live_and_its_widget_answers_to_the_keyboard(page: Page, site: Site, name: str) -> None:
    open_page(page, site, name)
    go_live(page)
    expect(page.locator(".live-bar [role=status]")).to_have_text(re.compile("^Live: Python"))  # no cell failed
    widget = page.locator(f"{LIVE}.km-stepper").first
    if not widget.count():
        return  # a page of code alone
    before = page.evaluate(WORDS)
    drive(page, widget)
    expect(page.locator(".live-bar")).to_have_attribute("data-state", "live")
    page.wait_for_function(f"before => ({WORDS})() !== before", arg=before)
    expect(widget.locator(":scope > .km-announce")).not_to_be_empty()  # what a screen reader hears of it
    assert violations(page, "light") == []


def test_a_page_without_widgets_loads_no_live_script(page: Page, site: Site) -> None:
    page.goto(site.page("search"))
    assert page.locator("script[src*='/live/']").count() == 0


def test_a_live_page_names_its_assets_by_content(page: Page, site: Site) -> None:
    open_page(page, site)
    assert f"live/{site.live.name}/live.js" in (page.locator("script[src*='/live/']").get_attribute("src") or "")
