"""What the test run wrote down, in the pages: the role ``result`` in a sentence, the directive ``results`` as a table.

The file is book/results.json, written by ``make results``. It names the state of the code that was run, and a book with
numbers of other code does not build.
"""

import hashlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.errors import ExtensionError
from sphinx.util.docutils import SphinxDirective, SphinxRole

ROOT = Path(__file__).resolve().parents[3]
FILE = ROOT / "book" / "results.json"
NOT_RUN = ("tests/browser/", "tests/book/")  # these test the built book, which comes after
CODE = {".py", ".toml", ".json", ".jsonl", ".txt"}


def code_digest(root: Path) -> str:
    """Of the model, and of the tests and recordings that it is compared with."""
    total = hashlib.sha256()
    for path in sorted(p for part in ("kvmmodel", "tests") for p in (root / part).rglob("*") if p.suffix in CODE):
        name = path.relative_to(root).as_posix()
        if not name.startswith(NOT_RUN):
            total.update(f"{name}\0{hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return total.hexdigest()[:16]


def read(file: Path = FILE, root: Path = ROOT) -> dict[str, Any]:
    """The numbers. Errors: ExtensionError if there are none, or if they are another code's."""
    if not file.exists():
        raise ExtensionError(f"There is no {file.name}: run `make results`.")
    found = json.loads(file.read_text(encoding="utf-8"))
    if found["code"] != code_digest(root):
        raise ExtensionError(f"{file.name} is older than the code that it speaks of: run `make results`.")
    return found


def at(results: dict[str, Any], path: str) -> Any:
    """The value at ``a.b``; ``#`` before it: how many there are. Errors: KeyError."""
    value: Any = results
    for name in path.removeprefix("#").split("."):
        value = value[name]
    return len(value) if path.startswith("#") else value


def in_words(path: str) -> str:
    """What the role ``result`` shows."""
    value = at(read(), path)
    return f"{value:,}".replace(",", " ") if isinstance(value, int) else str(value)


class Result(SphinxRole):
    def run(self) -> tuple[list[nodes.Node], list[nodes.system_message]]:
        return [nodes.Text(in_words(self.text))], []


def table(heads: Sequence[str], rows: Iterable[Sequence[Any]]) -> nodes.table:
    made = nodes.table(classes=["km-results"])
    group = nodes.tgroup(cols=len(heads))
    group += [nodes.colspec(colwidth=1) for _ in heads]
    group += nodes.thead("", _row(heads))
    group += nodes.tbody("", *map(_row, rows))
    made += group
    return made


def _row(cells: Sequence[Any]) -> nodes.row:
    return nodes.row("", *(nodes.entry("", nodes.paragraph("", str(cell))) for cell in cells))


def recordings(found: dict[str, Any]) -> nodes.table:
    heads = "recording", "phases equal", "distinct stacks that a run had", "not"
    rows = (
        (r["name"], f"{r['equal']} of {r['phases']}", r["matched"], len(r["unmatched"])) for r in found["recordings"]
    )
    return table(heads, rows)


def scripts(found: dict[str, Any]) -> nodes.table:
    heads = "programs", "AVIC", "runs", "equal", "differ by a declared row"
    return table(heads, ((s["file"], s["avic"], s["runs"], s["equal"], s["declared"]) for s in found["scripts"]))


def tests(found: dict[str, Any]) -> nodes.table:
    return table(("tests of", "passed or skipped"), found["tests"]["parts"].items())


def left_out(found: dict[str, Any]) -> nodes.table:
    return table(("why a case of another project is not run", "cases"), found["cases"]["skipped"].items())


TABLES = {"recordings": recordings, "scripts": scripts, "tests": tests, "cases-left-out": left_out}


class Results(SphinxDirective):
    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        name = self.arguments[0]
        if name not in TABLES:
            raise self.error(f"no table {name!r}: one of {', '.join(TABLES)}")
        self.env.note_dependency(str(FILE))
        return [TABLES[name](read())]


def setup(app: Sphinx) -> None:
    app.add_role("result", Result())
    app.add_directive("results", Results)
