"""run and scenarios."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from kvmmodel.cli.words import add_host_options, host_of, tell_unfinished
from kvmmodel.machine.host import Host
from kvmmodel.machine.vm import Vm
from kvmmodel.scenarios import run as scenarios
from kvmmodel.scenarios.format import Scenario, ScenarioError, read
from kvmmodel.trace import bill, ftrace, graph, stacks
from kvmmodel.trace.probe import probe
from kvmmodel.trace.text import text

DEFAULT_KERNEL = "6.18"


def add(commands: Any) -> None:
    run = commands.add_parser("run", help="run a scenario and print what happened")
    run.add_argument("scenario", metavar="SCENARIO|FILE.toml", help="a name that 'scenarios' lists, or a file")
    run.add_argument("--kernel", default=DEFAULT_KERNEL, help=f"X.Y or X.Y.Z (default {DEFAULT_KERNEL})")
    run.add_argument("--cpu", default="zen4", help="the host's processor (default zen4), as zen2 or zen3,+avic")
    add_host_options(run)
    run.add_argument("--format", choices=("ftrace", "stacks", "graph", "bill", "json"), default="ftrace")
    run.add_argument("--graph-function", default="svm_complete_interrupt_delivery", metavar="NAME")
    run.add_argument("--json", action="store_true", help="the same as --format json")
    run.set_defaults(command=_run)
    listing = commands.add_parser("scenarios", help="list the built-in scenarios")
    listing.add_argument("--json", action="store_true")
    listing.set_defaults(command=_scenarios)


def _run(options: argparse.Namespace) -> int:
    scenario = _scenario(options.scenario)
    host = host_of(options.cpu, options.kernel, options)
    if options.json or options.format == "json":
        vm = scenarios.run(scenario, host)
        found = {"scenario": scenario.name, "kernel": host.kernel.release}
        print(json.dumps(found | {"events": _events(vm, host), "bill": _bill(vm, host)}, indent=1))
    elif options.format == "graph":
        with probe(options.graph_function) as seen:
            vm = scenarios.run(scenario, host, trace=False)
        if not seen.graphs:
            raise ValueError(f"this run never calls a function {options.graph_function!r} that the model has")
        print(graph.render(seen.graphs, host.kernel), end="")
    else:
        vm = scenarios.run(scenario, host)
        render = {"ftrace": ftrace.render, "stacks": stacks.histogram, "bill": bill.render}[options.format]
        print(render(vm.trace.records, host.kernel), end="")
    return tell_unfinished(scenario.name, scenarios.unfinished(vm))


def _scenario(name: str) -> Scenario:
    """A file if it looks like one, else a built-in scenario."""
    if name not in scenarios.names() and Path(name).exists() and not name.endswith(".toml"):
        raise ScenarioError(f"{name} is a file or folder, but a scenario file ends in .toml")
    if not name.endswith(".toml") and "/" not in name:
        return scenarios.built_in(name)
    try:
        return read(name, Path(name).read_text(encoding="utf-8"))
    except UnicodeDecodeError:
        raise ScenarioError(f"{name}, line 1: not a text file, expected a scenario in TOML") from None


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


def _bill(vm: Vm, host: Host) -> dict[str, Any]:
    """Sums, and each interrupt from its cause to its EOI."""
    made = bill.bills(vm.trace.records, host.kernel)
    return bill.total(made) | {"interrupts": [asdict(one) for one in made]}


def _scenarios(options: argparse.Namespace) -> int:
    rows = [{"name": s.name, "title": s.title, "page": s.page} for s in map(scenarios.built_in, scenarios.names())]
    if options.json:
        print(json.dumps(rows, indent=1))
    else:
        width = max(len(row["name"]) for row in rows)
        print("\n".join(f"{row['name']:{width}}  {row['title']}" for row in rows))
    return 0
