"""Module parameters: what a release has, which values it takes, and how sysfs spells them.

Values are bools and numbers; "auto" is one only until the modules are loaded. Which of them a processor then switches
off is machine/hardware_setup.py.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from kvmmodel.facts import load
from kvmmodel.facts.cpus import Processor, processor
from kvmmodel.facts.releases import Kernel, version

__all__ = ["AUTO", "Processor", "asked", "kind_of", "module_of", "processor", "spell", "unsafe"]

AUTO = "auto"
RANGES = {"int": (-(1 << 31), (1 << 31) - 1), "uint": (0, (1 << 32) - 1)}
# kstrtobool looks at the first letter, and of o at the second. With the first series that has them. e and d were read
# in 6.18.35 and are not in 6.6.9; t and f are in 6.6.9, and in 6.1 recalled.
TRUE = (("y", "5.10"), ("1", "5.10"), ("on", "5.10"), ("t", "6.1"), ("e", "6.18"))
FALSE = (("n", "5.10"), ("0", "5.10"), ("of", "5.10"), ("f", "6.1"), ("d", "6.18"))


def asked(kernel: Kernel, wanted: dict[str, Any]) -> dict[str, Any]:
    """The parameters while the modules load: ``wanted``, else the defaults.

    A value is a bool, a number, or a text as one would write it into modprobe.conf. ValueError, in one line, for a
    parameter that this release does not have, and for a value that it would not take.
    """
    here = {name: kind for name in load("params") if (kind := kind_of(name, kernel)) is not None}
    for name in wanted:
        if name not in here:
            known = ", ".join(here)
            raise ValueError(f"kernel {kernel.release} has no parameter {name!r} in the model: expected one of {known}")
    return {
        name: _parse(name, kind, wanted[name], kernel)
        if name in wanted
        else _at(load("params")[name]["default"], kernel)
        for name, kind in here.items()
    }


def kind_of(name: str, kernel: Kernel) -> str | None:
    """The parameter's type in this release: bool, int, uint or auto; None: it has no such parameter."""
    row = load("params")[name]
    if "until" in row and version(kernel.series) >= version(row["until"]):
        return None
    found = _at(row["type"], kernel)
    return None if found is None else str(found)


def spell(name: str, value: Any, kernel: Kernel) -> str:
    """What cat prints of the parameter's file, without the newline. avic before it is resolved reads as N."""
    if kind_of(name, kernel) in ("int", "uint"):
        return str(int(value))
    return "Y" if value and value != AUTO else "N"


def unsafe(name: str) -> bool:
    """Whether setting it taints the kernel, whatever the value."""
    return bool(load("params")[name].get("unsafe"))


def module_of(name: str) -> str:
    return str(load("params")[name]["module"])


def _at(by_series: dict[str, Any], kernel: Kernel) -> Any:
    """The value of the last series that is not newer; None: all are."""
    value = None
    for since, held in by_series.items():
        if version(kernel.series) >= version(since):
            value = held
    return value


def _parse(name: str, kind: str, value: Any, kernel: Kernel) -> Any:
    if kind in ("bool", "auto"):
        return _switch(name, kind, value, kernel)
    return _number(name, kind, value, kernel)


def _switch(name: str, kind: str, value: Any, kernel: Kernel) -> Any:
    if isinstance(value, str):
        if value == AUTO and kind == "auto":
            return AUTO
        word = _word(value, kernel)
        if word is not None:
            return word
    elif isinstance(value, int) and value in (0, 1):
        return bool(value)
    words = "Y, N or auto" if kind == "auto" else "Y or N"
    raise ValueError(f"parameter {name} is a switch: expected {words} with kernel {kernel.release}, got {value!r}")


def _word(text: str, kernel: Kernel) -> bool | None:
    """What kstrtobool makes of it."""
    for answer, words in ((True, TRUE), (False, FALSE)):
        if any(text.lower().startswith(word) for word, since in words if version(kernel.series) >= version(since)):
            return answer
    return None


def _number(name: str, kind: str, value: Any, kernel: Kernel) -> Any:
    """Y, N and bools do for a switch, too: what is Y or N in one release is 1 or 0 in another."""
    row = load("params")[name]
    switch = bool(row.get("switch"))
    if isinstance(value, bool) and switch:
        return value
    if isinstance(value, str):
        if switch and value in ("Y", "N", "y", "n"):
            return value in ("Y", "y")
        with suppress(ValueError):
            value = int(value, 0)
    if isinstance(value, bool) or not isinstance(value, int):
        wants = "is a switch: expected Y, N or a number" if switch else "takes a number"
        raise ValueError(f"parameter {name} {wants}, got {value!r}")
    least, most = RANGES[kind]
    least = row.get("least", least)
    if not least <= value <= most:
        raise ValueError(f"parameter {name}: expected a number from {least} to {most}, got {value}")
    return value
