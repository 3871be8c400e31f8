"""The page on AVIC's default: the decision follows the host that a reader chooses, by mouse and by keyboard."""

from bookpage import LIVE, Site, choose, chosen, go_live, open_page
from playwright.sync_api import Locator, Page, expect

PAGE = "book/avic-default"
HERE = f"{LIVE}.km-avic-default "


def answer(page: Page) -> Locator:
    return page.locator(f"{HERE}.km-answer b")


def stop(page: Page) -> Locator:
    return page.locator(f"{HERE}.km-decide li.stop code")


def test_the_static_decision_is_the_old_default(page: Page, site: Site) -> None:
    open_page(page, site, PAGE)
    expect(page.locator(".km-avic-default .km-answer b")).to_have_text("No. No VM on this host has AVIC.")
    expect(page.locator(".km-avic-default .km-decide li.stop")).to_contain_text("AVIC stays off, without a word")


def test_auto_then_an_older_processor_then_force(page: Page, site: Site) -> None:
    open_page(page, site, PAGE)
    go_live(page)
    assert chosen(page, "avic") == "not set"
    choose(page, "kernel", "6.18")
    expect(answer(page)).to_have_text("Yes, a VM may use AVIC.")
    choose(page, "cpu", "Zen 3")
    expect(stop(page)).to_have_text("X86_FEATURE_X2AVIC")
    choose(page, "avic", "avic=1")
    expect(stop(page)).to_have_text("force_avic")
    page.locator(f"{HERE}.km-switch", has_text="force_avic").locator("input").click()
    expect(answer(page)).to_have_text("Yes, by force: CPUID says no.")
    expect(page.locator(f"{HERE}.km-shows")).to_contain_text("your system might crash and burn")


def test_the_keyboard_is_enough(page: Page, site: Site) -> None:
    open_page(page, site, PAGE)
    go_live(page)
    page.locator(f"{HERE}.km-choice-kernel").get_by_role("radio", name="6.12", exact=True).focus()
    page.keyboard.press("ArrowRight")
    expect(answer(page)).to_have_text("Yes, a VM may use AVIC.")
    page.locator(f"{HERE}.km-switch", has_text="npt=0").locator("input").focus()
    page.keyboard.press("Space")
    expect(stop(page)).to_have_text("npt_enabled")
