"""Every name that the facts know, with its kind: what a page may mention.

Functions, parameters, inhibits, behaviours and open points have tables of their own; words.toml has the rest. Names of
this package are not here: whoever checks those imports it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType

from kvmmodel.facts import files, load
from kvmmodel.facts.functions import FUNCTIONS, MODULES
from kvmmodel.facts.releases import changes

RELEASE = re.compile(r"(?<![\w.])[3-7]\.\d{1,2}(?:\.\d{1,3})?(?![\w]|\.\d)")
HASH = re.compile(r"\b(?=[0-9a-f]*\d)(?=[0-9a-f]*[a-f])[0-9a-f]{12}\b")


@dataclass(frozen=True, slots=True)
class Name:
    """A name. ``kind``: function, parameter, inhibit, behaviour, open point, or a table of words.toml.

    ``does`` is one plain phrase. ``anchor`` is unique, and made of what may stand in an address.
    """

    name: str
    kind: str
    does: str

    @property
    def anchor(self) -> str:
        return f"{self.kind.replace(' ', '-')}-{re.sub(r'[^0-9A-Za-z_-]', '-', self.name)}"


@cache
def names() -> Mapping[str, Name]:
    """All of them by name. Where two kinds share a name the first of the kinds listed above has it."""
    rows = [Name(name, "function", function.does) for name, function in FUNCTIONS.items()]
    rows += [Name(name, "parameter", row["does"]) for name, row in load("params").items()]
    rows += [Name(name, "inhibit", row["short"]) for name, row in load("inhibits").items()]
    rows += [Name(change.id, "behaviour", change.summary) for change in changes().values()]
    rows += [Name(name, "open point", row["question"]) for name, row in load("open_points").items()]
    rows += [Name(name, kind, row["does"]) for kind, table in load("words").items() for name, row in table.items()]
    return MappingProxyType({row.name: row for row in reversed(rows)})


@cache
def kernel_files() -> frozenset[str]:
    """The kernel's files that the facts name, each by its path."""
    return frozenset(function.file for function in FUNCTIONS.values()) | frozenset(load("words")["file"])


def is_module(name: str) -> bool:
    return name in MODULES


@cache
def releases() -> frozenset[str]:
    """Every kernel release, X.Y or X.Y.Z, that some row names, and the mainline release before each X.Y."""
    named = set(RELEASE.findall(_text()))
    last = load("kernels")["last_minor"]
    for release in [r for r in named if r.count(".") == 1]:
        major, minor = map(int, release.split("."))
        if minor:
            named.add(f"{major}.{minor - 1}")
        elif str(major - 1) in last:
            named.add(f"{major - 1}.{last[str(major - 1)]}")
    return frozenset(named)


@cache
def commits() -> frozenset[str]:
    """Every commit, by the first twelve digits of its hash, that some row names."""
    return frozenset(HASH.findall(_text()))


@cache
def _text() -> str:
    return json.dumps([load(name) for name in (*files(), *files("changes"))])
