"""The scenario format: reading a TOML file into plain data, or saying in one line where it is wrong.

    title = "..."                     what it shows
    page = "book/inject.html"         the page of the book that tells it
    known = { source = "6.12" }       how it is known: recorded, source, mail, manual, inferred or recalled; and where
    after = "name"                    optional: go on from the end of another built-in scenario
    break = ["no-kick"]               optional: rules to remove on purpose; see machine/breakable.py

    [vm]                              vcpus, x2apic, boot, pcpus, irqchip, pit: as Host.create_vm takes them
    [handlers]                        name = ["instruction", ...]; built in: none, eoi, pv_eoi
    [vcpu.0]                          program = ["instruction", ...], idt = { "0x40-0x4f" = "name" }
    [[userspace]]                     when = {...}, do = ["signal_msi ADDRESS DATA", "irq_line GSI LEVEL",
                                      "route_msi GSI ADDRESS DATA", "route_ioapic GSI PIN",
                                      "eventfd GSI", "irqfd_resample GSI", "mprotect", "burn CPU NS",
                                      "assign_device GSI", "device_interrupt GSI"]
    [[race]]                          at = {...}, run = VCPU or "userspace", until = "event":
                                      in the middle of the one, run the other

``when`` and ``at``: { start = true }, { mark = "text" }, { vcpu = N, halted = true }, { port = N, value = N } or
{ vcpu = N, event = "kind" }, the guest's instructions also as { event = "instruction", text = "NOP" }, which is how
the line begins. A rule fires once. After "irqfd_resample GSI", "eventfd GSI" raises the line until its
EOI, which is the event "resample": a device that still wants service writes to the eventfd again. "assign_device GSI"
gives the VM a device whose MSI the GSI's route is; "device_interrupt GSI" has that device send it, which takes nobody's
time: it does not wait for userspace's thread unless that has something to do before it in the same rule.
The instructions are listed in kvmmodel.guest.program.
"""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass, field
from typing import Any

from kvmmodel.events import Event, Instruction
from kvmmodel.guest.program import BUILT_IN_BODIES, parse, vectors

RUN_LIMIT_NS = 50_000_000
LAST_CPU = 0xFFF  # AVIC's tables have 12 bits for a core's APIC ID
ACTIONS = {
    "signal_msi": 2,
    "irq_line": 2,
    "route_msi": 3,
    "route_ioapic": 2,
    "eventfd": 1,
    "irqfd_resample": 1,
    "mprotect": 0,
    "burn": 2,
    "assign_device": 1,
    "device_interrupt": 1,
}
KEYS: dict[str, dict[str, Any]] = {
    "": {"title": str, "page": str, "known": dict, "after": str, "break": list, "vm": dict, "limit_ns": int,
         "handlers": dict, "vcpu": dict, "userspace": list, "race": list},
    "vm": {"vcpus": int, "x2apic": bool, "boot": bool, "pcpus": list, "irqchip": str, "pit": str},
    "vcpu": {"program": list, "idt": dict},
    "userspace": {"when": dict, "do": list},
    "race": {"at": dict, "run": (int, str), "until": str},
    "when": {"start": bool, "mark": str, "vcpu": int, "halted": bool, "port": int, "value": int, "event": str,
             "text": str},
}  # fmt: skip


IRQCHIPS, PITS = ("kernel", "split"), ("reinject", "discard")


class ScenarioError(ValueError):
    """A file that is not a scenario. One line: where, and what was expected."""


@dataclass(frozen=True, slots=True)
class Action:
    """What userspace or the host does."""

    name: str
    args: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Rule:
    when: dict[str, Any]
    do: tuple[Action, ...]


@dataclass(frozen=True, slots=True)
class Race:
    at: dict[str, Any]
    run: int | None  # a vCPU; None: userspace's thread
    until: str


@dataclass(frozen=True, slots=True)
class Scenario:
    """A parsed scenario. ``programs`` and ``idt`` are by vCPU number."""

    name: str
    title: str
    page: str
    known: dict[str, str]
    after: str | None
    broken: tuple[str, ...]
    vm: dict[str, Any]
    handlers: dict[str, tuple[str, ...]]
    programs: dict[int, tuple[str, ...]]
    idt: dict[int, dict[str, str]]
    userspace: tuple[Rule, ...] = ()
    races: tuple[Race, ...] = ()
    limit_ns: int = RUN_LIMIT_NS  # of virtual time, if something is still left to happen then


def _actions() -> str:
    return ", ".join(f"{name} with {count or 'no'} number{'s' * (count != 1)}" for name, count in ACTIONS.items())


@dataclass(slots=True)
class _Reader:
    """The text beside the data, to find the line of what is wrong."""

    name: str
    text: str
    found: list[str] = field(default_factory=list)

    def fail(self, what: str, needle: str) -> ScenarioError:
        line = next((i for i, row in enumerate(self.text.splitlines(), 1) if needle in row), 1)
        return ScenarioError(f"{self.name}, line {line}: {what}")

    def table(self, kind: str, data: Any, at: str) -> dict[str, Any]:
        """Check a table's keys and the types of their values."""
        if not isinstance(data, dict):
            raise self.fail(f"{at}: expected a table, got {data!r}", at.strip("[]"))
        for key, value in data.items():
            want = KEYS[kind].get(key)
            if want is None:
                raise self.fail(f"{at}: unknown key {key!r}, expected one of {', '.join(KEYS[kind])}", key)
            kinds = want if isinstance(want, tuple) else (want,)
            if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
                raise self.fail(f"{at}: {key} takes {' or '.join(_A[k] for k in kinds)}, got {value!r}", key)
        return data

    def lines(self, at: str, rows: Any) -> tuple[str, ...]:
        if not isinstance(rows, list):
            raise self.fail(f"{at}: expected an array of strings, got {rows!r}", at.rsplit(maxsplit=1)[-1])
        for row in rows:
            if not isinstance(row, str):
                raise self.fail(f"{at}: expected a string, got {row!r}", str(row))
        return tuple(rows)

    def code(self, at: str, rows: Any) -> tuple[str, ...]:
        steps = self.lines(at, rows)
        for row in steps:
            try:
                parse(row)
            except ValueError as error:
                raise self.fail(f"{at}: {error}", row) from None
        return steps

    def actions(self, rows: Any) -> tuple[Action, ...]:
        made = []
        for row in self.lines("userspace", rows):
            name, *words = row.split() or [""]
            if ACTIONS.get(name) != len(words):
                raise self.fail(f"userspace: {row!r}, expected one of {_actions()}", row)
            try:
                numbers = tuple(int(word, 0) for word in words)
            except ValueError:
                raise self.fail(f"userspace: {row!r}, expected numbers", row) from None
            if min(numbers, default=0) < 0:
                raise self.fail(f"userspace: {row!r}, expected numbers from 0 on", row)
            made.append(Action(name, numbers))
        return tuple(made)


_A = {str: "a string", int: "a number", bool: "true or false", list: "an array", dict: "a table"}


def read(name: str, text: str) -> Scenario:
    """Parse a scenario. ScenarioError names the line."""
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        where = re.search(r"line (\d+)", str(error))
        line = where[1] if where else len(text.splitlines()) or 1
        raise ScenarioError(f"{name}, line {line}: not TOML: {error}") from None
    reader = _Reader(name, text)
    reader.table("", data, "the file")
    if "title" not in data or ("vcpu" not in data and "after" not in data):
        raise ScenarioError(f"{name}, line 1: a scenario needs a title and at least one [vcpu.N]")
    vm = reader.table("vm", data.get("vm", {}), "[vm]")
    count = vm.get("vcpus", 2)
    if not 1 <= count <= 255:
        raise reader.fail(f"[vm]: vcpus takes 1 to 255, got {count}", "vcpus")
    pins = vm.get("pcpus", [])
    if not all(isinstance(pin, int) and not isinstance(pin, bool) and 0 <= pin <= LAST_CPU for pin in pins):
        raise reader.fail(f"[vm]: pcpus takes numbers from 0 to {LAST_CPU}, got {pins!r}", "pcpus")
    if pins and len(pins) != count:
        raise reader.fail(f"[vm]: pcpus has one physical CPU for each of {count} vCPUs, got {pins!r}", "pcpus")
    for key, known in (("irqchip", IRQCHIPS), ("pit", PITS)):
        if vm.get(key, known[0]) not in known:
            raise reader.fail(f"[vm]: {key} takes {' or '.join(map(repr, known))}, got {vm[key]!r}", key)
    if "pit" in vm and vm.get("irqchip") == "split":
        raise reader.fail("[vm]: KVM has no PIT with irqchip = 'split'", "pit")
    if data.get("limit_ns", 1) <= 0:
        raise reader.fail(f"the file: limit_ns takes 1 or more, got {data['limit_ns']}", "limit_ns")
    handlers = {k: reader.code(f"[handlers] {k}", v) for k, v in data.get("handlers", {}).items()}
    programs, idt = _vcpus(reader, data.get("vcpu", {}), count, {*handlers, *BUILT_IN_BODIES})
    rules = tuple(_rule(reader, row, count) for row in data.get("userspace", []))
    if "after" not in data:
        _check_devices(reader, [action for rule in rules for action in rule.do])
    return Scenario(
        name,
        data["title"],
        data.get("page", ""),
        _known(reader, data.get("known", {})),
        data.get("after"),
        reader.lines("break", data.get("break", [])),
        vm,
        handlers,
        programs,
        idt,
        rules,
        tuple(_race(reader, row, count) for row in data.get("race", [])),
        data.get("limit_ns", RUN_LIMIT_NS),
    )


HOW = ("recorded", "source", "mail", "manual", "inferred", "recalled")


def _known(reader: _Reader, table: dict[str, Any]) -> dict[str, str]:
    for how, what in table.items():
        if how not in HOW or not isinstance(what, str):
            raise reader.fail(f"known: expected {', '.join(HOW)} with a string, got {how} = {what!r}", how)
    return dict(table)


def _vcpus(
    reader: _Reader, tables: dict[str, Any], count: int, known: set[str]
) -> tuple[dict[int, tuple[str, ...]], dict[int, dict[str, str]]]:
    programs, idt = {}, {}
    for key, table in tables.items():
        at = f"[vcpu.{key}]"
        if not key.isdigit() or int(key) >= count:
            raise reader.fail(f"{at}: the VM has vCPUs 0 to {count - 1}", f"vcpu.{key}")
        reader.table("vcpu", table, at)
        programs[int(key)] = reader.code(f"{at} program", table.get("program", []))
        idt[int(key)] = table.get("idt", {})
        for which, body in idt[int(key)].items():
            try:
                vectors(which)
            except ValueError as error:
                raise reader.fail(f"{at} idt: {error}", which) from None
            if body not in known:
                raise reader.fail(f"{at} idt: no handler {body!r}, expected one of {', '.join(sorted(known))}", which)
    return programs, idt


def _when(reader: _Reader, data: Any, count: int) -> dict[str, Any]:
    reader.table("when", data, "when")
    if not {"start", "mark", "halted", "port", "event"} & set(data):
        raise reader.fail("when: expected one of start, mark, halted, port, event", "when")
    if "event" in data:
        _kind(reader, data["event"])
    if "text" in data and data.get("event") != Instruction.kind:
        raise reader.fail('when: text goes with event = "instruction"', "text")
    if not 0 <= data.get("vcpu", 0) < count:
        raise reader.fail(f"when: the VM has vCPUs 0 to {count - 1}", "vcpu")
    return dict(data)


def _kind(reader: _Reader, kind: str) -> None:
    """The name of an event, as --json shows it."""
    kinds = sorted({event.kind for event in Event.__subclasses__()})
    if kind not in kinds:
        raise reader.fail(f"no event {kind!r}, expected one of {', '.join(kinds)}", kind)


def _rule(reader: _Reader, row: Any, count: int) -> Rule:
    reader.table("userspace", row, "[[userspace]]")
    if set(row) != {"when", "do"}:
        raise reader.fail("[[userspace]]: needs when and do", "[[userspace]]")
    return Rule(_when(reader, row["when"], count), reader.actions(row["do"]))


def _check_devices(reader: _Reader, actions: list[Action]) -> None:
    assigned = {action.args[0] for action in actions if action.name == "assign_device"}
    for action in actions:
        if action.name == "device_interrupt" and action.args[0] not in assigned:
            raise reader.fail(
                f"userspace: no assign_device gives GSI {action.args[0]} a device", f"device_interrupt {action.args[0]}"
            )


def _race(reader: _Reader, row: Any, count: int) -> Race:
    reader.table("race", row, "[[race]]")
    if set(row) != {"at", "run", "until"}:
        raise reader.fail("[[race]]: needs at, run and until", "[[race]]")
    who = row["run"]
    if who != "userspace" and not (isinstance(who, int) and 0 <= who < count):
        raise reader.fail(f'[[race]]: run takes a vCPU, 0 to {count - 1}, or "userspace"', "run")
    _kind(reader, row["until"])
    return Race(_when(reader, row["at"], count), None if who == "userspace" else who, row["until"])
