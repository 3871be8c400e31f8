"""The command line. Bad input: one line on standard error, exit status 2."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from kvmmodel import __version__, cases, explain, scripts
from kvmmodel.explain.corpus import corpus_for
from kvmmodel.facts import releases
from kvmmodel.machine.host import Host
from kvmmodel.machine.vm import Vm
from kvmmodel.scenarios import run as scenarios
from kvmmodel.scenarios.format import Scenario, ScenarioError, read
from kvmmodel.trace import ftrace, graph, stacks
from kvmmodel.trace.probe import probe
from kvmmodel.trace.text import text

AVIC = {"on": True, "off": False, "auto": None}
DEFAULT_KERNEL = "6.18"


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command. Returns the exit status: 0, or 2 after one line about bad input."""
    options = _parser().parse_args(argv)
    command: Callable[[argparse.Namespace], int] = options.command
    try:
        return command(options)
    except BrokenPipeError:
        sys.stderr.close()  # the reader went away, as with head
        return 0
    except (ValueError, OSError, explain.ExplainError) as error:
        print(f"kvmmodel: {_line(error)}", file=sys.stderr)
        return 2


def _line(error: Exception) -> str:
    """One line, also for an OSError, which names the file."""
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    return " ".join(str(error).split())


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> Any:
        """argparse prints its usage, too; one line is enough."""
        print(f"{self.prog}: {message}", file=sys.stderr)
        sys.exit(2)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="kvmmodel", description="How Linux KVM on AMD delivers interrupts: a model to run.")
    parser.add_argument("--version", action="version", version=f"kvmmodel {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    run = commands.add_parser("run", help="run a scenario and print what happened")
    run.add_argument("scenario", metavar="SCENARIO|FILE.toml", help="a name that 'scenarios' lists, or a file")
    run.add_argument("--kernel", default=DEFAULT_KERNEL, help=f"X.Y or X.Y.Z (default {DEFAULT_KERNEL})")
    run.add_argument("--cpu", default="zen4", help="the host's processor (default zen4)")
    run.add_argument("--avic", choices=AVIC, default="off", help="kvm_amd's parameter (default off)")
    run.add_argument("--param", action="append", default=[], metavar="NAME=VALUE", help="another module parameter")
    run.add_argument("--format", choices=("ftrace", "stacks", "graph", "json"), default="ftrace")
    run.add_argument("--graph-function", default="svm_complete_interrupt_delivery", metavar="NAME")
    run.add_argument("--json", action="store_true", help="the same as --format json")
    run.set_defaults(command=_run)
    listing = commands.add_parser("scenarios", help="list the built-in scenarios")
    listing.add_argument("--json", action="store_true")
    listing.set_defaults(command=_scenarios)
    compared = commands.add_parser("scripts", help="run recorded guest programs and compare with what real kernels did")
    compared.add_argument("file", metavar="FILE", help="one program a line, as JSON, with its results")
    compared.add_argument("--kernel", help="only this recorded kernel (default: all that the file has)")
    compared.add_argument("--avic", choices=AVIC, default="off", help="kvm_amd's parameter (default off)")
    compared.add_argument("--param", action="append", default=[], metavar="NAME=VALUE", help="another module parameter")
    compared.add_argument("--json", action="store_true")
    compared.set_defaults(command=_scripts)
    facts = commands.add_parser("cases", help="run a case file: facts from other projects' tests, as data")
    facts.add_argument("file", metavar="FILE", help="a case file, in JSON")
    facts.add_argument("--chip", action="extend", nargs="+", choices=cases.CHIPS, help="only cases of these chips")
    facts.add_argument("--json", action="store_true")
    facts.set_defaults(command=_cases)
    telling = commands.add_parser("explain", help="explain the kernel stacks and function graphs in a text")
    telling.add_argument("file", nargs="?", metavar="FILE", help="a text, or a recording's folder (default: stdin)")
    telling.add_argument("--kernel", help="the kernel that it was recorded on, X.Y or X.Y.Z")
    telling.add_argument("--json", action="store_true")
    telling.set_defaults(command=_explain)
    return parser


def _run(options: argparse.Namespace) -> int:
    scenario = _scenario(options.scenario)
    host = Host(options.cpu, options.kernel, AVIC[options.avic], **dict(map(_param, options.param)))
    if options.json or options.format == "json":
        vm = scenarios.run(scenario, host)
        print(
            json.dumps(
                {"scenario": scenario.name, "kernel": host.kernel.release, "events": _events(vm, host)}, indent=1
            )
        )
    elif options.format == "graph":
        with probe(options.graph_function) as seen:
            scenarios.run(scenario, host, trace=False)
        if not seen.graphs:
            raise ValueError(f"this run never calls a function {options.graph_function!r} that the model has")
        print(graph.render(seen.graphs, host.kernel), end="")
    else:
        records = scenarios.run(scenario, host).trace.records
        render = ftrace.render if options.format == "ftrace" else stacks.histogram
        print(render(records, host.kernel), end="")
    return 0


def _scenario(name: str) -> Scenario:
    """A file if it looks like one, else a built-in scenario."""
    if not name.endswith(".toml") and "/" not in name:
        return scenarios.built_in(name)
    try:
        return read(name, Path(name).read_text(encoding="utf-8"))
    except UnicodeDecodeError:
        raise ScenarioError(f"{name}, line 1: not a text file, expected a scenario in TOML") from None


def _param(text: str) -> tuple[str, Any]:
    """NAME=VALUE: Y and N are booleans, the rest are numbers."""
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise ValueError(f"--param takes NAME=VALUE, got {text!r}")
    if value in ("Y", "N"):
        return name, value == "Y"
    try:
        return name, int(value, 0)
    except ValueError:
        raise ValueError(f"--param {name}: expected Y, N or a number, got {value!r}") from None


def _events(vm: Vm, host: Host) -> list[dict[str, Any]]:
    return [
        {
            "t": record.t,
            "vcpu": record.vcpu,
            "cpu": record.cpu,
            "lane": record.event.lane,
            "kind": record.event.kind,
            "text": text(record.event, host.kernel),
            "stack": list(stacks.names(record.stack, host.kernel)),
        }
        for record in vm.trace.records
    ]


def _scenarios(options: argparse.Namespace) -> int:
    rows = [{"name": s.name, "title": s.title, "page": s.page} for s in map(scenarios.built_in, scenarios.names())]
    if options.json:
        print(json.dumps(rows, indent=1))
    else:
        width = max(len(row["name"]) for row in rows)
        print("\n".join(f"{row['name']:{width}}  {row['title']}" for row in rows))
    return 0


def _scripts(options: argparse.Namespace) -> int:
    """Exit status 1 if anything differs."""
    programs = scripts.read(_text(options.file, "guest programs, one JSON object a line"), options.file)
    recorded = scripts.recorded_kernels(programs)
    wanted = [options.kernel] if options.kernel else recorded
    if not set(wanted) <= set(recorded):
        raise ValueError(
            f"{options.file} has no results of kernel {options.kernel!r}: expected one of {', '.join(recorded)}"
        )
    different = []
    for kernel in wanted:
        host = Host(scripts.CPU, kernel, AVIC[options.avic], **dict(map(_param, options.param)))
        for script in programs:
            _progress(f"{kernel}: {script.index + 1} of {len(programs)}", script.index % 25 == 0)
            found = scripts.compare(script, kernel, host)
            different += [found] if found is not None else []
    _progress("", True)
    total = len(programs) * len(wanted)
    if options.json:
        rows = [dataclasses.asdict(d) for d in different]
        print(json.dumps({"scripts": total, "equal": total - len(different), "different": rows}, indent=1))
    else:
        for d in different:
            print(f"script {d.index} on {d.kernel}, {d.where}: expected {d.expected}, got {d.got}")
        print(f"{total - len(different)} of {total} runs equal: {len(programs)} scripts on {', '.join(wanted)}")
    return 1 if different else 0


def _cases(options: argparse.Namespace) -> int:
    """Exit status 1 if any fails."""
    read = cases.read(_text(options.file, "a case file in JSON"), options.file)
    wanted = [case for case in read if not options.chip or case.chip in options.chip]
    failed, skipped = list[cases.Failure](), list[cases.Skipped]()
    for number, case in enumerate(wanted, 1):
        _progress(f"{number} of {len(wanted)}", True)
        found = cases.run(case)
        failed += [found] if isinstance(found, cases.Failure) else []
        skipped += [found] if isinstance(found, cases.Skipped) else []
    _progress("", True)
    passed = len(wanted) - len(failed) - len(skipped)
    if options.json:
        rows = {"failed": [dataclasses.asdict(f) for f in failed], "skipped": [dataclasses.asdict(s) for s in skipped]}
        print(json.dumps({"passed": passed, **rows}, indent=1))
    else:
        for s in skipped:
            print(f"{s.id}: skipped, {s.reason}")
        for f in failed:
            at = f" at {', '.join(f'{name} = {value}' for name, value in f.point.items())}" if f.point else ""
            print(f"{f.id}{at}: expected {f.expected}, got {f.got}")
        print(f"{passed} passed, {len(failed)} failed, {len(skipped)} skipped")
    return 1 if failed else 0


def _progress(text: str, due: bool) -> None:
    """A line on standard error that the next one replaces, if somebody watches."""
    if due and sys.stderr.isatty():
        print(f"\r{text:40}\r", end="", file=sys.stderr, flush=True)


def _text(name: str, expected: str) -> str:
    """A file's text. ValueError if it is none."""
    try:
        return Path(name).read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise ValueError(f"{name}: not a text, expected {expected}") from None


def _explain(options: argparse.Namespace) -> int:
    source, recorded_on = explain.read(options.file)
    kernel = releases.kernel(options.kernel).release if options.kernel else recorded_on
    emitted = corpus_for(kernel, progress=sys.stderr.isatty())
    report = explain.explain(source, emitted, kernel)
    print(json.dumps(explain.to_json(report), indent=1) if options.json else explain.to_text(report))
    return 0


if __name__ == "__main__":
    sys.exit(main())
