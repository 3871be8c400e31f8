"""The page on Windows guests: the board follows the options that a reader chooses, by mouse and by keyboard."""

from bookpage import LIVE, Site, choose, chosen, go_live, open_page
from playwright.sync_api import Locator, Page, expect

PAGE = "book/windows"
HERE = f"{LIVE}.km-windows "


def answer(page: Page) -> Locator:
    return page.locator(f"{HERE}.km-answer b")


def exits(page: Page, work: int) -> Locator:
    """Of the bill: of the IPIs (0) or of the ticks (1)."""
    return page.locator(f"{HERE}.km-work tr", has_text="exits, by reason").locator("td").nth(work)


def test_the_static_board_is_the_guides_against_idle_cpu(page: Page, site: Site) -> None:
    open_page(page, site, PAGE)
    static = page.locator(".km-windows")
    expect(static.locator(".km-answer b")).to_have_text("No. Two reasons inhibit it, for all vCPUs.")
    expect(static.locator(".km-set h4")).to_have_text(
        ["HYPERV, bit 1: a SynIC source uses AutoEOI", "PIT_REINJ, bit 9: KVM's PIT reinjects lost ticks"]
    )


def test_discard_then_hv_avic_then_a_guest_that_does_not_listen_then_older_kernels(page: Page, site: Site) -> None:
    open_page(page, site, PAGE)
    go_live(page)
    assert (chosen(page, "kernel"), chosen(page, "avic"), chosen(page, "obeys")) == ("6.18", "off", "does as told")
    expect(exits(page, 0)).to_have_text("20: msr 10, interrupt 10")
    choose(page, "pit", "discard")
    expect(answer(page)).to_have_text("No. One reason inhibits it, for all vCPUs.")
    choose(page, "avic", "on")
    expect(answer(page)).to_have_text("Yes. No reason is set.")
    expect(exits(page, 0)).to_have_text("0")
    choose(page, "obeys", "uses AutoEOI anyway")
    expect(page.locator(f"{HERE}.km-set h4")).to_have_text("HYPERV, bit 1: a SynIC source uses AutoEOI")
    page.locator(f"{HERE}.km-break input").click()
    expect(page.locator(f"{HERE}.km-verdict b")).to_have_text("Stuck.")
    expect(answer(page)).to_have_text("Yes. No reason is set.")
    page.locator(f"{HERE}.km-break input").press("Space")
    expect(page.locator(f"{HERE}.km-verdict")).to_have_count(0)
    choose(page, "kernel", "5.15")
    expect(page.locator(f"{HERE}.km-mask li.set")).to_have_count(3)  # HYPERV, NESTED, X2APIC
    page.locator(f"{HERE}.km-choice-kernel").get_by_role("radio", name="5.15", exact=True).focus()
    page.keyboard.press("ArrowLeft")
    expect(page.locator(f"{HERE}.km-note").first).to_contain_text("hv-avic is not supported by this kernel")
