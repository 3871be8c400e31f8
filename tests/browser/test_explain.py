"""Somebody's own stacks on the page: pasted, answered while the page stays usable, stopped, and sent on as a link."""

import re

from bookpage import LIVE, STARTING, STATIC, Site, choose, go_live, open_page, recorded, wait_for
from playwright.sync_api import Locator, Page, expect

PAGE = "book/explain"
TEXT = """Somebody writes:
@[
    __apic_accept_irq+298
    kvm_apic_local_deliver+127
    kvm_inject_apic_timer_irqs+43
    kvm_arch_vcpu_ioctl_run+2349
    kvm_vcpu_ioctl+587
]: 1168
"""
NEVER = "@[\n    kvm_set_cr8+1\n    apic_set_eoi+1\n    svm_vcpu_run+1\n]: 7\n"


def verdict(page: Page) -> Locator:
    return page.locator(f"{LIVE}.km-found").first


def put(page: Page, text: str, scope: str = LIVE) -> None:
    field = page.locator(f"{scope}.km-text-trace textarea")
    field.fill(text)
    field.blur()


def test_pasted_stacks_are_answered_and_their_pages_are_linked(page: Page, site: Site) -> None:
    asked = recorded(page)
    open_page(page, site, PAGE)
    expect(page.locator(f"{STATIC}.km-found").first).to_contain_text("The model takes both paths, too.")
    go_live(page)
    put(page, TEXT)
    expect(verdict(page)).to_contain_text("The model takes this path, too.")
    expect(page.locator(f"{LIVE}.km-announce")).to_contain_text("The model takes this path, too.")
    link = page.locator(f"{LIVE}.km-more a")
    expect(link).to_have_attribute("href", "timer.html")
    assert page.request.get(f"{site.address}/book/timer.html").ok
    # Runs that find nothing: the page goes on drawing and hears the reader between them.
    put(page, NEVER)
    progress = page.locator(f"{LIVE}.km-progress")
    expect(progress).to_contain_text(re.compile(r"[1-9]\d* runs? of the model, \d+ more at most"))
    first = progress.inner_text()
    expect(progress).not_to_have_text(first)
    page.get_by_role("button", name="Stop the runs").click()
    expect(verdict(page)).to_contain_text("Stopped: the runs that were done took 0 of 1 path.")
    expect(page.get_by_role("button", name="Go on")).to_be_visible()
    put(page, "no stack in here")
    expect(verdict(page)).to_contain_text("There is no stack and no function graph in it. Expected kernel stacks")
    put(page, "word " * 200_000)
    expect(verdict(page)).to_contain_text("1,000,000 characters are too many for a page")
    assert asked.elsewhere(site.address) == []


def test_a_link_carries_the_kernel_and_the_text_and_asks_without_a_button(page: Page, site: Site) -> None:
    open_page(page, site, PAGE)
    page.locator(f"{STATIC}.km-text-trace textarea").fill(TEXT)  # starts Python, and is not left before it is there
    wait_for(page, "live")
    expect(page.locator(f"{LIVE}.km-text-trace textarea")).to_be_focused()
    expect(verdict(page)).to_contain_text("The model takes this path, too.")
    choose(page, "kernel", "6.12")
    expect(page.locator(f"{LIVE}.km-head")).to_contain_text("Kernel 6.12, as chosen")
    page.wait_for_function("location.hash.includes('trace=') && location.hash.includes('kernel=6.12')")
    address = page.evaluate("location.href")
    other = page.context.new_page()
    other.goto(address)
    expect(verdict(other)).to_contain_text("The model takes this path, too.", timeout=STARTING)
    expect(other.locator(f"{LIVE}.km-head")).to_contain_text("Kernel 6.12, as chosen")
    expect(other.locator(f"{LIVE}.km-text-trace textarea")).to_have_value(TEXT)
