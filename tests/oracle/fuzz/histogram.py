"""How often each operation had each outcome. A class is an operation's kind and what came of it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from tests.oracle.fuzz.case import Op

LEAST = 0.01
EINVAL, ENXIO, EEXIST = -22, -6, -17
ERRORS = {-22: "-EINVAL", -6: "-ENXIO", -17: "-EEXIST", -1: "-1"}


@dataclass
class Histogram:
    counts: Counter[tuple[str, str]] = field(default_factory=Counter)

    @property
    def operations(self) -> int:
        return self.counts.total()

    def add(self, op: Op, result: object) -> None:
        self.counts[classify(op, result)] += 1

    def rare(self) -> list[str]:
        """Classes that are fewer than one in a hundred."""
        total = self.operations
        return [f"{name}: {outcome}" for (name, outcome), n in sorted(self.counts.items()) if n < LEAST * total]

    def __str__(self) -> str:
        total = self.operations
        rows = [f"  {n:8}  {n / total:6.1%}  {name}: {outcome}" for (name, outcome), n in sorted(self.counts.items())]
        return "\n".join([f"{total} operations, {len(rows)} classes:", *rows])


def classify(op: Op, result: object) -> tuple[str, str]:
    name = op[0]
    if name == "guest":
        return _guest(op, result)
    if name in ("wrmsr", "rdmsr"):
        taken = result is not None if name == "rdmsr" else result == 1
        return f"{name} {_msr(op[2])}", "taken" if taken else "refused"
    if isinstance(result, int) and name in ("msi", "line"):
        return name, ERRORS.get(result, "2 and more" if result > 1 else str(result))
    return name, ERRORS.get(result, str(result))  # type: ignore[call-overload, no-any-return]


def _msr(index: int) -> str:
    return "of the x2APIC" if 0x800 <= index < 0x900 else "other"


def _guest(op: Op, result: object) -> tuple[str, str]:
    """By the device that the instruction reaches, and by what happened besides."""
    instruction = op[2]
    where = ""
    if instruction in ("read", "write"):
        where = " local APIC" if op[3] >> 12 == 0xFEE00 else " IOAPIC"
    _, happened = result  # type: ignore[misc]
    names = {"NMI" if h == 2 else h if isinstance(h, str) else h[0] if isinstance(h, tuple) else "vector" for h in happened}
    return f"guest {instruction}{where}", " and ".join(sorted(names)) or "done"
