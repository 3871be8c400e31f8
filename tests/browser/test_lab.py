"""The delivery lab in the browser: lists, the file to edit, its line for what is wrong, and a link with the text."""

import re

import pytest
from bookpage import LIVE, Site, choose, expect_step, figure, go_live, new_picture, open_page, picture
from playwright.sync_api import Locator, Page, expect

PAGE = "book/lab"


def listed(page: Page, key: str) -> Locator:
    return page.locator(f"{LIVE}.km-choice-{key} select")


def editor(page: Page) -> Locator:
    return page.get_by_label("The scenario’s file").locator("visible=true")


def test_choices_write_the_file_and_the_reader_s_own_runs(page: Page, site: Site) -> None:
    open_page(page, site, PAGE)
    go_live(page)
    first = picture(page)
    assert "1_00000043" in editor(page).input_value()
    listed(page, "source").select_option("TSC-deadline timer")
    second = new_picture(page, first)
    expect(editor(page)).to_have_value(re.compile("deadline 30000"))
    choose(page, "state", "halted")
    third = new_picture(page, second)
    # Another word for an instruction: the line that the command would print, and the controls go on working.
    editor(page).fill(editor(page).input_value().replace("wait 0xe1", "weit 0xe1"))
    page.get_by_role("button", name="Run", exact=True).click()
    error = page.locator(f"{LIVE}.km-says [role=alert]")
    expect(error).to_contain_text(re.compile(r"^my\.toml, line \d+: \[vcpu\.0\] program: unknown instruction 'weit'"))
    # Keys in the text are text, and none of them steps; Ctrl+Enter runs it without leaving it.
    editor(page).fill(editor(page).input_value().replace("weit 0xe1", "busy 0xe1"))
    editor(page).press("End")
    editor(page).press("Control+Enter")
    expect(error).to_have_count(0)
    assert figure(page).get_attribute("aria-label") != third
    expect(editor(page)).to_be_focused()
    expect_step(page, 1)
    # A choice of the scenario replaces it, and it comes back.
    before = picture(page)
    choose(page, "state", "preempted")
    replaced = new_picture(page, before)
    page.get_by_role("button", name="My text again").click()
    new_picture(page, replaced)
    expect(editor(page)).to_have_value(re.compile("busy 0xe1"))
    # The host leaves it alone.
    listed(page, "kernel").select_option("6.12")
    expect(page.locator(f"{LIVE}.km-head")).to_contain_text("Kernel 6.12.117")
    expect(editor(page)).to_have_value(re.compile("busy 0xe1"))
    # The address has it all: whoever opens it sees the same.
    page.locator(f"{LIVE}.km-fwd").click()
    expect_step(page, 2)
    page.wait_for_function("location.hash.includes('s=2')")
    shown, link = picture(page), page.url
    page.goto("about:blank")
    page.goto(link)
    page.wait_for_selector("html[data-widgets=drawn]")
    expect(page.locator(".live-bar")).to_have_attribute("data-state", "live", timeout=60_000)
    expect(figure(page)).to_have_attribute("aria-label", shown)
    expect(editor(page)).to_have_value(re.compile("busy 0xe1"))


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_lists_and_the_text_fit_a_phone_and_have_names(site: Site, browser, scheme: str) -> None:  # type: ignore[no-untyped-def]
    context = browser.new_context(viewport={"width": 360, "height": 780}, color_scheme=scheme)
    page = context.new_page()
    open_page(page, site, PAGE)  # not live: the static widgets have the same controls
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    for control in page.locator(".km-lab :is(select, textarea, .widget-text input, .km-act):visible").all():
        box = control.bounding_box()
        assert box is not None
        assert box["height"] >= 44
    for name in ("Processor", "Kernel", "Start from", "Source", "Inhibit", "Broken on purpose"):
        expect(page.get_by_role("combobox", name=name, exact=True)).to_be_visible()
    for name in ("More parameters", "The scenario’s file"):
        expect(page.get_by_role("textbox", name=name, exact=True)).to_be_visible()
    text = page.get_by_role("textbox", name="The scenario’s file")
    text.focus()
    ink, paper, outline = text.evaluate(
        "e => { const s = getComputedStyle(e); return [s.color, s.backgroundColor, s.outlineStyle]; }"
    )
    dark = sum(map(int, re.findall(r"\d+", paper)[:3])) < sum(map(int, re.findall(r"\d+", ink)[:3]))
    assert (dark, outline) == (scheme == "dark", "solid")
    context.close()
