"""scripts, conform and cases: the model beside what real kernels and other projects' tests say."""

from __future__ import annotations

import argparse
import dataclasses
import json
from pathlib import Path
from typing import Any

from kvmmodel import cases, conform, scripts
from kvmmodel.cli.words import add_host_options, host_of, progress, text_of
from kvmmodel.facts import releases


def add(commands: Any) -> None:
    compared = commands.add_parser("scripts", help="run recorded guest programs and compare with what real kernels did")
    compared.add_argument("file", metavar="FILE", help="one program a line, as JSON, with its results")
    compared.add_argument("--kernel", help="only this recorded kernel (default: all that the file has)")
    add_host_options(compared, "off")
    compared.add_argument("--json", action="store_true")
    compared.set_defaults(command=_scripts)
    conforming = commands.add_parser("conform", help="compare a recording of the lab's guest with the model's own run")
    conforming.add_argument(
        "folder", metavar="DIR", type=Path, help="a recording: 00-system.txt, 10-kvm-tracepoints.txt"
    )
    conforming.add_argument("--kernel", help="run the model as this kernel (default: the recorded one)")
    conforming.add_argument("--json", action="store_true")
    conforming.set_defaults(command=_conform)
    facts = commands.add_parser("cases", help="run a case file: facts from other projects' tests, as data")
    facts.add_argument("file", metavar="FILE", help="a case file, in JSON")
    facts.add_argument("--chip", action="append", choices=cases.CHIPS, help="only cases of this chip; can be repeated")
    facts.add_argument("--json", action="store_true")
    facts.set_defaults(command=_cases)


def _scripts(options: argparse.Namespace) -> int:
    """Exit status 1 if anything differs."""
    programs = scripts.read(text_of(options.file, "guest programs, one JSON object a line"), options.file)
    recorded = scripts.recorded_kernels(programs)
    wanted = _wanted(options, recorded)
    different, total = [], 0
    for kernel in wanted:
        host = host_of(scripts.CPU, kernel, options)
        for script in programs:
            if not scripts.recorded_on(script, kernel):
                continue
            progress(f"{kernel}: {script.index + 1} of {len(programs)}", script.index % 25 == 0)
            total += 1
            found = scripts.compare(script, kernel, host)
            different += [found] if found is not None else []
    progress("", True)
    if options.json:
        rows = [dataclasses.asdict(d) for d in different]
        print(json.dumps({"scripts": total, "equal": total - len(different), "different": rows}, indent=1))
    else:
        for d in different:
            print(f"script {d.index} on {d.kernel}, {d.where}: expected {d.expected}, got {d.got}")
        print(f"{total - len(different)} of {total} runs equal: {len(programs)} scripts on {', '.join(wanted)}")
    return 1 if different else 0


def _wanted(options: argparse.Namespace, recorded: list[str]) -> list[str]:
    """The recorded kernels to compare with; --kernel may name one as uname -r does."""
    for name in recorded:
        try:
            releases.kernel(name)
        except ValueError as error:
            raise ValueError(f"{options.file}: results of an {error}") from None
    if options.kernel is None or options.kernel in recorded:
        return [options.kernel] if options.kernel else recorded
    asked = releases.kernel(options.kernel).release
    if asked not in recorded:
        raise ValueError(
            f"{options.file} has no results of kernel {options.kernel!r}: expected one of {', '.join(recorded)}"
        )
    return [asked]


def _conform(options: argparse.Namespace) -> int:
    """Exit status 1 if a phase differs. Stacks that no run emitted are listed and do not count."""
    recording = conform.read(options.folder)
    progress(f"running the lab as kernel {options.kernel or recording.kernel}", True)
    phases = conform.compare(recording, options.kernel)
    stacks = conform.compare_stacks(options.folder, recording, options.kernel)
    progress("", True)
    rows = [dataclasses.asdict(p) | {"verdict": p.verdict} for p in phases]
    different = sum(bool(p.differences) for p in phases)
    if options.json:
        print(json.dumps({"scenarios": rows, "stacks": dataclasses.asdict(stacks)}, indent=1))
    else:
        for row in rows:
            timed = " (under the recording's times)" if row["timed"] else ""
            ended = [f"unfinished, in the recording and in the model: {row['unfinished']}"] if row["unfinished"] else []
            print("\n    ".join([f"{row['verdict']:9}  {row['name']}{timed}", *ended, *row["differences"]]))
        print(f"{len(rows) - different} of {len(rows)} phases equal")
        total = stacks.matched + len(stacks.unmatched)
        print(
            f"{stacks.matched} of {total} distinct stacks with frames of KVM emitted by a run"
            + "; not:" * bool(stacks.unmatched)
        )
        for frames in stacks.unmatched:
            print("  " + " < ".join(frames))
        if stacks.outside:
            print("not compared, as no frame is KVM's:")
        for frames in stacks.outside:
            print("  " + " < ".join(frames))
    return 1 if different else 0


def _cases(options: argparse.Namespace) -> int:
    """Exit status 1 if any fails."""
    read = cases.read(text_of(options.file, "a case file in JSON"), options.file)
    wanted = [case for case in read if not options.chip or case.chip in options.chip]
    failed, skipped = list[cases.Failure](), list[cases.Skipped]()
    for number, case in enumerate(wanted, 1):
        progress(f"{number} of {len(wanted)}", True)
        found = cases.run(case)
        failed += [found] if isinstance(found, cases.Failure) else []
        skipped += [found] if isinstance(found, cases.Skipped) else []
    progress("", True)
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
