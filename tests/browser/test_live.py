"""A page goes live and its widget answers."""

import re

from bookpage import (
    LIVE,
    STATIC,
    Site,
    choose,
    chosen,
    expect_step,
    figure,
    go_live,
    new_picture,
    open_page,
    picture,
    recorded,
    wait_for,
)
from playwright.sync_api import BrowserContext, Page, expect


def test_another_target_and_a_step_change_the_picture(page: Page, site: Site) -> None:
    open_page(page, site)
    go_live(page)
    first = picture(page)
    choose(page, "target", "in guest")
    other = new_picture(page, first)
    page.locator(f"{LIVE}.km-fwd").click()
    expect_step(page, 2)
    stepped = new_picture(page, other)
    page.keyboard.press("ArrowRight")
    expect_step(page, 3)
    new_picture(page, stepped)
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("Home")
    expect_step(page, 1)
    assert picture(page) == other


def test_all_requests_stay_on_the_host(context: BrowserContext, site: Site) -> None:
    page = context.new_page()
    record = recorded(page)
    open_page(page, site)
    static = len(record.requests)
    assert not any("pyodide" in url for url in record.requests), "a page that is not live loads no Python"
    go_live(page)
    choose(page, "source", "timer")
    page.wait_for_timeout(300)
    assert any("pyodide.asm.wasm" in url for url in record.requests), "the worker's requests are counted too"
    assert record.elsewhere(site.address) == []
    assert record.errors == []
    print(f"requests: {static} for the static page, {len(record.requests) - static} more to go live, none elsewhere")


def test_the_memory_snapshot_is_taken(page: Page, site: Site) -> None:
    """It once was refused, and the page went live many seconds later: the model had outgrown Pyodide's first memory."""
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    open_page(page, site)
    go_live(page)
    assert [text for text in said if "snapshot" in text] == []


def test_touching_a_widget_starts_python_and_the_touch_counts(page: Page, site: Site) -> None:
    open_page(page, site)
    before = picture(page, scope=STATIC)
    choose(page, "target", "preempted", scope=STATIC)
    wait_for(page, "live")
    assert chosen(page, "target") == "preempted"
    assert picture(page) != before


def test_what_was_set_before_is_kept_choices_first_then_the_step(page: Page, site: Site) -> None:
    open_page(page, site)
    choose(page, "target", "preempted", scope=STATIC)  # this starts Python
    choose(page, "source", "MSI", scope=STATIC)
    handle = page.locator(".live-static .km-scrub .noUi-handle")
    handle.focus()
    handle.press("ArrowRight")
    handle.press("ArrowRight")
    wait_for(page, "live")
    assert chosen(page, "target") == "preempted"
    assert chosen(page, "source") == "MSI"
    expect_step(page, 3)


def test_a_button_pressed_before_is_pressed_after(page: Page, site: Site) -> None:
    open_page(page, site)
    page.locator(".live-static .km-fwd").click()
    wait_for(page, "live")
    expect_step(page, 2)


def test_radio_groups_work_by_keyboard_and_keep_the_focus(page: Page, site: Site) -> None:
    open_page(page, site)
    go_live(page)
    group = page.locator(f"{LIVE}.km-choice-source").get_by_role("radiogroup")
    group.get_by_role("radio", name="IPI", exact=True).focus()
    page.keyboard.press("ArrowRight")
    expect(group.get_by_role("radio", name="timer", exact=True)).to_have_attribute("aria-checked", "true")
    expect(group.get_by_role("radio", name="timer", exact=True)).to_be_focused()
    expect_step(page, 1)


def test_the_end_key_knows_how_long_the_story_is_now(page: Page, site: Site) -> None:
    open_page(page, site)
    go_live(page)
    before = page.locator(f"{LIVE}.km-scrub .noUi-handle").get_attribute("aria-valuemax")
    choose(page, "source", "timer")
    expect_step(page, 1)
    handle = page.locator(f"{LIVE}.km-scrub .noUi-handle")
    expect(handle).not_to_have_attribute("aria-valuemax", before or "")
    handle.press("End")
    expect_step(page, int(float(handle.get_attribute("aria-valuemax") or 0)))
    handle.press("Home")
    expect_step(page, 1)
    page.locator(f"{LIVE}.km-fwd").press("End")
    expect_step(page, int(float(handle.get_attribute("aria-valuemax") or 0)))


def test_icon_buttons_have_names(page: Page, site: Site) -> None:
    open_page(page, site)
    unnamed = page.locator(".live-static button").evaluate_all(
        "all => all.filter(b => !b.getAttribute('aria-label') && !/[\\p{L}\\p{N}]/u.test(b.textContent)).length"
    )
    assert unnamed == 0


def test_a_screen_reader_hears_the_sentence_and_the_position(page: Page, site: Site) -> None:
    open_page(page, site)
    go_live(page)
    page.locator(f"{LIVE}.km-fwd").click()
    expect_step(page, 2)
    sentence = page.locator(f"{LIVE}.km-say").inner_text().replace("\n", " ")
    said = page.locator(f"{LIVE}.km-announce[aria-live=polite]")
    expect(said).to_contain_text(sentence.split("·")[0].strip())
    handle = page.locator(f"{LIVE}.km-scrub .noUi-handle")
    assert "Step 2 of" in (handle.get_attribute("aria-valuetext") or "")


def test_a_comparison_answers_its_choices_and_says_its_verdict(page: Page, site: Site) -> None:
    open_page(page, site, "book/without-avic")
    go_live(page)
    verdict = page.locator(f"{LIVE}.km-comparison .km-found")
    expect(verdict).to_contain_text("by other functions")
    choose(page, "host", "under KVM")
    expect(verdict).to_contain_text("all the same, by the same functions")
    expect(page.locator(f"{LIVE}.km-comparison .km-announce")).to_contain_text("all the same")
    choose(page, "mode", "xAPIC")
    choose(page, "access", "EOI")
    expect(page.locator(f"{LIVE}.km-comparison .km-pair").first).to_contain_text("MOV [0xfee000b0]")


def test_a_comparison_touched_before_it_is_live_keeps_the_choice(page: Page, site: Site) -> None:
    open_page(page, site, "book/without-avic")
    choose(page, "host", "under KVM", scope=STATIC)
    wait_for(page, "live")
    assert chosen(page, "host") == "under KVM"
    expect(page.locator(f"{LIVE}.km-comparison .km-found")).to_contain_text("all the same")


def test_the_choices_of_a_comparison_fit_their_buttons_on_a_phone(page: Page, site: Site) -> None:
    """Eight accesses in one line once ran into each other."""
    page.set_viewport_size({"width": 360, "height": 800})
    open_page(page, site, "book/without-avic")
    cut = page.locator(f"{STATIC}.km-comparison .widget-toggle-button").evaluate_all(
        "all => all.filter(b => b.scrollWidth > b.clientWidth + 1).map(b => b.textContent)"
    )
    assert cut == []


def test_the_ipi_page_answers_each_of_its_choices(page: Page, site: Site) -> None:
    open_page(page, site, "book/ipi")
    go_live(page)
    before = picture(page)
    for which, text in (("form", "xAPIC page"), ("target", "halted"), ("kernel", "6.1"), ("nrips", "nrips=0")):
        choose(page, which, text)
        assert chosen(page, which) == text
    setup = page.locator(f"{LIVE}.km-sub").first
    expect(setup).to_have_text("Kernel 6.1.192, Zen 4, avic=0, nrips=0, xAPIC guest")
    assert "MOV [0xfee00310]" in new_picture(page, before)
    page.get_by_label("Break it: kick nobody").first.click(force=True)
    expect(page.locator(f"{LIVE}.km-broken")).to_contain_text("Broken on purpose")
    page.keyboard.press("End")


def test_the_gif_page_answers_each_of_its_choices(page: Page, site: Site) -> None:
    open_page(page, site, "book/gif")
    go_live(page)
    before = picture(page)
    for which, text in (("event", "two NMIs at once"), ("flag", "1"), ("means", "vGIF and vNMI")):
        choose(page, which, text)
        assert chosen(page, which) == text
    setup = page.locator(f"{LIVE}.km-sub").first
    expect(setup).to_have_text("Kernel 6.12.117, Zen 4, avic=0, vgif=1, vnmi=1, x2APIC guest")
    assert "OUT 0xe1" in new_picture(page, before)
    expect(page.locator(f"{LIVE}.km-fig")).to_contain_text("delivers the virtual NMI")
    choose(page, "means", "neither")
    page.get_by_label("Break it: have neither IRET nor STGI exit").first.click(force=True)
    expect(page.locator(f"{LIVE}.km-broken")).to_contain_text("Broken on purpose")
    page.keyboard.press("End")
    expect(page.locator(f"{LIVE}.km-verdict")).to_contain_text("Lost: an NMI waits")


def test_the_pv_page_answers_each_of_its_choices(page: Page, site: Site) -> None:
    open_page(page, site, "book/pv")
    go_live(page)
    before = picture(page)
    for which, text in (("way", "PV kick"), ("target", "halted"), ("count", "4"), ("kernel", "6.1")):
        choose(page, which, text)
        assert chosen(page, which) == text
    setup = page.locator(f"{LIVE}.km-sub").first
    expect(setup).to_have_text("Kernel 6.1.192, Zen 4, avic=0, x2APIC guest; one waiter, asleep")
    assert "CPU 5, HLT" in new_picture(page, before)
    page.get_by_label("Break it: a kick sets no pv_unhalted").first.click(force=True)
    expect(page.locator(f"{LIVE}.km-broken")).to_contain_text("Broken on purpose")
    page.keyboard.press("End")
    expect(page.locator(f"{LIVE}.km-verdict")).to_contain_text("Lost wake-up")


def test_a_hypercall_fails_with_linux_s_numbers_in_the_browser(page: Page, site: Site) -> None:
    """Python's errno there is the browser's: EINVAL is 28."""
    open_page(page, site, "book/pv")
    go_live(page)
    cell = page.locator(".cell:has(.live-tools)", has_text="vmmcall(99)")
    cell.get_by_role("button", name="Run cell").click()
    expect(cell.locator(".live-stdout")).to_have_text("3\n-22\n-1000\n")


def test_the_legacy_page_tells_a_spurious_irq_and_a_pit_that_is_not_acknowledged(page: Page, site: Site) -> None:
    open_page(page, site, "book/legacy")
    go_live(page)
    before = picture(page)
    choose(page, "gone", "falls in the acknowledge")
    page.locator(f"{LIVE}.km-fwd").click()
    new_picture(page, before)
    page.keyboard.press("End")
    expect(page.locator(f"{LIVE}.km-verdict")).to_contain_text("The handler of IRQ 7 finds bit 7 of the ISR clear")
    choose(page, "source", "PIT")
    choose(page, "guest", "IF clear")
    expect(page.locator(f"{LIVE}.km-verdict")).to_contain_text("Nothing to withdraw.")
    page.get_by_label("Break it: do not tell the PIT of the acknowledge").first.click(force=True)
    expect(page.locator(f"{LIVE}.km-broken")).to_contain_text("the PIT is not told")
    expect(page.locator(f"{LIVE}.km-verdict")).to_contain_text("One tick, then no other.")
    last = picture(page)
    page.locator(f"{LIVE}.km-back").click()
    new_picture(page, last)  # Python's answer to the button sets the slider, too: the key must come after it
    page.keyboard.press("End")
    expect(figure(page)).to_have_attribute("aria-label", re.compile("not acknowledged: no pulse"))


def test_the_devices_page_wakes_by_the_log_and_loses_without_it(page: Page, site: Site) -> None:
    open_page(page, site, "book/devices")
    go_live(page)
    before = picture(page)
    choose(page, "state", "halted")
    page.locator(f"{LIVE}.km-fwd").click()
    new_picture(page, before)
    page.keyboard.press("End")
    expect(figure(page)).to_have_attribute("aria-label", re.compile("ISR cleared, no exit"))
    expect(page.locator(f"{LIVE}.km-irte")).to_contain_text("GA tag")
    page.get_by_label("Break it: no GALogIntr").first.click(force=True)
    expect(page.locator(f"{LIVE}.km-broken")).to_contain_text("KVM never sets GALogIntr")
    expect(page.locator(f"{LIVE}.km-verdict")).to_contain_text("Lost wake-up")
    choose(page, "posting", "off")
    expect(page.locator(f"{LIVE}.km-verdict")).to_contain_text("Nothing lost")
    cell = page.locator(".cell:has(.live-tools)", has_text="assign_device")
    cell.get_by_role("button", name="Run cell").click()
    expect(cell.locator(".live-stdout")).to_contain_text("remapped: vector 0x22 of the host, to CPU 2")
