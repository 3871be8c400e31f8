"""Processors: by name, with features added or hidden, or from what CPUID says."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from kvmmodel.facts import load

SVM_LEAF = 0x8000_000A
SEV_LEAF = 0x8000_001F


@dataclass(frozen=True, slots=True)
class Processor:
    """A CPU by name, with the SVM features that it reports. ``family`` 0: not known.

    ``iommu_posts``: the IOMMU beside it can post interrupts (GAMSup), if there is one.
    """

    name: str
    title: str
    features: frozenset[str]
    family: int = 0
    model: int = 0
    iommu_posts: bool = True


def names() -> tuple[str, ...]:
    """The processors that the facts have."""
    return tuple(load("cpus")["cpu"])


def processor(name: str) -> Processor:
    """A processor by name; "zen3,+avic,-vgif" is one with features shown or hidden.

    ValueError, in one line, for a name or a feature that the facts don't have.
    """
    known = load("cpus")["cpu"]
    base, *changes = name.split(",")
    if base not in known:
        raise ValueError(f"unknown CPU {base!r}: expected one of {', '.join(known)}")
    row = known[base]
    features, posts = frozenset(row["features"]), row.get("iommu_posts", True)
    found = Processor(base, row["title"], features, row["family"], row["model"], posts)
    for change in changes:
        if change[:1] not in ("+", "-"):
            raise ValueError(f"CPU {name!r}: expected +FEATURE or -FEATURE after the comma, got {change!r}")
        found = show(found, [change[1:]]) if change[0] == "+" else hide(found, [change[1:]])
    return found


def show(cpu: Processor, features: Iterable[str]) -> Processor:
    """The same processor, reporting these features too. ValueError for one that the facts don't have."""
    added = frozenset(_known(features))
    return replace(cpu, name=_named(cpu, "+", added - cpu.features), features=cpu.features | added)


def hide(cpu: Processor, features: Iterable[str]) -> Processor:
    """The same processor without these features. ValueError for one that the facts don't have."""
    removed = frozenset(_known(features))
    return replace(cpu, name=_named(cpu, "-", removed & cpu.features), features=cpu.features - removed)


def from_cpuid(edx: int, ecx: int = 0, sev_eax: int = 0, family: int = 0, model: int = 0) -> Processor:
    """The processor that reports these: EDX and ECX of CPUID 8000_000A, EAX of 8000_001F. It has a PMU."""
    registers = {(SVM_LEAF, "edx"): edx, (SVM_LEAF, "ecx"): ecx, (SEV_LEAF, "eax"): sev_eax}
    rows = load("cpus")["feature"].items()
    has = {name for name, row in rows if registers[row["leaf"], row["register"]] >> row["bit"] & 1}
    title = f"CPUID 8000_000A EDX {edx:#010x}"
    return Processor("cpuid", title, frozenset(has | {"pmu"}), family, model)


def generation(cpu: Processor) -> str | None:
    """Which of the kernel's ZenX flags is set; None: none."""
    for name, row in load("cpus")["generation"].items():
        if cpu.family == row["family"] and any(low <= cpu.model <= high for low, high in row["models"]):
            return str(name)
    return None


def _known(features: Iterable[str]) -> list[str]:
    facts = load("cpus")
    wanted = list(features)
    for name in wanted:
        if name not in facts["feature"] and name not in facts["trait"]:
            raise ValueError(
                f"unknown feature {name!r}: expected one of {', '.join([*facts['feature'], *facts['trait']])}"
            )
    return wanted


def _named(cpu: Processor, sign: str, changed: Iterable[str]) -> str:
    return ",".join([cpu.name, *(sign + name for name in sorted(changed))])
