"""Facts: data, not code.

What the kernel, the processor and the recordings say lives in TOML files in this folder: one row, one place. The model,
the tools and the book read the same rows. This module only loads files; typed views of them are modules beside it.
"""

import tomllib
from functools import cache
from importlib import resources
from typing import Any


@cache
def load(name: str) -> dict[str, Any]:
    """Return the contents of `name`.toml, "folder/file" too. The dict is shared between callers: do not change it."""
    return tomllib.loads(resources.files(__name__).joinpath(f"{name}.toml").read_text(encoding="utf-8"))


def files(folder: str = "") -> tuple[str, ...]:
    """The names that `load` takes for the TOML files of a folder, or of this one, in order."""
    root = resources.files(__name__)
    found = (entry.name for entry in (root.joinpath(folder) if folder else root).iterdir())
    prefix = f"{folder}/" if folder else ""
    return tuple(sorted(prefix + name.removesuffix(".toml") for name in found if name.endswith(".toml")))
