"""The page on AVIC's two exits: the board follows the choices, and a lost IPI is told as lost."""

from bookpage import LIVE, Site, choose, go_live, open_page
from playwright.sync_api import Page, expect

PAGE = "book/avic-exits"
MARKED = f"{LIVE}.km-regboard mark"
REGISTERS, IPIS = "#try-it ", "#exit-401h-an-ipi-that-is-not-finished "  # the two explorers share names of choices


def test_the_board_and_the_run_follow_the_choices(page: Page, site: Site) -> None:
    open_page(page, site, PAGE)
    expect(page.locator(".km-regboard mark").first).to_have_text("trap")
    go_live(page)
    expect(page.locator(MARKED)).to_have_text("trap")
    choose(page, "register", "timer count", REGISTERS + LIVE)
    choose(page, "apic", "x2APIC", REGISTERS + LIVE)
    expect(page.locator(MARKED)).to_have_text("MSR")
    choose(page, "kernel", "6.12", REGISTERS + LIVE)
    expect(page.locator(MARKED)).to_have_text("trap")
    page.locator(f"{REGISTERS}{LIVE}.km-break input").click()
    expect(page.locator(f"{REGISTERS}{LIVE}.km-broken")).to_be_visible()
    page.locator(f"{REGISTERS}{LIVE}.km-scrub .noUi-handle").press("End")
    expect(page.locator(f"{REGISTERS}{LIVE}.km-verdict.broken")).to_contain_text("No timer runs")


def test_an_empty_bit_loses_the_ipi_on_5_10(page: Page, site: Site) -> None:
    open_page(page, site, PAGE)
    go_live(page)
    verdict = page.locator(f"{IPIS}{LIVE}.km-verdict")
    choose(page, "ipi", "to 1 and nobody", IPIS + LIVE)
    expect(page.locator(f"{IPIS}{LIVE}.km-title")).to_contain_text("a bit without one")
    page.locator(f"{IPIS}{LIVE}.km-scrub .noUi-handle").press("End")
    expect(verdict).to_contain_text("Exit 401h, ID 2, invalid target")
    expect(verdict).to_contain_text("Taken by vCPU 1")
    choose(page, "kernel", "5.10", IPIS + LIVE)
    expect(verdict).to_contain_text("Lost for vCPU 1")
