"""Runs everything that compares the model with something, and writes down what came of it: book/results.json.

The page "How we know" prints that file, and the book does not build when the file is older than the code that it speaks
of. Run by ``make results``; a failure of any part writes nothing. The long fuzz run is left out where there is no
/dev/kvm, and the file says so.
"""

from __future__ import annotations

import json
import platform
import subprocess
import sys
import tempfile
import tomllib
import xml.etree.ElementTree as ET
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT / "tests" / "evidence" / "data"
sys.path[:0] = [str(ROOT), str(ROOT / "book" / "_ext")]

from kvmbook.results import FILE, code_digest
from kvmmodel import matrix
from kvmmodel.scenarios.run import names
from tests.oracle.fuzz.__main__ import together
from tests.oracle.test_dev_kvm import why_not

OPERATIONS, SEED, WORKERS = 200_000, 1, 3


def main() -> int:
    begun = code_digest(ROOT)
    made = {
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "python": platform.python_version(),
        "tests": tests(),
        "mutants": len(tomllib.loads((ROOT / "tests/mutants/mutants.toml").read_text())),
        "recordings": [conform(folder) for folder in recordings()],
        "scripts": scripts(),
        "cases": cases(),
        "matrix": whole_matrix(),
        "fuzz": fuzz(),
    }
    if code_digest(ROOT) != begun:
        print("The code changed meanwhile: nothing is written.", file=sys.stderr)
        return 1
    FILE.write_text(json.dumps({"code": begun, **made}, indent=1) + "\n", encoding="utf-8")
    print(f"Written: {FILE.relative_to(ROOT)}")
    return 0


def run(*command: str) -> str:
    print("==>", *command, flush=True)
    done = subprocess.run([sys.executable, "-m", *command], cwd=ROOT, check=False, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        print(done.stdout)
        sys.exit(f"{' '.join(command)}: exit status {done.returncode}, nothing is written")
    return done.stdout


def tests() -> dict[str, Any]:
    """How many passed, and why others were skipped; the tests of the built book are not among them."""
    with tempfile.TemporaryDirectory() as scratch:
        report = Path(scratch, "tests.xml")
        out = run(
            "pytest",
            "-n",
            "auto",
            "--dist",
            "worksteal",
            "-q",
            "--ignore=tests/browser",
            "--ignore=tests/book",
            f"--junitxml={report}",
        )
        print(out.splitlines()[-1])
        found = list(ET.parse(report).getroot().iter("testcase"))
    skipped = Counter(s.get("message", "") for case in found if (s := case.find("skipped")) is not None)
    parts = Counter(case.get("classname", "").split(".")[1] for case in found)
    return {
        "passed": len(found) - skipped.total(),
        "skipped": dict(sorted(skipped.items())),
        "parts": dict(sorted(parts.items())),
    }


def recordings() -> list[Path]:
    return sorted(folder for folder in DATA.iterdir() if (folder / "10-kvm-tracepoints.txt").exists())


def conform(folder: Path) -> dict[str, Any]:
    got = json.loads(run("kvmmodel", "conform", str(folder), "--json"))
    return {
        "name": folder.name,
        "phases": len(got["scenarios"]),
        "equal": sum(phase["verdict"] == "equal" for phase in got["scenarios"]),
        "matched": got["stacks"]["matched"],
        "unmatched": [" < ".join(stack[:4]) for stack in got["stacks"]["unmatched"]],
        "outside": len(got["stacks"]["outside"]),
    }


def scripts() -> list[dict[str, Any]]:
    """Recorded guest programs: with AVIC off beside the recording, with AVIC on beside the model's own run without."""
    rows = []
    for name in sorted(path.name for path in DATA.glob("scripts*.jsonl")):
        got = json.loads(run("kvmmodel", "scripts", str(DATA / name), "--json"))
        rows.append({"file": name, "avic": "off", "runs": got["scripts"], "equal": got["equal"], "declared": 0})
    got = json.loads(
        run("kvmmodel", "scripts", str(DATA / "scripts.jsonl"), "--kernel", "7.3.4", "--avic", "on", "--json")
    )
    declared = got["declared"]["runs"]
    rows.append(
        {"file": "scripts.jsonl", "avic": "on", "runs": got["scripts"], "equal": got["equal"], "declared": declared}
    )
    return rows


def cases() -> dict[str, Any]:
    path = DATA / "peer_cases.json"
    got = json.loads(run("kvmmodel", "cases", str(path), "--json"))
    projects = Counter(case["id"].split(".")[0] for case in json.loads(path.read_text())["cases"])
    reasons = Counter(one["reason"] for one in got["skipped"])
    return {"passed": got["passed"], "skipped": dict(sorted(reasons.items())), "projects": dict(projects.most_common())}


def whole_matrix() -> dict[str, int]:
    """The run fails if a scenario does, or if the table of modes and exits is not the one that is checked in."""
    run("kvmmodel.matrix", "tests/machine/matrix.txt")
    return {"hosts": len(list(matrix.hosts())), "scenarios": len(names())}


def fuzz() -> dict[str, Any]:
    if reason := why_not():
        return {"operations": 0, "classes": 0, "kernel": f"none: {reason}"}
    print(f"==> {OPERATIONS} random operations on /dev/kvm and on the model", flush=True)
    histogram, found = together(WORKERS, SEED, OPERATIONS)
    if found:
        sys.exit(f"{found}\nnothing is written")
    if rare := histogram.rare():
        sys.exit(f"rarer than one in a hundred: {', '.join(rare)}; nothing is written")
    least = min(histogram.counts.values()) / histogram.operations
    return {
        "operations": histogram.operations,
        "classes": len(histogram.counts),
        "least": round(least, 4),
        "seed": SEED,
        "kernel": platform.release(),
    }


if __name__ == "__main__":
    sys.exit(main())
