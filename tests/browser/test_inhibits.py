"""The page on what inhibits AVIC: its board follows the switches, with the runs made in the browser."""

from bookpage import LIVE, Site, go_live, open_page
from playwright.sync_api import Locator, Page, expect

PAGE = "book/inhibits"


def switch(page: Page, label: str) -> Locator:
    return page.locator(f"{LIVE}.km-switch", has_text=label).locator("input")


def answer(page: Page) -> Locator:
    return page.locator(f"{LIVE}.km-inhibit-board .km-answer b")


def test_the_static_board_says_why(page: Page, site: Site) -> None:
    open_page(page, site, PAGE)
    expect(page.locator(".km-inhibit-board .km-answer b")).to_have_text("No. One reason inhibits it, for all vCPUs.")
    expect(page.locator(".km-inhibit-board .km-mask li.set")).to_have_text("19")


def test_without_the_pit_it_is_in_use_and_l2_takes_one_vcpu(page: Page, site: Site) -> None:
    open_page(page, site, PAGE)
    go_live(page)
    expect(answer(page)).to_have_text("No. One reason inhibits it, for all vCPUs.")
    switch(page, "KVM's PIT").click()
    expect(answer(page)).to_have_text("Yes. No reason is set.")
    switch(page, "L2 runs").click()
    expect(answer(page)).to_have_text("Not on vCPU 0, as long as it runs L2.")
    expect(page.locator(f"{LIVE}.km-inhibit-board .km-mask li.set")).to_have_count(0)


def test_x2apic_counts_on_5_15(page: Page, site: Site) -> None:
    open_page(page, site, PAGE)
    go_live(page)
    switch(page, "KVM's PIT").click()
    expect(answer(page)).to_have_text("Yes. No reason is set.")
    page.locator(f"{LIVE}.widget-toggle-button", has_text="5.15").click()
    opened = page.locator(f"{LIVE}.km-inhibit-board .km-set h4")
    expect(opened).to_have_text("X2APIC, bit 5: X2APIC is in the guest's CPUID")
    switch(page, "X2APIC in CPUID").click()
    expect(answer(page)).to_have_text("Yes. No reason is set.")
