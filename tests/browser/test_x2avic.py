"""The page on x2APIC and x2AVIC: its explorer counts on the way, and its bill has a column or a block for each mode."""

from bookpage import LIVE, Site, choose, go_live, new_picture, open_page, picture
from playwright.sync_api import Page, expect

PAGE = "book/x2avic"


def to_the_end(page: Page) -> None:
    page.locator(f"{LIVE}.km-scrub .noUi-handle").first.press("End")


def count(page: Page, name: str) -> str:
    row = page.locator(f"{LIVE}.km-tally > div", has_text=name)
    return row.locator("dd").inner_text()


def test_the_bill_so_far_follows_the_choices(page: Page, site: Site) -> None:
    open_page(page, site, PAGE)
    go_live(page)
    to_the_end(page)
    expect(page.locator(f"{LIVE}.km-verdict").first).to_contain_text("No exit")
    assert (count(page, "exits"), count(page, "doorbells")) == ("0", "1")
    first = picture(page)
    choose(page, "cpu", "Zen 2, no x2AVIC")
    new_picture(page, first)
    to_the_end(page)
    expect(page.locator(f"{LIVE}.km-tally > div", has_text="exits").locator("dd")).to_have_text("2")
    expect(page.locator(f"{LIVE}.km-sub").first).to_contain_text("hybrid AVIC")


def test_open_msrs_let_the_guest_out(page: Page, site: Site) -> None:
    open_page(page, site, PAGE)
    go_live(page)
    page.locator(f"{LIVE}.km-break input").click()
    expect(page.locator(f"{LIVE}.km-broken")).to_contain_text("avic_deactivate_vmcb")
    to_the_end(page)
    expect(page.locator(f"{LIVE}.km-verdict.broken")).to_contain_text("Out of the VM")


def test_the_bill_is_one_table_or_a_block_for_each_mode(page: Page, site: Site) -> None:
    page.goto(site.page(PAGE))
    wide, narrow = page.locator("table.km-bill:visible"), page.locator("table.km-bp:visible")
    expect(wide).to_have_count(2)
    expect(narrow).to_have_count(0)
    page.set_viewport_size({"width": 390, "height": 844})
    expect(wide).to_have_count(0)
    expect(narrow).to_have_count(8)
