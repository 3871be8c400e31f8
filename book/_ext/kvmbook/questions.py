"""The table of what was asked, and of the sections that answer it: the directive ``questions``.

``{questions} notes`` or ``{questions} users`` shows that list of ``questions.toml``, which stands beside the page. A
target there is "page: heading" or "page". The links are ordinary ones, so a section that is missing is a warning of
the build.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from html import escape
from pathlib import Path

from docutils import nodes
from docutils.parsers.rst import directives
from docutils.statemachine import StringList
from myst_parser.mdit_to_docutils.base import default_slugify
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

FILE = Path(__file__).resolve().parents[2] / "questions.toml"


@dataclass(frozen=True, slots=True)
class Target:
    """A page by its file's name without ``.md``, and a heading of it as written there, or none for the whole page."""

    page: str
    heading: str | None

    def link(self) -> str:
        """The link in MyST's Markdown; its text is the heading."""
        if self.heading is None:
            return f"[]({self.page}.md)"
        return f"[](<{self.page}.md#{default_slugify(self.heading.replace('`', ''))}>)"


@dataclass(frozen=True, slots=True)
class Question:
    """One row. ``said`` is a line of the notes in its own language, ``number`` a user's question's; one of them is
    set. A source is (text, address), the address empty where there is none to give."""

    said: str
    number: int
    text: str
    answer: str
    to: tuple[Target, ...]
    sources: tuple[tuple[str, str], ...]


def target(text: str) -> Target:
    page, colon, heading = text.partition(": ")
    return Target(page, heading if colon else None)


def read(path: Path) -> dict[str, list[Question]]:
    """Both lists, "notes" and "users". Errors: KeyError for a row that lacks something."""
    data = tomllib.loads(path.read_text(encoding="utf8"))
    notes = [
        Question(row["said"], 0, row["english"], row["answer"], tuple(map(target, row["to"])), ())
        for row in data["notes"]
    ]
    users = [
        Question(
            "",
            row["number"],
            row["asks"],
            row["answer"],
            tuple(map(target, row["to"])),
            tuple((text, address) for text, address in row["sources"]),
        )
        for row in data["users"]
    ]
    return {"notes": notes, "users": users}


class Questions(SphinxDirective):
    """The rows of one list as a table: what was asked on the left, the answer and its sections on the right."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        which = directives.choice(self.arguments[0], ("notes", "users"))
        path = Path(self.env.doc2path(self.env.docname)).parent / "questions.toml"
        self.env.note_dependency(str(path))
        body = nodes.tbody()
        for question in read(path)[which]:
            cells = [self.cell(asked(question)), self.cell(answered(question))]
            if question.said:
                html = f'<p lang="zh">{escape(question.said)}</p>'
                cells[0].insert(0, nodes.raw("", html, format="html"))
            body += nodes.row("", *cells)
        head = nodes.thead("", nodes.row("", *(self.cell([text]) for text in ("asked", "answered"))))
        group = nodes.tgroup("", *(nodes.colspec(colwidth=width) for width in (40, 60)), head, body, cols=2)
        return [nodes.table("", group, classes=["km-questions", "colwidths-given"])]

    def cell(self, paragraphs: list[str]) -> nodes.entry:
        entry = nodes.entry()
        lines = StringList("\n\n".join(paragraphs).splitlines(), self.get_source_info()[0])
        self.state.nested_parse(lines, self.content_offset, entry)
        return entry


def asked(question: Question) -> list[str]:
    text = f"**{question.number}.** {question.text}" if question.number else question.text
    links = [f"[{name}]({address})" if address else name for name, address in question.sources]
    return [text, f"*{'; '.join(links)}*"] if links else [text]


def answered(question: Question) -> list[str]:
    links = [f"{goal.link()} ({goal.page})" if goal.heading else goal.link() for goal in question.to]
    return [question.answer, "→ " + " · ".join(links)]


def as_markdown(which: str, path: Path = FILE) -> str:
    """The same table for places that have no directives. Its links are the book's."""
    rows = [([q.said] if q.said else []) + asked(q) for q in read(path)[which]]
    answers = [answered(q) for q in read(path)[which]]
    lines = [f"| {_in_cell(left)} | {_in_cell(right)} |" for left, right in zip(rows, answers, strict=True)]
    return "\n".join(["| asked | answered |", "|---|---|", *lines])


def _in_cell(paragraphs: list[str]) -> str:
    return "<br>".join(" ".join(text.split()).replace("|", "\\|") for text in paragraphs)


def setup(app: Sphinx) -> None:
    app.add_directive("questions", Questions)
