"""Without JavaScript a page has its text, its widgets' first pictures, its evidence, its notebook; and fits a phone."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from bookpage import BUILT, Site, recorded
from playwright.sync_api import Browser, Page

PAGES = sorted(str(p.relative_to(BUILT).with_suffix("")) for p in Path(BUILT, "book").rglob("*.html"))

# What of a page is seen: words, widgets, those with a picture, outputs of cells, those with something in view.
SEEN = """() => {
    const seen = e => e.getClientRects().length > 0 && getComputedStyle(e).visibility === 'visible';
    const full = e => seen(e) && e.innerText.trim().length > 0;
    const pictures = [...document.querySelectorAll('noscript.live-noscript')];
    const outputs = [...document.querySelectorAll('.cell_output')];
    return {
        words: document.querySelector('article').innerText.split(/\\s+/).length,
        widgets: document.querySelectorAll('script[type="application/vnd.jupyter.widget-view+json"]').length,
        pictures: pictures.filter(p => [...p.querySelectorAll('svg[role=img], table, ol, ul')].some(seen)).length,
        outputs: outputs.length,
        shown: outputs.filter(full).length,
        evidence: [...document.querySelectorAll('.km-evidence')].filter(full).length,
        dead: [...document.querySelectorAll('main button, main input')].filter(seen).map(e => e.outerHTML.slice(0, 80)),
        height: document.querySelector('article').offsetHeight,
    };
}"""


@pytest.fixture
def plain(browser: Browser, site: Site) -> Iterator[Page]:
    context = browser.new_context(java_script_enabled=False, viewport={"width": 1280, "height": 900})
    page = context.new_page()
    record = recorded(page)
    yield page
    assert record.elsewhere(site.address) == []
    context.close()


@pytest.mark.parametrize("name", PAGES)
def test_the_page_can_be_read_without_javascript(plain: Page, site: Site, name: str) -> None:
    plain.goto(site.page(name))
    seen = plain.evaluate(SEEN)
    assert seen["words"] > 200
    assert seen["pictures"] == seen["widgets"]
    assert seen["shown"] == seen["outputs"]
    assert seen["evidence"] == len(re.findall(r"^evidence\(", source_of(site, name), re.M))
    assert seen["dead"] == [], "a button that does nothing"
    href = plain.get_by_role("link", name="Download as a notebook").get_attribute("href") or ""
    assert json.loads((site.folder / name).with_name(href).read_text())["nbformat"] == 4
    for width in (390, 320):
        plain.set_viewport_size({"width": width, "height": 844})
        assert plain.evaluate("document.documentElement.scrollWidth") <= width


def source_of(site: Site, name: str) -> str:
    return (site.folder / "_sources" / f"{name}.md").read_text(encoding="utf8")


def test_colours_are_the_theme_s_without_javascript(plain: Page, site: Site) -> None:
    """The theme's colours once hung on an attribute that only its script sets: links were black."""
    plain.goto(site.page("book/ppr"))
    colours = "e => [getComputedStyle(e).color, getComputedStyle(document.body).color]"
    link, text = plain.get_by_role("link", name="Download as a notebook").evaluate(colours)
    assert link != text


def test_all_pages_are_one_link_away_without_javascript(plain: Page, site: Site) -> None:
    plain.goto(site.page("book/ppr"))
    plain.get_by_role("link", name="All pages").click()
    plain.get_by_role("link", name="How is an interrupt injected at all?").last.click()
    assert plain.url == site.page("book/inject")
