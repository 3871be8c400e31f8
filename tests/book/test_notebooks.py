"""A page as a notebook: its text plain, its cells as they are, its links where a reader of the notebook can follow."""

from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nbformat
import pytest
from docutils import nodes
from myst_nb.core.read import read_myst_markdown_notebook
from myst_parser.config.main import MdParserConfig

from kvmbook import notebooks, plain
from kvmbook.notebooks import BookLinks, convert, in_markdown, note

BOOK = Path(__file__).resolve().parents[2] / "book"
PAGES = sorted(BOOK.glob("*.md"))
PAGE = """---
live: true
---

# Why `f`?

See [](ipi.md), [](ipi.md#the-fast-path) and [](words.md).

```{code-cell} ipython3
:tags: [hide-input, raises-exception]
f()
```
"""


def title(*parts: nodes.Node) -> nodes.title:
    return nodes.title("", "", *parts)


@dataclass
class Env:
    """What of Sphinx's environment a link needs."""

    all_docs: set[str] = field(default_factory=lambda: {"book/ppr", "book/ipi", "book/words"})
    metadata: dict[str, Any] = field(
        default_factory=lambda: {"book/ipi": {"myst_slugs": {"the-fast-path": (9, "the-fast-path", "The fast path")}}}
    )
    domaindata: dict[str, Any] = field(default_factory=lambda: {"std": {"labels": {}}})
    titles: dict[str, nodes.title] = field(
        default_factory=lambda: {
            "book/ppr": title(nodes.Text("Why "), nodes.literal("", "f"), nodes.Text("?")),
            "book/ipi": title(nodes.Text("The life of an IPI")),
            "book/words": title(nodes.Text("Words")),
        }
    )


def links() -> BookLinks:
    return BookLinks(Env(), "book/ppr")  # type: ignore[arg-type]


def read(text: str) -> nbformat.NotebookNode:
    return read_myst_markdown_notebook(text, config=MdParserConfig())


def made(text: str = PAGE) -> nbformat.NotebookNode:
    return convert(read(text), "What this is.", links(), {})


def test_the_first_cells_say_what_it_is_and_bring_the_style() -> None:
    first, style = made().cells[:2]
    assert (first.cell_type, first.source) == ("markdown", "What this is.")
    assert "style()" in style.source
    assert style.metadata.jupyter.source_hidden


def test_the_text_is_plain_and_leads_to_notebooks_beside() -> None:
    text = made().cells[2].source
    assert (
        text
        == "# Why `f`?\n\nSee [The life of an IPI](ipi.ipynb), [The fast path](ipi.ipynb) and [Words](words.ipynb)."
    )


def test_published_it_leads_to_the_site(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BOOK_URL", "https://example.org/kvm")
    text = made().cells[2].source
    assert "[The life of an IPI](https://example.org/kvm/book/ipi.html)" in text
    assert "[The fast path](https://example.org/kvm/book/ipi.html#the-fast-path)" in text
    assert "[Words](https://example.org/kvm/book/words.html)" in text
    assert links().resolve("../_static/x.svg") == ("", "https://example.org/kvm/_static/x.svg")


def test_a_code_cell_keeps_its_tags_and_hides_its_source_in_jupyterlab() -> None:
    cell = made().cells[3]
    assert cell.source == "f()"
    assert cell.metadata == {"tags": ["hide-input", "raises-exception"], "jupyter": {"source_hidden": True}}
    assert cell.outputs == []


def test_the_same_page_gives_the_same_file() -> None:
    assert nbformat.writes(made()) == nbformat.writes(made())


def test_the_note_names_page_version_and_what_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    wheel = SimpleNamespace(name="kvmmodel-0.1.0-py3-none-any.whl")
    monkeypatch.setattr(notebooks.assets, "wheel", lambda: wheel)
    text = note(in_markdown(Env().titles["book/ppr"]), "book/ppr")
    assert "“Why `f`?”" in text
    assert "kvmmodel 0.1.0" in text
    assert f"`pip install {wheel.name} jupyterlab`" in text
    assert "\n" not in text
    monkeypatch.setenv("BOOK_URL", "https://example.org/kvm")
    text = note("Why?", "book/ppr")
    assert "[Why?](https://example.org/kvm/book/ppr.html)" in text
    assert f"`pip install https://example.org/kvm/_static/{wheel.name} jupyterlab`" in text


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_every_page_becomes_a_valid_notebook_with_the_page_s_own_code(
    monkeypatch: pytest.MonkeyPatch, path: Path
) -> None:
    """The build runs each page's cells, so a notebook with the same cells runs, too."""
    monkeypatch.setitem(plain.ROLES, "result", str)  # its numbers are there only after `make results`
    page = read(path.read_text(encoding="utf8"))
    notebook = convert(page, "What this is.", links(), {"going_live": "16 MB", "wheel": "a wheel"})
    nbformat.validate(notebook)
    code = [cell.source for cell in page.cells if cell.cell_type == "code"]
    assert [cell.source for cell in notebook.cells if cell.cell_type == "code"][1:] == code
    text = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    for only_in_myst in ("]()", "[](", "```{", ":::", "{{"):
        assert only_in_myst not in text
