"""explain."""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

from kvmmodel import explain
from kvmmodel.explain.corpus import explain_by_runs
from kvmmodel.explain.system import system_at
from kvmmodel.facts import releases


def add(commands: Any) -> None:
    telling = commands.add_parser("explain", help="explain the kernel stacks and function graphs in a text")
    telling.add_argument("file", nargs="?", metavar="FILE", help="a text, or a recording's folder (default: stdin)")
    telling.add_argument("--kernel", help="the kernel that it was recorded on, X.Y or X.Y.Z")
    telling.add_argument("--json", action="store_true")
    telling.set_defaults(command=_explain)


def _explain(options: argparse.Namespace) -> int:
    source, recorded_on = explain.read(options.file)
    kernel = releases.kernel(options.kernel).release if options.kernel else recorded_on
    report = explain_by_runs(source, kernel, system_at(options.file, source), progress=sys.stderr.isatty())
    print(json.dumps(explain.to_json(report), indent=1) if options.json else explain.to_text(report))
    return 0
