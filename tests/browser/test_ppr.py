"""The pages on apic_update_ppr and on PV EOI: AVIC off and on, and the rules that can be broken."""

from bookpage import LIVE, Site, choose, go_live, new_picture, open_page, picture
from playwright.sync_api import Page, expect


def to_the_end(page: Page) -> None:
    page.locator(f"{LIVE}.km-scrub .noUi-handle").press("End")


def test_the_copy_after_exits_is_missed_with_avic_off_only(page: Page, site: Site) -> None:
    open_page(page, site, "book/ppr")
    go_live(page)
    choose(page, "does", "raises CR8, a vector comes")
    page.locator(f"{LIVE}.km-break input").click()
    expect(page.locator(f"{LIVE}.km-broken")).to_contain_text("sync_cr8_to_lapic")
    to_the_end(page)
    expect(page.locator(f"{LIVE}.km-verdict")).to_contain_text("Nothing lost")
    first = picture(page)
    choose(page, "avic", "off")
    new_picture(page, first)
    to_the_end(page)
    expect(page.locator(f"{LIVE}.km-verdict")).to_contain_text("Let in wrongly")


def test_a_bit_set_too_often_makes_a_vector_late_unless_avic_is_on(page: Page, site: Site) -> None:
    open_page(page, site, "book/pv-eoi")
    go_live(page)
    choose(page, "vector", "two at once")
    choose(page, "avic", "inhibited")
    to_the_end(page)
    expect(page.locator(f"{LIVE}.km-verdict")).to_have_count(0)
    page.locator(f"{LIVE}.km-break input").click()
    to_the_end(page)
    expect(page.locator(f"{LIVE}.km-verdict")).to_contain_text("Late")
    choose(page, "avic", "on")
    to_the_end(page)
    expect(page.locator(f"{LIVE}.km-verdict")).to_contain_text("Nothing lost")
