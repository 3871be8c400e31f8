"""The page on ExtINT and AVIC: a window that takes AVIC from both vCPUs, and what becomes of it without that."""

from bookpage import LIVE, Site, choose, go_live, new_picture, open_page, picture
from playwright.sync_api import Page, expect


def to_the_end(page: Page) -> None:
    page.locator(f"{LIVE}.km-scrub .noUi-handle").press("End")


def test_a_window_with_avic_left_on_never_opens(page: Page, site: Site) -> None:
    open_page(page, site, "book/extint")
    go_live(page)
    choose(page, "flag", "set")
    to_the_end(page)
    expect(page.locator(f"{LIVE}.km-verdict")).to_contain_text("AVIC stayed on")
    first = picture(page)
    choose(page, "flag", "clear")
    new_picture(page, first)
    to_the_end(page)
    expect(page.locator(f"{LIVE}.km-verdict")).to_contain_text("AVIC changed 4 times")
    page.locator(f"{LIVE}.km-break input").click()
    expect(page.locator(f"{LIVE}.km-broken")).to_contain_text("leaves AVIC on")
    to_the_end(page)
    expect(page.locator(f"{LIVE}.km-verdict")).to_contain_text("Stuck")
    choose(page, "avic", "off")
    to_the_end(page)
    expect(page.locator(f"{LIVE}.km-verdict")).to_contain_text("Nothing changes")
