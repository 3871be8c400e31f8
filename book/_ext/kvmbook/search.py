"""The search looks at what authors wrote and runs printed: not at pictures, evidence, and code that a page hides.

Sphinx's own search does the rest, in the reader's browser, from one index beside the pages.
"""

from pathlib import Path

from docutils import nodes
from myst_nb.sphinx_ import HideCodeCellNode
from sphinx.application import Sphinx
from sphinx.builders.html import StandaloneHTMLBuilder
from sphinx.config import Config

SCRIPT = Path(__file__).with_name("search.js")
SCORER = Path(__file__).with_name("scorer.js")


def rank(app: Sphinx, config: Config) -> None:
    config.html_search_scorer = str(SCORER)


def index_what_counts(app: Sphinx) -> None:
    """Sphinx offers no hook between a page and the index, so the builder's own step is wrapped."""
    builder = app.builder
    if not isinstance(builder, StandaloneHTMLBuilder):
        return
    plain = builder.index_page

    def index_page(pagename: str, doctree: nodes.document, title: str) -> None:
        plain(pagename, without_pictures(doctree), title)

    builder.index_page = index_page


def without_pictures(doctree: nodes.document) -> nodes.document:
    """A copy without cells' HTML and hidden code."""
    copy = doctree.deepcopy()
    for hidden in list(copy.findall(HideCodeCellNode)):
        hidden.parent.remove(hidden)
    for output in list(copy.findall(nodes.container)):
        if output.get("nb_element") == "cell_code_output":
            for raw in list(output.findall(nodes.raw)):
                raw.parent.remove(raw)
    return copy


def add_script(app: Sphinx, pagename: str, templatename: str, context: dict, doctree: nodes.document | None) -> None:
    if pagename == "search":
        app.add_js_file(None, body=SCRIPT.read_text(encoding="utf8"))
