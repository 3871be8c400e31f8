"""Kernel functions that appear in call stacks of this subsystem: a typed view of functions.toml."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from kvmmodel.facts import load

MODULES = ("kvm", "kvm_amd", "irqbypass", "kernel")


@dataclass(frozen=True, slots=True)
class Function:
    """One row. ``seen`` and ``graph`` name the recorded releases, ``also`` the name from a release on."""

    name: str
    module: str
    file: str
    does: str
    seen: tuple[str, ...] = ()
    graph: tuple[str, ...] = ()
    also: tuple[tuple[str, str], ...] = ()

    @property
    def is_kvm(self) -> bool:
        return self.module in ("kvm", "kvm_amd")


def _function(name: str, row: Mapping[str, Any]) -> Function:
    extra = set(row) - {"module", "file", "does", "seen", "graph", "also"}
    if extra or row["module"] not in MODULES:
        raise ValueError(f"functions.toml, {name}: {', '.join(extra) or row['module']}")
    seen, graph = tuple(row.get("seen", ())), tuple(row.get("graph", ()))
    return Function(name, row["module"], row["file"], row["does"], seen, graph, tuple(row.get("also", {}).items()))


FUNCTIONS: Mapping[str, Function] = MappingProxyType(
    {name: _function(name, row) for name, row in load("functions")["fn"].items()}
)
