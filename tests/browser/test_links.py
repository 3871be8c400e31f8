"""A link reproduces what its sender's widget showed."""

from urllib.parse import parse_qs

from bookpage import LIVE, Site, choose, chosen, expect_step, go_live, new_picture, open_page, picture, wait_for
from playwright.sync_api import Page, expect


def state(page: Page) -> dict[str, str]:
    return {name: values[-1] for name, values in parse_qs(page.url.partition("#")[2]).items()}


def test_the_link_that_one_reader_copies_shows_another_the_same_picture(page: Page, site: Site) -> None:
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    open_page(page, site)
    assert state(page) == {}
    go_live(page)
    assert state(page) == {}, "an address without a wish of the reader's stays as it is"
    old = picture(page)
    choose(page, "target", "in guest")
    old = new_picture(page, old)
    page.get_by_label("Break it:").first.click(force=True)
    expect(page.locator(f"{LIVE}.km-broken")).to_be_visible()
    for number in (2, 3, 4):
        page.locator(f"{LIVE}.km-fwd").click()
        expect_step(page, number)
    page.get_by_role("button", name="Copy a link to this").first.click()
    expect(page.locator(".km-share [role=status]").first).to_have_text("The link is copied.")
    link = page.evaluate("navigator.clipboard.readText()")
    sent = picture(page)

    page.goto("about:blank")
    page.goto(link)
    wait_for(page, "live")
    assert picture(page) == sent
    assert chosen(page, "target") == "in guest"
    expect_step(page, 4)
    assert page.url == link
    expect(page.locator(f"{LIVE}.km-broken")).to_be_in_viewport()


def test_a_board_s_switches_are_carried_too(page: Page, site: Site) -> None:
    open_page(page, site, "book/inhibits")
    go_live(page)
    answer = page.locator(f"{LIVE}.km-answer").first
    switch = page.locator(f"{LIVE}.km-switch input:checked").first  # what the VM has from the start
    before = answer.text_content() or ""
    switch.click(force=True)
    expect(answer).not_to_have_text(before)
    sent, link = answer.text_content() or "", page.url
    assert "0" in state(page).values()
    page.goto("about:blank")
    page.goto(link)
    wait_for(page, "live")
    expect(answer).to_have_text(sent)


def test_a_stale_link_says_what_it_could_not_show(page: Page, site: Site) -> None:
    page.goto(site.page("book/inject") + "#w=1&target=asleep&source=MSI&vcpus=3&s=999")
    wait_for(page, "live")
    expect(page.locator(".live-bar [role=status]")).to_contain_text("“target”, “vcpus” cannot be shown here")
    assert chosen(page, "source") == "MSI"
    count = page.locator(f"{LIVE}.km-count").inner_text()
    assert count.split()[0] == count.split()[-1], "a step past the end is the last one"


def test_back_goes_to_the_choice_before_and_steps_make_no_entries(page: Page, site: Site) -> None:
    open_page(page, site)
    go_live(page)
    first = picture(page)
    choose(page, "target", "in guest")
    second = new_picture(page, first)
    page.locator(f"{LIVE}.km-fwd").click()
    expect_step(page, 2)
    stepped = new_picture(page, second)
    choose(page, "source", "timer")
    new_picture(page, stepped)
    page.go_back()
    expect(page.locator(f"{LIVE}.km-figure svg[role=img]:visible").first).to_have_attribute("aria-label", stepped)
    page.go_back()
    expect(page.locator(f"{LIVE}.km-figure svg[role=img]:visible").first).to_have_attribute("aria-label", first)
    assert state(page) == {}


def test_a_section_s_link_starts_no_python(page: Page, site: Site) -> None:
    page.goto(site.page("book/inject") + "#what-happens")
    page.wait_for_selector("html[data-widgets=drawn]")
    expect(page.locator(".live-bar")).to_have_attribute("data-state", "static")
