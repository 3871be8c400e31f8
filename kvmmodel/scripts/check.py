"""Whether a line of a script file is in the format: each operation's arguments, and what the results are made of.

What lies outside the format, but not outside the model, passes: MOV to CR8 with IF clear, a script without ``end``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

IOAPIC_PINS = 24
IOAPIC = ("irr", "rte20", "rte21")
Argument = tuple[str, Callable[[Any], bool]]


def _number(what: str, last: int, first: int = 0) -> Argument:
    return f"{what} from {first} to {last}", lambda v: type(v) is int and first <= v <= last


def _word(*words: str) -> Argument:
    return " or ".join(words), lambda v: isinstance(v, str) and v in words


VECTOR, PIN, SWITCH = _number("a vector", 255), _number("a pin", IOAPIC_PINS - 1), _number("a number", 1)
ARGUMENTS: dict[str, tuple[Argument, ...]] = {
    "self_ipi": (VECTOR,),
    "icr_self_physical": (VECTOR,),
    "icr_self_shorthand": (VECTOR,),
    "nmi": (),
    "cli": (),
    "sti": (),
    "cr8": (_number("a number", 15),),
    "read_cr8": (),
    "tpr": (_number("a number", 255),),
    "read_ppr": (),
    "eoi": (),
    "svr": (SWITCH,),
    "pv_eoi": (SWITCH,),
    "handler": (_number("a class of vectors", 15), _word("eoi", "none", "eoi_first", "nest")),
    "snap": (),
    "msi_edge": (VECTOR,),
    "msi_level": (VECTOR,),
    "rte": (PIN, VECTOR, _word("edge", "level"), _word("open", "masked")),
    "line": (PIN, _word("pulse", "lower")),
    "end": (),
}


def check(script: Any) -> None:
    """ValueError, in one line, for what is no script."""
    if not isinstance(script, dict):
        raise ValueError(f"got {_short(script)}")
    for key in ("ops", "results"):
        if key not in script:
            raise ValueError(f"no {key!r}")
        if not isinstance(script[key], list):
            raise ValueError(f"{key} is a list, got {_short(script[key])}")
    for number, op in enumerate(script["ops"]):
        _operation(op, f"operation {number}")
        if op == ["end"] and number != len(script["ops"]) - 1:
            raise ValueError(f"operation {number}: the guest stops at end, so nothing can follow it")
    if not script["results"]:
        raise ValueError("no results to compare with")
    named = [kernel for row in script["results"] for kernel in _kernels(row)]
    if len(set(named)) != len(named):
        raise ValueError(f"two results of one kernel among {', '.join(named)}")


def _operation(op: Any, where: str) -> None:
    if not isinstance(op, list) or not op or not isinstance(op[0], str):
        raise ValueError(f"{where}: expected a list that begins with a name, got {_short(op)}")
    if op[0] not in ARGUMENTS:
        raise ValueError(f"{where}: unknown operation {op[0]!r}, expected one of {', '.join(ARGUMENTS)}")
    wanted = ARGUMENTS[op[0]]
    if len(op) - 1 != len(wanted) or not all(fits(value) for value, (_, fits) in zip(op[1:], wanted, strict=True)):
        raise ValueError(
            f"{where}: {op[0]} takes {', '.join(what for what, _ in wanted) or 'nothing'}, got {_short(op)}"
        )


def _kernels(row: Any) -> list[str]:
    """The kernels of a result, which is looked at otherwise."""
    if not isinstance(row, dict):
        raise ValueError(f"a result is an object, got {_short(row)}")
    for key, kind in (("kernels", list), ("guest", list), ("host", list), ("ioapic", dict)):
        if not isinstance(row.get(key), kind):
            raise ValueError(
                f"a result has {key}, {'an object' if kind is dict else 'a list'}, got {_short(row.get(key))}"
            )
    kernels: list[Any] = row["kernels"]
    if not kernels or not all(isinstance(kernel, str) for kernel in kernels):
        raise ValueError(f"kernels are releases, as texts, got {_short(kernels)}")
    if not all(key in IOAPIC and type(value) is int for key, value in row["ioapic"].items()):
        raise ValueError(f"ioapic has the numbers {', '.join(IOAPIC)}, got {_short(row['ioapic'])}")
    return kernels


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
