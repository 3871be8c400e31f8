"""The numbers of the page "How we know" are those of this code."""

import json
from pathlib import Path

import pytest
from docutils import nodes
from sphinx.errors import ExtensionError

from kvmbook import results

ROOT = Path(__file__).resolve().parents[2]


def test_the_numbers_are_of_the_code_as_it_is() -> None:
    """After a change of the model or of its tests: `make results`."""
    assert results.read()["code"] == results.code_digest(ROOT)


def tree(root: Path) -> Path:
    """A repository of two files, and numbers for it."""
    for name in ("kvmmodel/a.py", "tests/test_a.py"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("1\n")
    file = root / "results.json"
    file.write_text(json.dumps({"code": results.code_digest(root), "fuzz": {"operations": 7}, "rows": [1, 2]}))
    return file


@pytest.mark.parametrize("name", ["kvmmodel/a.py", "kvmmodel/facts/b.toml", "tests/test_a.py", "tests/data/c.json"])
def test_a_change_of_code_makes_the_numbers_old(tmp_path: Path, name: str) -> None:
    file = tree(tmp_path)
    assert results.read(file, tmp_path)["fuzz"] == {"operations": 7}
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).write_text("2\n")
    with pytest.raises(ExtensionError, match=r"results\.json is older than the code that it speaks of: run `make res"):
        results.read(file, tmp_path)


def test_without_numbers_the_book_says_how_to_make_them(tmp_path: Path) -> None:
    with pytest.raises(ExtensionError, match=r"There is no results\.json: run `make results`"):
        results.read(tmp_path / "results.json", tmp_path)


def test_a_value_is_named_by_its_path(tmp_path: Path) -> None:
    found = results.read(tree(tmp_path), tmp_path)
    assert results.at(found, "fuzz.operations") == 7
    assert results.at(found, "#rows") == 2
    with pytest.raises(KeyError):
        results.at(found, "fuzz.classes")


@pytest.mark.parametrize("name", results.TABLES)
def test_a_table_is_one_node_with_a_row_for_each_number(name: str) -> None:
    row = {"name": "a", "equal": 1, "phases": 1, "matched": 2, "unmatched": []}
    script = {"file": "b", "avic": "on", "runs": 3, "equal": 2, "declared": 1}
    found = {"recordings": [row], "scripts": [script], "tests": {"parts": {"kvm": 4}}, "cases": {"skipped": {"c": 5}}}
    made = results.TABLES[name](found)
    assert isinstance(made, nodes.table)
    assert len(list(made.findall(nodes.row))) == 2
