"""What the browser tests, the benchmark and the screenshots share: a served book, and how to use a live page."""

import os
import re
import shutil
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Locator, Page, Playwright, expect

ROOT = Path(__file__).resolve().parents[2]
BUILT = ROOT / "_build" / "html"
sys.path.insert(0, str(ROOT / "book"))

from serve import serve  # noqa: E402

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
STARTING = 60_000  # ms that a slow machine may take to start Python
LIVE = ".live-outputs:not([hidden]) "
STATIC = ".live-static "


@dataclass
class Site:
    """A served copy of the book."""

    folder: Path
    address: str

    @property
    def live(self) -> Path:
        """The folder of what live pages load."""
        return next((self.folder / "_static" / "live").iterdir())

    def page(self, name: str) -> str:
        return f"{self.address}/{name}.html"


@dataclass
class Record:
    """What a page asked for and complained about."""

    requests: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def elsewhere(self, address: str) -> list[str]:
        return [url for url in self.requests if not url.startswith((address, "data:", "file:", "blob:" + address))]


@contextmanager
def serving(folder: Path) -> Iterator[Site]:
    server = serve(str(folder), 0)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield Site(folder, f"http://127.0.0.1:{server.server_port}")
    server.shutdown()


def launch_options() -> dict[str, Any]:
    assert CHROMIUM, "Chromium is needed (Debian: apt-get install chromium)"
    return {"executable_path": CHROMIUM, "args": ["--no-sandbox"] if os.geteuid() == 0 else []}


def launch(playwright: Playwright) -> Browser:
    return playwright.chromium.launch(**launch_options())


def recorded(page: Page) -> Record:
    record = Record()
    # The context's requests are those of the page and of its workers.
    page.context.on("request", lambda request: record.requests.append(request.url))
    page.on("console", lambda message: record.errors.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: record.errors.append(str(error)))
    return record


def open_page(page: Page, site: Site, name: str = "book/inject") -> None:
    page.goto(site.page(name))
    page.wait_for_selector("html[data-widgets=drawn]")


def wait_for(page: Page, state: str) -> None:
    expect(page.locator(".live-bar")).to_have_attribute("data-state", state, timeout=STARTING)


def go_live(page: Page) -> None:
    page.get_by_role("button", name="Run this page").click()
    wait_for(page, "live")


def figure(page: Page, scope: str = LIVE) -> Locator:
    """Of the figure's wide and narrow drawing the one that is shown."""
    return page.locator(f"{scope}.km-figure svg[role=img]:visible").first


def picture(page: Page, scope: str = LIVE) -> str:
    """The figure's state in words."""
    return figure(page, scope).get_attribute("aria-label") or ""


def new_picture(page: Page, old: str) -> str:
    expect(figure(page)).not_to_have_attribute("aria-label", old)
    return picture(page)


def choose(page: Page, which: str, text: str, scope: str = LIVE) -> None:
    page.locator(f"{scope}.km-choice-{which}").get_by_role("radio", name=text, exact=True).click()


def chosen(page: Page, which: str) -> str:
    return page.locator(f"{LIVE}.km-choice-{which} [aria-checked=true]").inner_text()


def expect_step(page: Page, number: int) -> None:
    expect(page.locator(f"{LIVE}.km-count")).to_contain_text(re.compile(rf"\b{number} of \d"))
