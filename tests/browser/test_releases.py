"""The page on releases: two of them and a run are chosen, by menus that a keyboard and a screen reader can use."""

import re

from bookpage import LIVE, STATIC, Site, choose, go_live, open_page
from playwright.sync_api import Locator, Page, expect

PAGE = "book/releases"


def menu(page: Page, label: str) -> Locator:
    """By its label: what a screen reader says of it."""
    return page.locator(f"{LIVE}.km-comparison").get_by_label(label, exact=True)


def part(page: Page, css: str, scope: str = LIVE) -> Locator:
    return page.locator(f"{scope}.km-comparison {css}")


def test_two_releases_and_a_run_are_chosen(page: Page, site: Site) -> None:
    open_page(page, site, PAGE)
    expect(part(page, ".km-title", STATIC)).to_have_text("What changed between 6.12.117 and 7.3.4")
    expect(part(page, ".km-between", STATIC)).to_contain_text("1 of these moves a step")
    go_live(page)
    menu(page, "From").select_option(label="6.12.95")
    expect(part(page, ".km-title")).to_have_text("What changed between 6.12.95 and 7.3.4")
    menu(page, "To").select_option(label="6.12")
    expect(part(page, ".km-between")).to_contain_text("3 changes lie between")
    expect(part(page, ".km-rels .end > b")).to_have_text(["6.12.95", "6.12.117"])
    menu(page, "Run").select_option(label="TPR raised while a vector waits")
    expect(part(page, ".km-changes").first).to_have_attribute("aria-label", "Changes that move a step")
    expect(part(page, ".km-turned")).to_contain_text("the runs differ in 11 lines fewer")
    choose(page, "avic", "avic=1")
    expect(part(page, ".km-sub")).to_contain_text("it reads Y on 6.12.95, Y on 6.12.117")
    menu(page, "Processor").focus()
    page.keyboard.press("ArrowDown")
    expect(part(page, ".km-sub")).to_contain_text(re.compile("Zen 4 of a laptop.*reads N"))
    expect(page).to_have_url(re.compile(r"#w=1&a=6\.12\.95&b=6\.12&scenario=TPR.*&cpu=Zen"))


def test_a_phone_has_no_sideways_scrolling_and_large_menus(page: Page, site: Site) -> None:
    page.set_viewport_size({"width": 360, "height": 780})
    open_page(page, site, PAGE)
    page.locator(f"{STATIC}.km-comparison .km-more").first.locator("summary").click()
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    for box in (menu.bounding_box() for menu in page.locator(f"{STATIC}.km-comparison select").all()):
        assert box is not None
        assert box["height"] >= 44
        assert box["width"] > 300
