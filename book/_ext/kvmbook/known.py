"""Whether what a page calls by name exists: kernel functions, parameters, inhibits, files, releases, commits, Python.

Each kind has its rule; all of them look into kvmmodel's facts, but for the names of kvmmodel itself, which are looked
up in the package, and its commands, in its command line. What has none of the forms below, as a number, an exit reason
or a word of a log, is not checked.
"""

import ast
import inspect
import re
from collections.abc import Iterator
from functools import cache

import kvmmodel
from kvmmodel import Host, Vcpu, Vm
from kvmmodel.cli import parser
from kvmmodel.facts import load, names
from kvmmodel.machine.vcpu import Guest
from kvmmodel.silicon.vmcb import EXIT_NAMES

LOWER = re.compile(r"(?<![\w.$/-])_*[a-z][a-z0-9]*(?:_\w*)+")  # apic_update_ppr, send_IPI_mask
CALL = re.compile(r"\b([a-z]\w*)\(")
ALL_CAPS = re.compile(r"[#-]?[A-Z][A-Z0-9_.]+")  # V_IRQ, STI, EFER.SVME, #GP, -KVM_EOPNOTSUPP
VALUE = re.compile(r"(?:0[xX])?[0-9a-fA-F_]+")
CAPS_IN_PROSE = re.compile(r"(?<![\w.$/-])[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+(?![\w])")
SETTING = re.compile(r"(?<![\w.-])([a-z]\w*)=\S*")
PATH = re.compile(r"[\w./-]+\.(?:c|h|S|rst)\b")
HEX = re.compile(r"0[xX][0-9a-fA-F_]+")
NOT_OF_LINUX = re.compile(r"(?:Python|QEMU|Pyodide|version)\s+$")
SETTABLE = ("variable", "member", "mistake")  # besides parameters: what may stand before =
PROGRAMS = ("bpftrace", "trace-cmd")  # what follows is of their own languages, but for names of the kernel
PYTHON = (Host, Vm, Vcpu, Guest)


def wrong_in_literal(text: str) -> Iterator[str]:
    """What is wrong with an inline literal, a phrase for each name that nobody knows."""
    text = " ".join(text.split())
    if text in names.names():
        return
    if names.HASH.fullmatch(text):
        if text not in names.commits():
            yield f"commit {text}"
        return
    if PATH.fullmatch(text):
        yield from _file(text)
        return
    if text.startswith("kvmmodel "):
        yield from _command(text)
        return
    words = text.split()
    if ALL_CAPS.fullmatch(words[0]) and all(VALUE.fullmatch(word) for word in words[1:]):
        if not _known(words[0].lstrip("-")):
            yield f"name {words[0]}"
        return
    if "->" in text and "<-" not in text:
        yield f"member {text}"
        return
    if text.startswith("-"):
        yield from _option(text)
        return
    if _is_python(text):
        yield from _python(text)
        return
    for path in PATH.findall(text):
        yield from _file(path)
    rest = HEX.sub(" ", PATH.sub(" ", text))
    calls = [] if words[0] in PROGRAMS else CALL.findall(rest)
    for name in (*LOWER.findall(rest), *calls):
        if not _known(name):
            yield f"function {name}"
    for name in SETTING.findall(rest) if all(SETTING.fullmatch(word) for word in words) else ():
        if name not in load("params") and not any(name in load("words")[kind] for kind in SETTABLE):
            yield f"parameter {name}"
    for name in CAPS_IN_PROSE.findall(rest):
        if not _known(name):
            yield f"name {name}"


def wrong_in_prose(text: str) -> Iterator[str]:
    """The same for text outside of literals: kernel releases, commits, and names that can only be code."""
    for found in names.RELEASE.finditer(text):
        if found[0] not in names.releases() and not NOT_OF_LINUX.search(text[: found.start()]):
            yield f"release {found[0]}"
    for commit in names.HASH.findall(text):
        if commit not in names.commits():
            yield f"commit {commit}"
    for name in (*LOWER.findall(text), *CAPS_IN_PROSE.findall(text)):
        if not _known(name):
            yield f"name {name}"


def _known(name: str) -> bool:
    """The facts have it, or kvmmodel: exit reasons are in the model of the VMCB, as kvm_exit prints them."""
    return name in names.names() or names.is_module(name) or name in EXIT_NAMES.values() or name in _attributes()


def _file(path: str) -> Iterator[str]:
    if not any(f"/{known}".endswith(f"/{path}") for known in names.kernel_files()):
        yield f"file {path}"


def _command(text: str) -> Iterator[str]:
    """kvmmodel's own commands: the parser knows them."""
    command = text.split()[1]
    if command not in _commands():
        yield f"command kvmmodel {command}"


def _option(text: str) -> Iterator[str]:
    """An option of QEMU or of kvmmodel: as a row has it, or a word of its own."""
    options = {option for row in load("inhibits").values() for option in row.get("options", ())}
    if text not in options and text not in names.names() and text.split(maxsplit=1)[0] not in _flags():
        yield f"option {text}"


def _is_python(text: str) -> bool:
    """A call or an attribute of what kvmmodel exports, as in Host(..., open_points={...})."""
    found = re.match(r"(\w+)\(", text)
    return bool(found) and found[1] in _attributes()


def _python(text: str) -> Iterator[str]:
    """The call has a function of that name, which takes these keywords."""
    call = ast.parse(text, mode="eval").body
    if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name):
        yield f"Python {text}"
        return
    takes = set(inspect.signature(_attributes()[call.func.id]).parameters)
    takes |= {"Host": set(load("params")), "create_vm": set(inspect.signature(Vm).parameters)}.get(call.func.id, set())
    for keyword in call.keywords:
        if keyword.arg not in takes:
            yield f"argument {keyword.arg} of {call.func.id}"


@cache
def _attributes() -> dict[str, object]:
    """What kvmmodel exports, and the public methods and fields of its classes."""
    found: dict[str, object] = {name: getattr(kvmmodel, name) for name in kvmmodel.__all__}
    for owner in PYTHON:
        found |= {name: getattr(owner, name) for name in dir(owner) if not name.startswith("_")}
    return found


@cache
def _commands() -> frozenset[str]:
    return frozenset(next(a for a in parser()._actions if a.dest == "command" or a.choices).choices)


@cache
def _flags() -> frozenset[str]:
    actions = next(a for a in parser()._actions if a.choices).choices.values()
    return frozenset(flag for command in actions for action in command._actions for flag in action.option_strings)
