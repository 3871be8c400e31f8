"""Names on a page are looked up in the facts. What is known becomes a link to the page Names; the rest is a warning.

A name is linked where a section mentions it first. Instructions are not linked: readers know them.
"""

from collections.abc import Iterator
from functools import cache
from pathlib import Path

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util import logging

from kvmbook import roles
from kvmbook.known import wrong_in_literal, wrong_in_prose
from kvmbook.prose import imported, pieces
from kvmmodel.facts.names import names

BOOK = Path(__file__).resolve().parents[2]
PAGE = "book/names"
UNLINKED = ("instruction", "file", "commit", "exit")

logger = logging.getLogger(__name__)


def wrong(markdown: str) -> Iterator[tuple[int, str]]:
    """What a page in MyST Markdown calls by a name that nobody knows: the line, and the kind with the name."""
    in_cells = of_cells() | {name for _, name, _ in imported(markdown)}
    for piece in pieces(markdown):
        if piece.kind == "literal":
            found = wrong_in_literal(piece.text) if piece.text.partition("(")[0] not in in_cells else ()
        elif piece.kind == "text":
            found = wrong_in_prose(piece.text)
        else:
            found = roles.wrong(piece.kind, piece.text)
        yield from ((piece.line, phrase) for phrase in found)


@cache
def of_cells() -> frozenset[str]:
    """What the cells of all pages import. They run at each build, so it exists."""
    return frozenset(name for page in BOOK.glob("*.md") for _, name, _ in imported(page.read_text(encoding="utf8")))


def warn(app: Sphinx, docname: str, source: list[str]) -> None:
    path = Path(app.env.doc2path(docname))
    if path.suffix == ".md":
        for line, phrase in wrong(source[0]):
            logger.warning("not in kvmmodel/facts: %s", phrase, location=(docname, line), type="names")


def link(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    if docname == PAGE or PAGE not in app.env.found_docs:
        return
    page = app.builder.get_relative_uri(docname, PAGE)
    seen: set[tuple[int, str]] = set()
    for literal in list(doctree.findall(_may_be_a_name)):
        name = names().get(literal.get("km_name") or literal.astext().removesuffix("()"))
        if name is None or name.kind in UNLINKED or _inside(literal, (nodes.reference, nodes.title)):
            continue
        place = (id(_section(literal)), name.name)
        if place not in seen or "km_name" in literal:  # a value leads to its row each time
            seen.add(place)
            literal.replace_self(reference(f"{page}#{name.anchor}", literal.deepcopy()))


def _may_be_a_name(node: nodes.Node) -> bool:
    return isinstance(node, nodes.literal) or (isinstance(node, nodes.inline) and "km_name" in node)


def reference(address: str, shown: nodes.Node) -> nodes.reference:
    return nodes.reference("", "", shown, internal=True, refuri=address, classes=["km-name"])


def _inside(node: nodes.Node, kinds: tuple[type, ...]) -> bool:
    while node.parent is not None:
        node = node.parent
        if isinstance(node, kinds):
            return True
    return False


def _section(node: nodes.Node) -> nodes.Node:
    while node.parent is not None and not isinstance(node, nodes.section):
        node = node.parent
    return node
