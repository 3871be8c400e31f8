"""The model's error numbers are Linux's wherever it runs."""

import ast
import errno
from pathlib import Path

import kvmmodel
from kvmmodel.kvm import errno as linux

NAMES = [name for name in vars(linux) if name.isupper()]


def test_they_are_linux_s():
    assert {name: getattr(linux, name) for name in NAMES} == {name: getattr(errno, name) for name in NAMES}
    assert len(NAMES) >= 5


def test_nothing_else_takes_python_s():
    """On a page's Pyodide a refused hypercall gave -28."""
    for path in Path(kvmmodel.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [node.module] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            assert "errno" not in names, path
