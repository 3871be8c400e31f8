"""The explorer of the page on releases: two of them, the changes between, and the same scenario run on both."""

from __future__ import annotations

import sys
from dataclasses import dataclass

from kvmmodel.facts import load
from kvmmodel.facts.between import Difference, differences, known, stops
from kvmmodel.facts.releases import Kernel, kernel
from kvmmodel.scenarios.run import built_in
from kvmmodel.trace.story import Badge
from kvmmodel.widgets import releases_rows, releases_way, versus
from kvmmodel.widgets.avic_default import CPUS as PROCESSORS
from kvmmodel.widgets.comparison import Comparison, comparison
from kvmmodel.widgets.parts import Choice
from kvmmodel.widgets.releases_runs import CASES, Both, Told, compare
from kvmmodel.widgets.svg import el, plain

FROM, TO, SCENARIO = "6.12", "7.3", "ipi-in-guest"
AVICS = (("avic=0", "off"), ("default", "default"), ("avic=1", "on"))
ASKED = {"off": False, "default": None, "on": True}
CPUS = (*PROCESSORS, ("emulated, no NRIPS", "tcg"))
MODES = {"xavic": "AVIC", "x2avic": "x2AVIC", "hybrid": "AVIC, hybrid"}
NOTE = (
    "A run on a point release differs from its neighbours by the changes that are known, and by nothing else. What the "
    "functions are called, and what a parameter is by default, goes by the series and is in no row below."
)


@dataclass(frozen=True, slots=True)
class Diff:
    """Two releases, what lies between them, and a scenario's run on both."""

    a: Kernel
    b: Kernel
    rows: tuple[Difference, ...]
    both: Both
    pair: versus.Pair


def releases_diff(a: str = FROM, b: str = TO, scenario: str = SCENARIO, avic: str = "off", cpu: str = "zen4") -> Diff:
    """``a`` and ``b`` X.Y or X.Y.Z, in any order; ``scenario`` a key of CASES; ``avic`` off, default or on."""
    left, right, case = kernel(a), kernel(b), CASES[scenario]
    both = compare(case, left, right, cpu, ASKED[avic])
    host = both.right.vm.host
    title = f"What changed between {left.release} and {right.release}"
    setup = f"{case.label}. {host.processor.title}, {_parameter(left, right, both, avic)}"
    names = tuple(f"{one.release}: {_state(told)}" for one, told in ((left, both.left), (right, both.right)))
    ends = [
        f"On {one.release}: {told.story.verdict}"
        for one, told in ((left, both.left), (right, both.right))
        if told.story.verdict
    ]
    pair = versus.Pair(
        title, setup, both.left.story, both.right.story, (names[0], names[1]), " ".join([*ends, NOTE]),
        _badges(left, right, case.scenario, avic),
    )  # fmt: skip
    return Diff(left, right, differences(left, right), both, pair)


def _parameter(a: Kernel, b: Kernel, both: Both, avic: str) -> str:
    asked = {"off": "`avic=0`", "on": "`avic=1`", "default": "`avic` not set"}[avic]
    reads = [told.vm.host.sysfs["avic"] for told in (both.left, both.right)]
    if avic == "off":
        return asked
    return f"{asked}: it reads {reads[0]} on {a.release}, {reads[1]} on {b.release}"


def _state(told: Told) -> str:
    """What became of AVIC by the end of the run."""
    if not told.vm.host.params["avic"]:
        return "AVIC off"
    if told.vm.inhibits:
        return f"AVIC inhibited, {', '.join(f'`{name}`' for name in sorted(told.vm.inhibits))}"
    return MODES.get(told.vm.vcpus[-1].avic_mode, "AVIC not active")


def _badges(a: Kernel, b: Kernel, scenario: str, avic: str) -> tuple[Badge, ...]:
    """How the two releases are known; a recording counts where the scenario says so, and recordings have AVIC off."""
    releases = list(dict.fromkeys(one.release for one in (a, b)))
    read = [name for name in releases if name in load("kernels")["series"].values()]
    taped = [name for name in releases if avic == "off" and name in built_in(scenario).known.get("recorded", "")]
    rest = [name for name in releases if name not in read and name not in taped]
    found = (("recorded", taped), ("source", read), ("inferred", rest))
    return tuple(Badge(how, ", ".join(names)) for how, names in found if names)


def heading(diff: Diff) -> str:
    return versus.heading(diff.pair)


def draw(diff: Diff) -> str:
    """The way, how much lies on it, the two runs, then every change."""
    way = releases_way.draw(stops(diff.a, diff.b), (diff.a.release, diff.b.release), diff.rows)
    body = way, _count(diff), versus.draw(diff.pair), releases_rows.draw(diff.rows, diff.both)
    return el("div", *body, class_="km km-run km-releases")


def _count(diff: Diff) -> str:
    if diff.a.release == diff.b.release:
        return el("p", el("b", "One release: no change."), class_="km-between")
    total = len(diff.rows)
    if not total:
        return el("p", el("b", "No change between them is known."), class_="km-between")
    areas = releases_rows.by_area(diff.rows)
    words = ", ".join(f"{len(rows)} {name}" for name, rows in areas)
    first = el("b", f"{total} change{'s lie' if total > 1 else ' lies'} between, as far as is known.")
    return el("p", first, f" {words}. {_ours(diff)}", class_="km-between")


def _ours(diff: Diff) -> str:
    """How many of them the runs have to do with."""
    asked = releases_rows.asked(diff.rows, diff.both)
    if not asked:
        return "The runs ask for none of them."
    found = f"The runs ask for {len(asked)} of them"
    if diff.both.too_many:
        return f"{found}."
    moving = sum(releases_rows.moves(row, diff.both) for row in asked)
    return f"{found}; turned round alone, {moving or 'none'} of these move{'s' * (moving == 1)} a step."


def static(diff: Diff) -> str:
    """Complete in itself, for readers without scripts and for print."""
    return el("section", heading(diff), draw(diff), class_="km km-static", aria_label=plain(diff.pair.title))


def releases_explorer() -> Comparison:
    """The widget."""
    names = tuple((name, name) for name in known())
    cases = tuple((case.label, key) for key, case in CASES.items())
    choices = (
        Choice("a", "From", names, FROM, menu=True),
        Choice("b", "To", names, TO, menu=True),
        Choice("scenario", "Run", cases, SCENARIO, menu=True),
        Choice("avic", "AVIC", AVICS),
        Choice("cpu", "Processor", CPUS, "zen4", menu=True),
    )
    return comparison(releases_diff, choices, view=sys.modules[__name__])
