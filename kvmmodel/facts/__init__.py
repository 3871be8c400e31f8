"""Facts: data, not code.

What the kernel, the processor and the recordings say lives in TOML files in this folder: one row, one place. The model,
the tools and the book read the same rows. This module only loads a file; typed views of it are modules beside it.
"""

import tomllib
from functools import cache
from importlib import resources
from typing import Any


@cache
def load(name: str) -> dict[str, Any]:
    """Return the contents of `name`.toml. The dict is shared between callers: do not change it."""
    return tomllib.loads(resources.files(__name__).joinpath(f"{name}.toml").read_text(encoding="utf-8"))
