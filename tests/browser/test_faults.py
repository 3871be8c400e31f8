"""What is missing or broken leads to a slower start or to one clear sentence, and the page stays readable."""

import gzip
from collections.abc import Callable

import pytest
from bookpage import Site, choose, go_live, new_picture, open_page, picture, recorded, wait_for
from playwright.sync_api import BrowserContext, Page, expect


def missing(site: Site) -> None:
    (site.live / "snapshot.bin.gz").unlink()


def cut(site: Site) -> None:
    path = site.live / "snapshot.bin.gz"
    path.write_bytes(path.read_bytes()[:100_000])


def of_another_build(site: Site) -> None:
    path = site.live / "snapshot.bin.gz"
    path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes())[:500_000]))


@pytest.mark.parametrize("damage", [missing, cut, of_another_build])
def test_without_a_usable_snapshot_python_starts_the_slow_way(
    context: BrowserContext, broken_site: Site, damage: Callable[[Site], None]
) -> None:
    damage(broken_site)
    page = context.new_page()
    record = recorded(page)
    open_page(page, broken_site)
    go_live(page)
    first = picture(page)
    choose(page, "target", "preempted")
    new_picture(page, first)
    assert record.elsewhere(broken_site.address) == []


@pytest.mark.parametrize(
    "name", ["pylib.zip", "pyodide/pyodide.asm.wasm", "pyodide/pyodide.mjs", "pyodide/python_stdlib.zip", "worker.js"]
)
def test_a_missing_file_is_named(context: BrowserContext, broken_site: Site, name: str) -> None:
    (broken_site.live / name).unlink()
    page = context.new_page()
    open_page(page, broken_site)
    page.get_by_role("button", name="Run this page").click()
    wait_for(page, "error")
    expect(page.get_by_role("status").first).to_contain_text(f"{name} could not be loaded (status 404)")
    expect(page.locator(".live-static .km-figure").first).to_be_visible()
    expect(page.get_by_role("button", name="Run this page")).to_be_enabled()


@pytest.mark.parametrize("name", ["pylib.zip", "pyodide/pyodide.asm.wasm", "pyodide/python_stdlib.zip"])
def test_a_damaged_file_is_named(context: BrowserContext, broken_site: Site, name: str) -> None:
    path = broken_site.live / name
    path.write_bytes(path.read_bytes()[:1000])
    (broken_site.live / "snapshot.bin.gz").unlink()
    page = context.new_page()
    open_page(page, broken_site)
    page.get_by_role("button", name="Run this page").click()
    wait_for(page, "error")
    expect(page.get_by_role("status").first).to_contain_text(f"{name} is damaged")


@pytest.mark.parametrize(
    ("gone", "said"),
    [("WebAssembly", "WebAssembly"), ("DecompressionStream", "DecompressionStream"), ("Worker", "module workers")],
)
def test_a_browser_that_lacks_something_is_told_what(context: BrowserContext, site: Site, gone: str, said: str) -> None:
    page = context.new_page()
    page.add_init_script(f"delete globalThis.{gone}")
    open_page(page, site)
    expect(page.get_by_role("status").first).to_contain_text(f"it needs {said}")
    expect(page.locator(".live-bar button")).to_be_hidden()
    expect(page.locator(".live-static .km-figure").first).to_be_visible()


def test_a_page_opened_as_a_file_says_that_it_needs_a_server(page: Page, site: Site) -> None:
    page.goto((site.folder / "book" / "inject.html").as_uri())
    expect(page.get_by_role("status").first).to_contain_text("web server")
    page.goto("about:blank")
