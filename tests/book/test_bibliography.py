"""The list of sources has what pages and facts name, and each page's Sources lead to it."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from pybtex.database import parse_file

ROOT = Path(__file__).parents[2]
ENTRIES = parse_file(str(ROOT / "book" / "references.bib")).entries
PAGES = [page for page in sorted((ROOT / "book").glob("*.md")) if "\n## Sources\n" in page.read_text(encoding="utf8")]
COMMIT = re.compile(r"\b(?=[0-9a-f]*[a-f])(?=[0-9a-f]*\d)[0-9a-f]{12}\b")
NAMED = " ".join(entry.fields["title"] for entry in ENTRIES.values())
LISTS = {"kernel", "commit", "mail", "document", "program", "report"}


def test_every_commit_that_pages_and_facts_name_is_listed() -> None:
    """Not those in a fact's prose: some hashes there are recalled."""
    found = {commit for page in PAGES for commit in COMMIT.findall(page.read_text(encoding="utf8"))}
    for changes in (ROOT / "kvmmodel" / "facts" / "changes").glob("*.toml"):
        for change in tomllib.loads(changes.read_text(encoding="utf8"))["change"]:
            found.update(COMMIT.findall(change.get("commit", "")))
    assert len(found) > 30
    assert found <= set(COMMIT.findall(NAMED))


def test_every_kernel_that_was_read_or_recorded_is_listed() -> None:
    facts = tomllib.loads((ROOT / "kvmmodel" / "facts" / "kernels.toml").read_text(encoding="utf8"))
    assert {f"linux-{release}" for release in [*facts["series"].values(), *facts["recorded"]]} <= set(ENTRIES)


def test_every_entry_says_how_it_was_read_and_is_on_one_list() -> None:
    for key, entry in ENTRIES.items():
        assert entry.fields["note"].strip(), key
        assert entry.fields["keywords"] in LISTS, key
    page = (ROOT / "book" / "bibliography.md").read_text(encoding="utf8")
    assert set(re.findall(r'keywords % "(\w+)"', page)) == LISTS


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_s_sources_lead_to_the_list(page: Path) -> None:
    sources = page.read_text(encoding="utf8").rsplit("\n## Sources\n", 1)[1]
    keys = [key for group in re.findall(r"{cite}`([^`]+)`", sources) for key in group.split(",")]
    assert keys
    assert set(keys) <= set(ENTRIES)
    assert len(set(keys)) == len(keys)
