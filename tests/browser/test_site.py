"""The book as a site: below any folder of any host, found by search engines, shown by who links to it, searchable."""

import re
import struct
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import urlsplit
from xml.etree import ElementTree

import pytest
from bookpage import BUILT, Site, go_live, open_page, recorded, serving
from playwright.sync_api import BrowserContext, Page, expect

PAGES = sorted(p.stem for p in (BUILT / "book").glob("*.html"))
NAMES = {"s": "http://www.sitemaps.org/schemas/sitemap/0.9"}


class Head(HTMLParser):
    """Of a page's head: its meta elements by name or property, and the canonical address."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.meta: dict[str, str] = {}
        self.canonical = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {key: value or "" for key, value in attrs}
        if tag == "meta" and (name := found.get("property") or found.get("name")):
            self.meta.setdefault(name, found.get("content", ""))
        if tag == "link" and found.get("rel") == "canonical":
            self.canonical = found["href"]


def head(name: str) -> Head:
    return Head((BUILT / "book" / f"{name}.html").read_text(encoding="utf8"))


def address() -> str:
    """The site's address, as the front page was built for it."""
    return head("intro").canonical.removesuffix("book/intro.html")


@pytest.mark.parametrize("name", PAGES)
def test_who_links_to_a_page_shows_its_question_and_short_answer(name: str) -> None:
    found = head(name)
    text = (BUILT / "_sources" / "book" / f"{name}.md").read_text(encoding="utf8")
    title = re.search(r"^# (.*)$", text, re.M)
    assert title
    assert found.meta["og:title"] == title[1].replace("`", "").replace("'", "’")
    assert found.meta["og:site_name"] == "How KVM on AMD delivers interrupts"
    assert found.meta["og:type"] == "article"
    answer = found.meta["og:description"]
    assert found.meta["description"] == answer
    assert answer.endswith((".", "?", "!")), "whole sentences"
    assert 30 < len(answer) < 400
    assert found.meta["og:url"] == found.canonical == f"{address()}book/{name}.html"


def test_the_description_is_the_answer_s_beginning() -> None:
    start = "Because it runs after every exit, and AVIC does not end all exits."
    assert head("ppr").meta["og:description"].startswith(start)


def test_the_picture_for_links_is_there_in_the_size_that_is_told() -> None:
    meta = head("ppr").meta
    picture = BUILT / meta["og:image"].removeprefix(address())
    width, height = struct.unpack(">II", picture.read_bytes()[16:24])
    assert (str(width), str(height)) == (meta["og:image:width"], meta["og:image:height"])
    assert meta["og:image:alt"]
    assert meta["twitter:card"] == "summary_large_image"


def test_the_sitemap_has_the_pages_and_no_others() -> None:
    found = ElementTree.parse(BUILT / "sitemap.xml").getroot().findall("s:url/s:loc", NAMES)
    assert sorted(loc.text or "" for loc in found) == sorted(f"{address()}book/{name}.html" for name in PAGES)


@pytest.fixture
def below(tmp_path: Path) -> Iterator[Site]:
    """The same files below a folder that they were not built for."""
    (tmp_path / "some").mkdir()
    (tmp_path / "some" / "where").symlink_to(BUILT.resolve())
    (tmp_path / "index.html").write_text("<title>Another site</title>")
    with serving(tmp_path) as served:
        yield Site(BUILT, served.address + "/some/where")


def test_below_any_folder_pages_links_and_search_work(context: BrowserContext, below: Site) -> None:
    page = context.new_page()
    record = recorded(page)
    page.goto(below.address + "/")
    expect(page).to_have_url(below.page("book/intro"))
    page.locator("article").get_by_role("link", name="How is an interrupt injected at all?").first.click()
    page.wait_for_selector("html[data-widgets=drawn]")
    go_live(page)
    page.goto(below.address + "/search.html?q=apic_update_ppr")
    expect(page.locator("#search-results li").first).to_contain_text("apic_update_ppr")
    assert record.elsewhere(below.address) == []
    assert record.errors == []


@pytest.mark.parametrize("unknown", ["nothing", "book/nothing.html", "book/a/b/c/?q=1"])
def test_below_any_folder_an_unknown_address_leads_back(context: BrowserContext, below: Site, unknown: str) -> None:
    page = context.new_page()
    record = recorded(page)
    answer = page.goto(f"{below.address}/{unknown}")
    assert answer
    assert answer.status == 404
    expect(page.get_by_role("heading", name="No such page")).to_be_visible()
    link = page.locator("article").get_by_role("link", name="How KVM on AMD delivers interrupts")
    expect(link).to_have_attribute("href", f"{urlsplit(below.address).path}/book/intro.html")
    page.wait_for_load_state("networkidle")
    assert page.evaluate("getComputedStyle(document.documentElement).getPropertyValue('--km-ink')"), "it has its style"
    link.click()
    expect(page.get_by_role("heading", level=1).last).to_have_text(re.compile("How KVM on AMD delivers interrupts"))
    assert record.elsewhere(below.address.removesuffix("/some/where")) == []


def test_where_it_was_built_for_the_404_page_needs_no_script(context: BrowserContext, tmp_path: Path) -> None:
    path = urlsplit(address()).path
    folder = tmp_path / path.strip("/")
    folder.parent.mkdir(parents=True, exist_ok=True)
    if path == "/":
        folder = BUILT
    else:
        folder.symlink_to(BUILT.resolve())
    with serving(BUILT if path == "/" else tmp_path) as served:
        page = context.new_page()
        record = recorded(page)
        page.goto(f"{served.address}{path}book/nothing.html")
        page.wait_for_load_state("networkidle")
        assert [url for url in record.requests if url.endswith("404.html")] == []
        assert len(record.errors) == 1, "the page's own 404 and no other"
        href = page.get_by_role("link", name="the search").get_attribute("href")
        assert href == f"{path}search.html"


def test_the_search_finds_the_page_on_a_function_on_this_host_only(page: Page, site: Site) -> None:
    open_page(page, site, "book/intro")
    page.locator(".search-button-field").click()
    page.locator("dialog input[type=search]").fill("apic_update_ppr")
    page.keyboard.press("Enter")
    first = page.locator("#search-results li a").first
    expect(first).to_have_text(re.compile("Why is apic_update_ppr still hot"))
    first.click()
    expect(page).to_have_url(re.compile(r"/book/ppr\.html"))


def test_pictures_and_evidence_are_not_text_to_search(page: Page, site: Site) -> None:
    """A word of widgets' pictures and of recorded stacks once made almost every page a result."""
    page.goto(f"{site.address}/search.html?q=entry_SYSCALL_64_after_hwframe")
    results = page.locator("#search-results li")
    expect(page.locator("#search-results .search-summary")).to_contain_text(re.compile("Search finished|did not match"))
    assert results.filter(has_text="How is an interrupt injected at all?").count() == 0, (
        "only its evidence has the word"
    )
    page.goto(f"{site.address}/search.html?q=EVENTINJ")
    line = page.locator("#search-results li", has_text="How is an interrupt injected at all?").locator(".context")
    expect(line).to_contain_text("it writes the vector into the VMCB’s EVENTINJ field")
    expect(line).not_to_contain_text("notebook")
