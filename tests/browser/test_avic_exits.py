"""The page on AVIC's two exits: the board follows the choices, and a lost IPI is told as lost."""

from bookpage import LIVE, Site, choose, go_live, open_page
from playwright.sync_api import Page, expect

PAGE = "book/avic-exits"
MARKED = f"{LIVE}.km-regboard mark"


def test_the_board_and_the_run_follow_the_choices(page: Page, site: Site) -> None:
    open_page(page, site, PAGE)
    expect(page.locator(".km-regboard mark").first).to_have_text("trap")
    go_live(page)
    expect(page.locator(MARKED)).to_have_text("trap")
    choose(page, "register", "timer count")
    choose(page, "apic", "x2APIC")
    expect(page.locator(MARKED)).to_have_text("MSR")
    choose(page, "kernel", "6.12")
    expect(page.locator(MARKED)).to_have_text("trap")
    page.locator(f"{LIVE}.km-break input").first.click()
    page.locator(f"{LIVE}.km-scrub .noUi-handle").first.press("End")
    expect(page.locator(f"{LIVE}.km-verdict.broken").first).to_contain_text("No timer runs")


def test_an_empty_bit_loses_the_ipi_on_5_10(page: Page, site: Site) -> None:
    open_page(page, site, PAGE)
    go_live(page)
    choose(page, "ipi", "to 1 and nobody")
    verdict = page.locator(f"{LIVE}.km-verdict")
    page.locator(f"{LIVE}.km-scrub .noUi-handle").last.press("End")
    expect(verdict.last).to_contain_text("Exit 401h, ID 2, invalid target")
    expect(verdict.last).to_contain_text("Taken by vCPU 1")
    page.locator(f"{LIVE}.km-choice-kernel").last.get_by_role("radio", name="5.10", exact=True).click()
    expect(verdict.last).to_contain_text("Lost for vCPU 1")
