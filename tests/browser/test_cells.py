"""Cells can be edited and run again, errors can be read, and what does not end can be ended."""

from bookpage import Site, go_live, open_page, wait_for
from playwright.sync_api import Locator, Page, expect


def explorer_cell(page: Page) -> Locator:
    """The page's first cell, with its code unfolded where the page folds it."""
    page.evaluate("document.querySelectorAll('details').forEach(d => { d.open = true; })")
    return page.locator(".cell:has(.live-tools)").first


def write(page: Page, code: str) -> Locator:
    cell = explorer_cell(page)
    cell.locator("pre[contenteditable]").focus()
    page.keyboard.press("Control+a")
    page.keyboard.insert_text(code)
    return cell


def test_an_edited_cell_runs_on_shift_enter(page: Page, site: Site) -> None:
    open_page(page, site)
    assert page.locator("pre[contenteditable]").count() == 0
    go_live(page)
    cell = write(page, "print('six', 2 * 3)\nimport sys; sys.version_info[:2]")
    page.keyboard.press("Shift+Enter")
    expect(cell.locator(".live-stdout")).to_have_text("six 6\n")
    expect(cell.locator(".live-outputs .live-plain")).to_contain_text("(3, ")
    cell.get_by_role("button", name="Undo edits").click()
    cell.get_by_role("button", name="Run cell").click()
    expect(cell.locator(".live-outputs .km-stepper")).to_be_visible()


def test_a_traceback_shows_the_cells_own_line(page: Page, site: Site) -> None:
    open_page(page, site)
    go_live(page)
    cell = write(page, "def f(x):\n    return 1 / x\n\n\nf(0)")
    page.keyboard.press("Shift+Enter")
    error = cell.get_by_role("alert")
    expect(error).to_contain_text("ZeroDivisionError")
    expect(error).to_contain_text("return 1 / x")
    expect(error).not_to_contain_text("kvmlive")
    expect(page.get_by_role("status").first).to_contain_text("failed")


def test_stop_ends_a_runaway_cell_and_the_page_starts_again(page: Page, site: Site) -> None:
    open_page(page, site)
    go_live(page)
    cell = write(page, "print('before')\nwhile True: pass")
    page.keyboard.press("Shift+Enter")
    wait_for(page, "running")
    page.get_by_role("button", name="Stop").first.click()
    wait_for(page, "stopped")
    expect(page.get_by_role("status").first).to_contain_text("Run this page")
    # Started again, the runaway cell waits for the reader.
    go_live(page)
    expect(page.get_by_role("status").first).to_contain_text("was not run")
    cell.get_by_role("button", name="Undo edits").click()
    cell.get_by_role("button", name="Run cell").click()
    expect(cell.locator(".live-outputs .km-stepper")).to_be_visible()


def test_stop_ends_a_runaway_callback(page: Page, site: Site) -> None:
    open_page(page, site)
    go_live(page)
    write(
        page,
        "import ipywidgets as w\nb = w.Button(description='hang')\n@b.on_click\ndef _(b):\n    while True: pass\n\nb",
    )
    page.keyboard.press("Shift+Enter")
    page.get_by_role("button", name="hang").click()
    expect(page.get_by_role("status").first).to_contain_text("busy")
    page.get_by_role("button", name="Stop").first.click()
    wait_for(page, "stopped")
    go_live(page)
    expect(page.get_by_role("button", name="hang")).to_be_visible()


def test_a_cell_that_prints_for_ever_shows_what_it_prints(page: Page, site: Site) -> None:
    open_page(page, site)
    go_live(page)
    cell = write(page, "i = 0\nwhile True:\n    i += 1\n    print('line', i)")
    page.keyboard.press("Shift+Enter")
    expect(cell.locator(".live-stdout")).to_contain_text("line 1\n")
    page.get_by_role("button", name="Stop").first.click()
    wait_for(page, "stopped")
