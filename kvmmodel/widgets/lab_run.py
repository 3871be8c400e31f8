"""One run of the delivery lab: a scenario's text on a host, what happened in it, and what the host says of itself.

Bad input ends in Refused, with the line that ``kvmmodel run`` prints. Runs are cut short after MOST_EVENTS, and have at
most MOST_VCPUS: a page is to answer at once. The command has no such limits.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from kvmmodel.events import Event
from kvmmodel.facts import load
from kvmmodel.facts.params import kind_of
from kvmmodel.facts.releases import kernel as release
from kvmmodel.facts.releases import series, version
from kvmmodel.machine.breakable import BREAKABLE, check_rules
from kvmmodel.machine.host import Host
from kvmmodel.machine.vm import Vm
from kvmmodel.scenarios.format import Scenario, ScenarioError, read
from kvmmodel.scenarios.run import run, unfinished
from kvmmodel.trace.bill import bill_at, causes
from kvmmodel.trace.story import BROKEN, Badge, Story
from kvmmodel.trace.tell import Happening, happenings, tell
from kvmmodel.widgets import bill as sheet
from kvmmodel.widgets.ipi_costs import ranges
from kvmmodel.widgets.lab_text import scenario_text
from kvmmodel.widgets.page import Html
from kvmmodel.widgets.parts import Refused
from kvmmodel.widgets.svg import el, esc, rich

NAME = "my.toml"
MOST_EVENTS, MOST_VCPUS, MOST_NS = 4_000, 16, 10_000_000_000
COLUMNS = 4  # of the bill
MODES = {"off": "off", "xavic": "xAVIC", "x2avic": "x2AVIC", "hybrid": "hybrid AVIC"}
ASKED = {"auto": None, "on": True, "off": False}
KNOWN = Badge("inferred", "the model's run of this file, which nobody recorded")
AVIC = Badge("manual", "AVIC: AMD APM 15.29")


class Enough(Exception):
    """So many events that the rest is left out."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """The host: facts' names of processor, kernel and IOMMU; ``avic`` auto, on or off; ``ipiv`` default or off;
    ``params`` more parameters, as NAME=VALUE words."""

    cpu: str = "zen4"
    kernel: str = "7.3"
    avic: str = "auto"
    ipiv: str = "default"
    iommu: str = "vapic"
    params: str = ""


@dataclass(frozen=True, slots=True)
class Lab:
    """A run that was made. ``notes``: what a reader has to know of it, a line each."""

    scenario: Scenario
    host: Host
    vm: Vm
    happened: tuple[Happening, ...]
    notes: tuple[str, ...]


def host_of(wanted: Wanted) -> Host:
    """Errors: Refused."""
    params = _params(wanted.params)
    if wanted.ipiv == "off":
        params.setdefault("enable_ipiv", "N")
    try:
        one = release(wanted.kernel)
        if "enable_ipiv" in params and kind_of("enable_ipiv", one) is None:
            raise Refused(
                f"Kernel {one.release} has no parameter enable_ipiv: {_since('enable_ipiv')} and later have it."
            )
        avic = params.pop("avic", ASKED[wanted.avic])
        return Host(wanted.cpu, wanted.kernel, avic, iommu=None if wanted.iommu == "none" else wanted.iommu, **params)
    except ValueError as error:
        raise Refused(_line(error)) from None


def _since(name: str) -> str:
    return next(one for one in series() if kind_of(name, release(one)) is not None)


def _params(text: str) -> dict[str, Any]:
    """Errors: Refused."""
    found: dict[str, Any] = {}
    for word in text.split():
        name, equals, value = word.partition("=")
        if not equals or not name.isidentifier():
            raise Refused(f"More parameters: expected NAME=VALUE, got {word!r}")
        if name in found:
            raise Refused(f"More parameters: {name} is given twice")
        if name in ("cpu", "kernel", "iommu", "snp", "open_points"):
            raise Refused(f"More parameters: {name} is no parameter of kvm or kvm_amd")
        found[name] = value
    return found


def _line(error: Exception) -> str:
    return " ".join(str(error).split())


def make(text: str, wanted: Wanted) -> Lab:
    """Run it. Errors: Refused."""
    try:
        scenario = read(NAME, text)
        check_rules(scenario.broken)
    except (ValueError, RecursionError) as error:
        raise Refused(_line(error)) from None
    if scenario.vm.get("vcpus", 2) > MOST_VCPUS:
        raise Refused(f"{NAME}: more than {MOST_VCPUS} vCPUs take too long here: kvmmodel run has no such limit")
    host = host_of(wanted)
    kept: list[Vm] = []
    notes = _unheard(host, wanted)
    try:
        vm = run(scenario, host, limit_ns=min(scenario.limit_ns, MOST_NS), prepare=lambda vm: _guard(vm, kept))
    except Enough:
        vm = kept[0]
        notes.append(f"Cut short after {MOST_EVENTS} events. `kvmmodel run` goes on to the end.")
    except (ValueError, ScenarioError) as error:
        raise Refused(_line(error)) from None
    for vcpu, step in unfinished(vm).items():
        notes.append(f"{NAME}: vCPU {vcpu} did not finish: it is still at `{step}`")
    return Lab(scenario, host, vm, tuple(happenings(vm.trace.records)), tuple(notes))


def _unheard(host: Host, wanted: Wanted) -> list[str]:
    """AVIC that was asked for in vain."""
    if wanted.avic != "on" or host.params["avic"]:
        return []
    said = "".join(f"; its log: `{line}`" for line in host.dmesg if "AVIC" in line)
    return [f"`avic` resolves to N on {host.processor.title} with kernel {host.kernel.release}{said}"]


def _guard(vm: Vm, kept: list[Vm]) -> None:
    kept.append(vm)

    def count(_: Event) -> None:
        if len(vm.trace) > MOST_EVENTS:
            raise Enough

    vm.trace.listeners.append(count)


# -- the story ---------------------------------------------------------------------------------------------------------


def told(lab: Lab, follow: int | str) -> Story:
    """``follow``: the number of an interrupt, from 1, or "vcpuN" for all that a vCPU does. Past the last: the last; in
    a run without interrupts the first vCPU that does something. Errors: Refused."""
    broken = lab.scenario.broken
    words: dict[str, Any] = {
        "title": lab.scenario.title,
        "setup": setup(lab),
        "badges": (*([BROKEN] if broken else []), KNOWN, *([AVIC] if lab.host.params["avic"] else [])),
        "broken": "; ".join(f"`{rule}`: {BREAKABLE[rule]}" for rule in broken) or None,
    }
    errors = []
    for which in _order(lab, follow):
        try:
            made = tell(lab.vm.trace.records, lab.host.kernel, which, **words)
        except ValueError as error:
            errors.append(_line(error))
            continue
        if made.steps:
            return replace(made, counted=True, verdict=made.verdict or (_unharmed(made) if broken else None))
    raise Refused(f"Nothing in this run makes a story: {errors[0] if errors else 'no vCPU does anything'}.")


def _order(lab: Lab, follow: int | str) -> list[Happening | int]:
    vcpus = list(range(len(lab.vm.vcpus)))
    if isinstance(follow, str):
        wanted = int(follow.removeprefix("vcpu"))
        return [wanted, *(vcpu for vcpu in vcpus if vcpu != wanted)] if wanted in vcpus else list(vcpus)
    return [*([lab.happened[min(follow, len(lab.happened)) - 1]] if lab.happened else []), *vcpus]


def _unharmed(story: Story) -> str:
    if story.steps[-1].kind in ("eoi", "resume"):
        return "Nothing lost. This run gets there without the rule."
    return "The story ends here. Compare it with the same run unbroken."


def setup(lab: Lab) -> str:
    """The line under the title: the host, and what AVIC was in the end."""
    host, vm = lab.host, lab.vm
    modes = list(dict.fromkeys(MODES[vcpu.avic_mode] for vcpu in vm.vcpus))
    mode = " and ".join(modes)
    if not host.params["avic"]:
        what = "`avic=N`"
    elif vm.inhibits and modes == ["off"]:
        what = f"`avic=Y`, inhibited by {', '.join(f'`{name}`' for name in sorted(vm.inhibits))}"
    else:
        ipiv = ", `enable_ipiv=N`" if host.params.get("enable_ipiv") is False else ""
        what = f"`avic=Y`{ipiv}, {mode}"
    guest = "x2APIC" if lab.scenario.vm.get("x2apic", True) else "xAPIC"
    if lab.scenario.after is not None or not lab.scenario.vm.get("boot"):
        return f"Kernel {host.kernel.release}, {host.processor.title}: {what}"
    return f"Kernel {host.kernel.release}, {host.processor.title}, {guest} guest: {what}"


# -- beside the story --------------------------------------------------------------------------------------------------


def listed(lab: Lab, follow: int | str) -> str:
    """What happened, numbered as the choice is. HTML."""
    rows = lab.happened[:9]
    shown = min(follow, len(lab.happened)) if isinstance(follow, int) else 0
    items = [
        el("li", f"<b>{i}</b> ", f"<mark>{rich(one.what)}</mark>" if i == shown else rich(one.what))
        for i, one in enumerate(rows, 1)
    ]
    more = len(lab.happened) - len(rows)
    if more > 0:
        items.append(el("li", f"and {more} more"))
    if not rows:
        items = [el("li", "No interrupt came: the story is what a vCPU does.")]
    notes = [el("p", rich(note), class_="km-note") for note in lab.notes]
    return el("div", el("h4", "In this run", class_="km-at"), el("ol", *items, class_="km-happened"), *notes)


def billed(lab: Lab, follow: int | str) -> str:
    """The bill of up to COLUMNS interrupts, the one that is followed among them. HTML; empty if none has one."""
    ordered = sorted(lab.vm.trace.records, key=lambda record: record.t)
    places = {(one.at, one.vector): i for i, one in enumerate(lab.happened, 1) if one.kind not in ("nmi", "smi")}
    found = [(places[at, vector], at, vector, targets) for at, vector, targets in causes(ordered)]
    if not found:
        return ""
    wanted = follow if isinstance(follow, int) else 1
    first = max(0, min(sum(number < wanted for number, *_ in found) - 1, len(found) - COLUMNS))
    entries = []
    for number, at, vector, targets in found[first : first + COLUMNS]:
        bill = bill_at(ordered, at, vector, targets, lab.host.kernel)
        entries.append(sheet.Entry(f"{number}: {vector:#x}", _note(bill.targets, bill.cause), bill))
    shown = tuple(entries)
    case = (f"The bill, {len(shown)} of {len(found)}" if len(shown) < len(found) else "The bill", shown)
    return sheet.draw(sheet.Sheet("", "", (case,)))


def _note(targets: Sequence[int], cause: str) -> str:
    return f"to vCPU {', '.join(map(str, targets))}, from `{cause.partition(' = ')[0]}`"


def host_panel(host: Host, wanted: Wanted) -> str:
    """The command, the parameters once loaded, and the log. HTML."""
    shown = "\n".join(f"{name}={value}" for name, value in host.sysfs.items())
    log = "\n".join(host.dmesg) or "(nothing)"
    return el(
        "div",
        el("h4", "The same in a terminal", class_="km-at"),
        el("div", esc(command(wanted)), class_="km-cmd"),
        el("h4", "What this host says", class_="km-at"),
        el(
            "div",
            el("div", el("p", rich("`/sys/module/kvm*/parameters`"), class_="km-sub"), el("pre", esc(shown))),
            el("div", el("p", rich("`dmesg`, of what is modelled"), class_="km-sub"), el("pre", esc(log))),
            class_="km-shows",
        ),
        class_="km",
    )


def command(wanted: Wanted) -> str:
    words = ["kvmmodel", "run", NAME, "--kernel", wanted.kernel, "--cpu", wanted.cpu]
    params = wanted.params.split()
    if wanted.avic != "auto" and not any(word.startswith("avic=") for word in params):
        words += ["--avic", wanted.avic]
    if wanted.iommu != "none":
        words += ["--iommu", wanted.iommu]
    if wanted.ipiv == "off" and not any(word.startswith("enable_ipiv=") for word in params):
        params = ["enable_ipiv=N", *params]
    for word in params:
        words += ["--param", word]
    return shlex.join(words)


def kernels() -> tuple[str, ...]:
    """Series and recorded point releases, in order."""
    return tuple(sorted({*series(), *load("kernels")["recorded"]}, key=version))


# -- one file, every kernel --------------------------------------------------------------------------------------------

MARKS = (("avic=0", "off"), ("avic=1", "on"))


def every_kernel(source: str, state: str, apic: str = "x2apic", cpu: str = "zen4") -> Html:
    """What the first interrupt of such a file costs with AVIC off and asked for, by series. Same ones share a row."""
    found: dict[tuple[tuple[int, ...], ...], list[str]] = {}
    text = scenario_text(source, state, apic, "none")
    for kernel in series():
        runs = tuple(_counts(make(text, Wanted(cpu, kernel, avic))) for _, avic in MARKS)
        found.setdefault(runs, []).append(kernel)
    heads = [el("th", f"{label}, {esc(mark)}", scope="col") for mark, _ in MARKS for label, _ in SHORT]
    rows = [
        el("tr", el("th", ranges(kernels), scope="row"), *(el("td", str(n)) for counts in runs for n in counts))
        for runs, kernels in found.items()
    ]
    head = el("tr", el("th", "kernel", scope="col"), *heads)
    return Html(el("table", el("thead", head), el("tbody", *rows), class_="km-table km-six"))


SHORT = (("exits", "exits"), ("host IPIs", "host_ipis"), ("doorbells", "doorbells"))


def _counts(lab: Lab) -> tuple[int, ...]:
    ordered = sorted(lab.vm.trace.records, key=lambda record: record.t)
    first = bill_at(ordered, *causes(ordered)[0], lab.host.kernel)
    return tuple(len(getattr(first, key)) for _, key in SHORT)
