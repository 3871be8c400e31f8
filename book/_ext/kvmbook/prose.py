"""What a page says outside of its cells, piece by piece: literals, roles and the text around them."""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass

from markdown_it import MarkdownIt
from mdit_py_plugins.front_matter import front_matter_plugin

SUBSTITUTION = re.compile(r"\{\{[^}]*\}\}")  # {{ wheel }}: the build puts a value there
ROLE = re.compile(r"\{([A-Za-z]\w*)\}$")
PARSER = MarkdownIt("commonmark").enable("table").use(front_matter_plugin)


@dataclass(frozen=True, slots=True)
class Piece:
    """``kind``: "text", "literal", or the name of a role. ``line`` is where its paragraph or table row begins."""

    kind: str
    text: str
    line: int


def pieces(markdown: str) -> Iterator[Piece]:
    """Those of a page in MyST Markdown, in order. Code cells, directives and HTML are left out."""
    line = 0
    for token in PARSER.parse(markdown):
        line = token.map[0] + 1 if token.map else line
        if token.type == "inline":
            yield from _inline(token.children or [], line)


def _inline(children: list, line: int) -> Iterator[Piece]:
    text, offset = "", 0
    for child in children:
        if child.type == "code_inline":
            role = ROLE.search(text)
            before = text[: role.start()] if role else text
            if before.strip():
                yield Piece("text", before, line)
            yield Piece(role[1] if role else "literal", child.content, line + offset)
            text = ""
        elif child.type in ("softbreak", "hardbreak"):
            offset += 1
            text += "\n"
        else:
            text += SUBSTITUTION.sub("", child.content)
    if text.strip():
        yield Piece("text", text, line)


def imported(markdown: str) -> Iterator[tuple[str, str, int]]:
    """What the cells of a page import: module, name, line of the cell."""
    for token in PARSER.parse(markdown):
        if token.type == "fence" and token.info.startswith("{code-cell}"):
            code = "\n".join(line for line in token.content.splitlines() if not line.startswith(":tags:"))
            for node in ast.walk(ast.parse(code)):
                if isinstance(node, ast.ImportFrom) and node.module:
                    yield from ((node.module, alias.name, (token.map or [0])[0] + 1) for alias in node.names)
