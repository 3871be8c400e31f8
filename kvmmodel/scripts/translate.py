"""A script's operations as a program of the scenario language, and what userspace does at each of its exits.

A file has one script a line, as JSON: ``ops`` is the program, ``results`` what real kernels did with it: for each group
of ``kernels`` the guest's log (``guest``), what userspace recorded (``host``) and the IOAPIC's end (``ioapic``).
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import Any

from kvmmodel.guest.program import MSR_NAMES
from kvmmodel.scripts.check import check
from kvmmodel.silicon import apic as hw

PV_EOI_CELL = 0x5000
PORT_HOST, PORT_END = 0xE1, 0xE2
HANDLERS = {
    "eoi": ("log enter", "pv_eoi", "log leave"),
    "eoi_first": ("log enter", "pv_eoi", "nop", "log leave"),
    "none": ("log enter", "nop", "log leave"),
    "nest": ("log enter", "sti", "nop", "nop", "cli", "pv_eoi", "log leave"),
    "nmi": ("log nmi",),
}
SET_UP = ("wrmsr APIC_BASE 0xfee00d00", "wrmsr SVR 0x1ff", "wrmsr TPR 0")


class ScriptError(ValueError):
    """A line that is not a script: where, and what was expected."""


@dataclass(frozen=True, slots=True)
class Result:
    """What some kernels did: the logs as lists of lists, as in the file."""

    kernels: tuple[str, ...]
    guest: list[Any]
    host: list[Any]
    ioapic: dict[str, int]


@dataclass(frozen=True, slots=True)
class Script:
    """``program`` in the scenario language; ``exits`` in the order in which the guest exits to userspace.

    ``xapic``: the guest leaves its APIC in xAPIC mode, and its CPUID has no x2APIC.
    """

    index: int
    program: tuple[str, ...]
    exits: tuple[tuple[Any, ...], ...]
    results: tuple[Result, ...]
    xapic: bool = False


def read(text: str, name: str) -> list[Script]:
    """Every script of a file. ScriptError names the line."""
    scripts: list[Script] = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            data = json.loads(line)
            check(data)
            program, exits = translate(data["ops"])
            results = tuple(Result(tuple(r["kernels"]), r["guest"], r["host"], r["ioapic"]) for r in data["results"])
        except (ValueError, RecursionError) as error:
            raise ScriptError(f"{name}, line {number}: expected a script with ops and results: {error}") from None
        scripts.append(Script(len(scripts), program, exits, results))
    if not scripts:
        raise ScriptError(f"{name}: no script in it, expected one JSON object a line")
    return scripts


def translate(ops: list[list[Any]]) -> tuple[tuple[str, ...], tuple[tuple[Any, ...], ...]]:
    """The program's lines, and for each exit to userspace what the script wants there."""
    program, exits = list(SET_UP), list[tuple[Any, ...]]()
    for op in ops:
        lines, wanted = _translate(op[0], op[1:])
        program += lines
        if wanted is not None:
            exits.append(wanted)
    return tuple(program), tuple(exits)


_SIMPLE = {
    "self_ipi": "wrmsr SELF_IPI {}",
    "icr_self_physical": "wrmsr ICR {}",
    "nmi": "wrmsr ICR 0x4400",
    "cli": "cli",
    "cr8": "write_cr8 {}",
    "tpr": "wrmsr TPR {}",
    "eoi": "wrmsr EOI 0",
}
_AT_EXIT = ("snap", "msi_edge", "msi_level", "rte", "line")
_EXIT = f"out {PORT_HOST} 0"


def _translate(op: str, args: list[Any]) -> tuple[list[str], tuple[Any, ...] | None]:
    if op in _SIMPLE:
        return [_SIMPLE[op].format(*args)], None
    if op in _AT_EXIT:
        return [_EXIT], (op, *args)
    if op == "icr_self_shorthand":
        return [f"wrmsr ICR {0x40000 | args[0]}"], None
    if op == "sti":
        return ["sti", "nop", "nop"], None
    if op == "read_cr8":
        return ["read_cr8", "log_result cr8"], None
    if op == "read_ppr":
        return ["rdmsr PPR", "log_result ppr"], None
    if op == "svr":
        return [f"wrmsr SVR {0x1FF if args[0] else 0xFF}"], None
    if op == "handler":
        first = args[0] << 4
        return [f"handler {first}-{first + 15} {args[1]}"], None
    if op == "pv_eoi":
        if args[0]:
            return [f"pv_eoi_on {PV_EOI_CELL}"], None
        return ["pv_eoi_forget", _EXIT, "wrmsr PV_EOI_EN 0"], ("nothing",)
    if op == "end":
        return [_EXIT, f"out {PORT_END} 0"], ("snap",)
    raise ValueError(f"unknown operation {op!r}")


def in_xapic_mode(script: Script) -> Script:
    """The same program through the xAPIC's page. It has no SELF_IPI: the ICR's shorthand is used instead."""
    return replace(script, program=tuple(map(_through_page, script.program)), xapic=True)


def _through_page(line: str) -> str:
    command, *args = line.split()
    if line.startswith("wrmsr SELF_IPI"):
        return _through_page(f"wrmsr ICR {hw.APIC_DEST_SELF | int(args[1], 0)}")
    number = MSR_NAMES.get(args[0], 0) - hw.APIC_BASE_MSR if command in ("wrmsr", "rdmsr") else -1
    if line == SET_UP[0]:
        return f"wrmsr APIC_BASE {hw.APIC_DEFAULT_PHYS_BASE | 0x900:#x}"
    if not 0 <= number < 0x100:
        return line
    address = hw.APIC_DEFAULT_PHYS_BASE + (number << 4)
    return f"mmio_write {address} {args[1]}" if command == "wrmsr" else f"mmio_read {address}"
