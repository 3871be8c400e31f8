"""Plausible bugs, applied to a copy of the model one at a time: the test that mutants.toml names has to fail.

A row says what the bug is, which ``file`` of the package has ``before`` exactly once, what stands there ``after``, and
which ``test`` notices. All those tests pass on a copy without a bug.
"""

import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MUTANTS = tomllib.loads((Path(__file__).parent / "mutants.toml").read_text())
FAILED = 1  # pytest's exit status when tests ran and one failed; 2 and above: it could not run them


@pytest.fixture
def copy(tmp_path):
    """The project with a package of its own that a mutant may change; all else is the same files."""
    shutil.copytree(ROOT / "kvmmodel", tmp_path / "kvmmodel", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("tests", "book", "pyproject.toml"):
        (tmp_path / name).symlink_to(ROOT / name)
    return tmp_path


def run(copy, *tests):
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-p", "no:xdist", *tests]
    environment = {**os.environ, "PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(command, cwd=copy, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("name", MUTANTS)
def test_the_named_test_fails_with_the_bug(name, copy):
    mutant = MUTANTS[name]
    path = copy / "kvmmodel" / mutant["file"]
    source = path.read_text()
    assert source.count(mutant["before"]) == 1
    path.write_text(source.replace(mutant["before"], mutant["after"]))
    done = run(copy, mutant["test"])
    assert done.returncode == FAILED, done.stdout + done.stderr


def test_the_named_tests_pass_without_a_bug(copy):
    done = run(copy, *{mutant["test"] for mutant in MUTANTS.values()})
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_package_under_test_is_the_copy(copy):
    (copy / "kvmmodel" / "__init__.py").write_text("raise ImportError('the copy')")
    assert "the copy" in run(copy, "tests/test_contract.py").stdout
