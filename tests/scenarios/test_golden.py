"""Golden traces: scenarios whose tracepoints, in order and word for word, are known from elsewhere.

A file in ``golden`` opens with a header, TOML in comment lines:

    # shows = "..."                      what to look for
    # source = "..."                     where this order is shown: a kernel's file and functions, a recording, a case
    # scenario = "level-shared"          a built-in scenario
    # kernel = "6.12"                    and the host that it runs on
    # cpu = "zen4"
    # options = { pit = "reinject" }     optional: more for create_vm
    # events = ["kvm_eoi"]               optional: the tracepoints to compare; all, if left out

Then follow the lines of tracefs' trace file without their times, which are the model's and measure nothing. After a
change that is meant, ``KVMMODEL_GOLDEN=write`` writes them anew: read the difference against the source.
"""

import difflib
import itertools
import os
import re
import tomllib
from pathlib import Path

import pytest

from kvmmodel import Host
from kvmmodel.scenarios.run import built_in, names, run, unfinished
from kvmmodel.trace.ftrace import HEADER, render

FILES = sorted((Path(__file__).parent / "golden").glob("*.txt"))
NEEDED = {"shows": str, "source": str, "scenario": str, "kernel": str, "cpu": str}
KNOWN = NEEDED | {"options": dict, "events": list}
TIME = re.compile(r" +\d+\.\d{6}: ")


def split(text):
    """The header as a dict, and the lines of the trace."""
    rows = text.splitlines()
    head = [row for row in rows if row.startswith("#")]
    return tomllib.loads("\n".join(row.removeprefix("#").strip() for row in head)), rows[len(head) :]


def rendered(header):
    """What the model's run gives for such a header."""
    host = Host(header["cpu"], header["kernel"], avic=False)
    vm = run(built_in(header["scenario"]), host, **header.get("options", {}))
    assert unfinished(vm) == {}, "the guest still waits for something"
    wanted = header.get("events")
    kept = [r for r in vm.trace.records if wanted is None or r.event.tracepoint in wanted]
    rows = render(kept, host.kernel).removeprefix(HEADER).splitlines()
    return [TIME.sub(" ", row, count=1).strip() for row in rows]


def difference(golden, run):
    """As a diff, empty if they are equal."""
    return "\n".join(difflib.unified_diff(golden, run, "golden", "the model's run", lineterm="", n=2))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_run_gives_the_golden_trace(path):
    header, golden = split(path.read_text(encoding="utf-8"))
    found = rendered(header)
    if os.environ.get("KVMMODEL_GOLDEN") == "write":
        head = [row for row in path.read_text(encoding="utf-8").splitlines() if row.startswith("#")]
        path.write_text("\n".join([*head, *found, ""]), encoding="utf-8")
        golden = found
    assert difference(golden, found) == ""


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_golden_trace_says_where_its_order_is_shown(path):
    header, golden = split(path.read_text(encoding="utf-8"))
    assert {key: type(value) for key, value in header.items()} == {key: KNOWN[key] for key in header}
    assert set(NEEDED) <= set(header)
    assert header["scenario"] in names()
    assert re.search(r"\w+\.[ch]\b|recorded|case", header["source"]), "name a kernel's file, a recording or a case"
    assert golden, "no trace: write it with KVMMODEL_GOLDEN=write"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_another_order_is_a_difference(path):
    """Two different neighbours swapped, or one line lost: the comparison is not of sets."""
    header, golden = split(path.read_text(encoding="utf-8"))
    at = next(i for i, (a, b) in enumerate(itertools.pairwise(golden)) if a != b)
    swapped = [*golden[:at], golden[at + 1], golden[at], *golden[at + 2 :]]
    found = rendered(header)
    assert difference(swapped, found)
    assert difference(golden[1:], found)


def test_there_are_golden_traces():
    assert FILES
