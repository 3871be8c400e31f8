"""scripts, conform and cases: the model beside what real kernels and other projects' tests say."""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections import Counter
from pathlib import Path
from typing import Any

from kvmmodel import cases, conform, scripts
from kvmmodel.cli.words import add_host_options, host_of, host_without_avic, progress, text_of
from kvmmodel.facts import releases


def add(commands: Any) -> None:
    compared = commands.add_parser("scripts", help="run recorded guest programs and compare with what real kernels did")
    compared.add_argument("file", metavar="FILE", help="one program a line, as JSON, with its results")
    compared.add_argument("--kernel", help="only this recorded kernel (default: all that the file has)")
    compared.add_argument(
        "--cpu",
        help=f"the host's processor (default {scripts.CPU}, which was recorded; with --avic {scripts.AVIC_CPU})",
    )
    compared.add_argument(
        "--xapic", action="store_true", help="the same programs through the xAPIC's page (recorded: x2APIC mode)"
    )
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
    """Exit status 1 if anything differs. With AVIC the runs are compared with the same ones without it."""
    programs = scripts.read(text_of(options.file, "guest programs, one JSON object a line"), options.file)
    if options.xapic:
        programs = [scripts.in_xapic_mode(script) for script in programs]
    recorded = scripts.recorded_kernels(programs)
    cpu = options.cpu or (scripts.AVIC_CPU if options.avic in ("on", "auto") else scripts.CPU)
    total, rows, different = 0, list[tuple[str, ...]](), list[dict[str, Any]]()
    wanted, with_avic = _wanted(options, recorded, cpu), False
    for kernel in wanted:
        on = host_of(cpu, kernel, options)
        pair = scripts.Pair(host_without_avic(cpu, kernel, options), on) if on.params["avic"] else None
        with_avic = with_avic or pair is not None
        for script in programs:
            if kernel in recorded and not scripts.recorded_on(script, kernel):
                continue
            progress(f"{kernel}: {script.index + 1} of {len(programs)}", script.index % 25 == 0)
            total += 1
            if pair is None:
                one = scripts.compare(script, kernel, on)
                different += [dataclasses.asdict(one)] if one is not None else []
                continue
            verdict = scripts.compare_avic(script, pair)
            rows += [verdict.rows] if verdict.rows else []
            if (found := verdict.different) is not None:
                place = {"index": script.index, "kernel": kernel, "where": found.where}
                different.append(place | {"expected": found.expected, "got": found.got})
    progress("", True)
    what = f"{len(programs)} scripts on {', '.join(wanted)}"
    _tell(options, what, total, rows if with_avic else None, different)
    return 1 if different else 0


def _tell(
    options: argparse.Namespace,
    what: str,
    total: int,
    declared: list[tuple[str, ...]] | None,
    different: list[dict[str, Any]],
) -> None:
    """``declared``: the rows of each run that the table of AVIC's differences explains; None: nothing ran with AVIC."""
    equal = total - len(declared or ()) - len(different)
    each = Counter(row for rows in declared or () for row in rows)
    if options.json:
        told = {} if declared is None else {"declared": {"runs": len(declared), "rows": each}}
        print(json.dumps({"scripts": total, "equal": equal, **told, "different": different}, indent=1))
        return
    for d in different:
        print(f"script {d['index']} on {d['kernel']}, {d['where']}: expected {d['expected']}, got {d['got']}")
    if declared is None:
        print(f"{equal} of {total} runs equal: {what}")
        return
    for row in scripts.TABLE:
        if each[row.id]:
            print(f"{row.id}: {each[row.id]} runs. {row.what}.")
    print(
        f"{equal} of {total} runs with AVIC equal to those without, {len(declared)} differing by a declared row, "
        f"{len(different)} different: {what}"
    )


def _wanted(options: argparse.Namespace, recorded: list[str], cpu: str) -> list[str]:
    """The recorded kernels to compare with; --kernel may name one as uname -r does. With AVIC any will do."""
    for name in recorded:
        try:
            releases.kernel(name)
        except ValueError as error:
            raise ValueError(f"{options.file}: results of an {error}") from None
    if options.kernel is None or options.kernel in recorded:
        return [options.kernel] if options.kernel else recorded
    asked = releases.kernel(options.kernel).release
    if asked not in recorded and not host_of(cpu, options.kernel, options, quiet=True).params["avic"]:
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
