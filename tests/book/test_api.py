"""The reference of calls: what it lists exists and says what it is, and what the package exports is listed."""

import re
from importlib import import_module
from pathlib import Path

import pytest

import kvmmodel
from kvmmodel import explain

PAGE = (Path(__file__).parents[2] / "book" / "api.md").read_text(encoding="utf8")
LISTED = re.findall(r"\.\. auto(?:class|exception|function|method|property|data):: ([\w.]+)", PAGE)


def found(path: str) -> object:
    """An object by its path, which in kvmmodel itself stands without the package."""
    parts = path.split(".") if path.startswith("kvmmodel.") else ["kvmmodel", *path.split(".")]
    for cut in range(len(parts), 0, -1):
        try:
            value: object = import_module(".".join(parts[:cut]))
        except ModuleNotFoundError:
            continue
        for name in parts[cut:]:
            value = getattr(value, name)
        return value
    raise AssertionError(path)


@pytest.mark.parametrize("path", LISTED)
def test_what_is_listed_exists_and_is_described(path):
    value = found(path)
    text = value.__dict__.get("__doc__") if isinstance(value, type) else value.__doc__
    assert text, path
    assert not re.match(r"\w+\(.*\)$", text.splitlines()[0]), (
        f"{path}: a dataclass describes itself by its fields alone"
    )


def test_what_the_package_exports_is_listed():
    of_package = {name for name in kvmmodel.__all__ if not name.startswith("__")}
    of_explain = {f"kvmmodel.explain.{name}" for name in explain.__all__} - {"kvmmodel.explain.Corpus"}
    assert of_package | of_explain <= set(LISTED)
    assert "kvmmodel.explain.match.Corpus" in LISTED


def test_every_call_of_the_guest_is_described():
    guest = found("kvmmodel.machine.vcpu.Guest")
    for name, member in vars(guest).items():
        if not name.startswith("_"):
            assert member.__doc__, name
