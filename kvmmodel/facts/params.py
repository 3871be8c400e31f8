"""Module parameters and CPUs: what sysfs would show for a CPU, a release and what was asked for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from kvmmodel.facts import load
from kvmmodel.facts.releases import Kernel, at


@dataclass(frozen=True, slots=True)
class Processor:
    """A CPU by name, with the SVM features that it reports."""

    name: str
    title: str
    features: frozenset[str]


def processor(name: str) -> Processor:
    """ValueError, in one line, for a name that the facts don't have."""
    known = load("cpus")["cpu"]
    if name not in known:
        raise ValueError(f"unknown CPU {name!r}: expected one of {', '.join(known)}")
    return Processor(name, known[name]["title"], frozenset(known[name]["features"]))


def resolve(cpu: Processor, kernel: Kernel, asked: dict[str, Any]) -> dict[str, Any]:
    """The parameters as they are once the modules are loaded. ValueError for one that this release does not have."""
    table = load("params")
    here = {name: at(row["default"], kernel, row.get("until")) for name, row in table.items()}
    for name in asked:
        if here.get(name) is None:
            names = ", ".join(n for n, v in here.items() if v is not None)
            raise ValueError(f"kernel {kernel.release} has no parameter {name!r} in the model: expected one of {names}")
    found = {name: asked.get(name, value) for name, value in here.items() if value is not None}
    for name, value in found.items():
        wants_number = isinstance(here[name], int) and not isinstance(here[name], bool)
        if wants_number and (isinstance(value, bool) or not isinstance(value, int)):
            raise ValueError(f"parameter {name} takes a number, got {value!r}")
        if isinstance(here[name], bool) and value not in (0, 1):
            raise ValueError(f"parameter {name} is a switch: expected Y or N, got {value!r}")
        least = table[name].get("least", 0)
        if wants_number and not least <= value < 1 << 31:
            raise ValueError(f"parameter {name}: expected a number from {least} to {(1 << 31) - 1}, got {value}")
    if found["avic"] == "auto":
        found["avic"] = "x2avic" in cpu.features
    for name, row in table.items():
        if name in found and not set(row.get("needs", ())) <= cpu.features:
            found[name] = False
    for name, row in table.items():
        if name in found and not all(found.get(other, True) for other in row.get("requires", ())):
            found[name] = False
    return found
