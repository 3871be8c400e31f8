"""The page on level interrupts: its explorer shows the pin, and what becomes of a line whose EOI nobody hears."""

import re

from bookpage import LIVE, Site, choose, expect_step, go_live, new_picture, open_page, picture
from playwright.sync_api import Page, expect

PAGE = "book/level"


def field(page: Page, name: str) -> str:
    row = page.locator(f"{LIVE}.km-fields > div", has=page.locator("dt", has_text=re.compile(rf"^{name}\b")))
    return row.locator("dd").inner_text()


def to_the_end(page: Page) -> None:
    page.locator(f"{LIVE}.km-scrub .noUi-handle").press("End")


def test_remote_irr_moves_with_the_steps(page: Page, site: Site) -> None:
    open_page(page, site, PAGE)
    go_live(page)
    assert (field(page, "trigger"), field(page, "remote IRR"), field(page, "line")) == ("level", "0", "up: 0")
    for step in range(2, 7):
        page.locator(f"{LIVE}.km-fwd").click()
        expect_step(page, step)
    expect(page.locator(f"{LIVE}.km-fields mark")).to_have_text("1")
    assert field(page, "remote IRR") == "1"
    first = picture(page)
    choose(page, "source", "edge-triggered")
    new_picture(page, first)
    to_the_end(page)
    assert (field(page, "trigger"), field(page, "remote IRR")) == ("edge", "0")


def test_a_line_dies_without_its_eoi(page: Page, site: Site) -> None:
    open_page(page, site, PAGE)
    go_live(page)
    choose(page, "source", "two devices")
    to_the_end(page)
    expect(page.locator(f"{LIVE}.km-verdict")).to_have_count(0)
    page.locator(f"{LIVE}.km-break input").click()
    expect(page.locator(f"{LIVE}.km-broken")).to_contain_text("kvm_ioapic_send_eoi")
    to_the_end(page)
    expect(page.locator(f"{LIVE}.km-verdict")).to_contain_text("Dead line")
    assert field(page, "remote IRR") == "1"


def test_a_new_vector_is_a_loss_without_any_break(page: Page, site: Site) -> None:
    open_page(page, site, PAGE)
    go_live(page)
    choose(page, "entry", "new vector")
    to_the_end(page)
    expect(page.locator(f"{LIVE}.km-verdict.broken")).to_contain_text("Dead line")
    expect(page.locator(f"{LIVE}.km-broken")).to_have_count(0)
    assert field(page, "vector") == "0x72"
