"""The same scenario on two releases: its two stories, what was asked of the releases, and what hangs on each answer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from kvmmodel.facts.between import differences
from kvmmodel.facts.releases import Kernel
from kvmmodel.machine.asked import flipped, listening
from kvmmodel.machine.host import Host
from kvmmodel.machine.vm import Vm
from kvmmodel.scenarios.run import built_in, run
from kvmmodel.trace import align
from kvmmodel.trace.device import device_story
from kvmmodel.trace.line import line_story
from kvmmodel.trace.steps import extint_story, program_story, story
from kvmmodel.trace.story import Story
from kvmmodel.trace.telling_ipi import IPI_TELLERS

PHASES = LOAD, CREATE, RUN = "load", "create", "run"  # when something is asked: while the modules load, and so on
LIMIT_NS = 2_000_000
MOST_TURNED = 32  # changes, two runs each: what a browser does in a few seconds
Teller = Callable[..., Story]


@dataclass(frozen=True, slots=True)
class Case:
    """A scenario to choose: a label, which built-in one it is, and how its run is told. ``host``: more for the Host."""

    label: str
    scenario: str
    tell: Teller
    host: tuple[tuple[str, Any], ...] = ()


def _ipi(label: str, scenario: str, vector: int = 0x43, target: int = 1) -> Case:
    return Case(label, scenario, partial(story, source="ipi", vector=vector, target=target, tellers=IPI_TELLERS))


def _from(label: str, scenario: str, source: str, vector: int) -> Case:
    return Case(label, scenario, partial(story, source=source, vector=vector, target=0))


def _program(label: str, scenario: str, *vectors: int, since: str = "") -> Case:
    return Case(label, scenario, partial(program_story, vectors=vectors, since=since))


def _device(label: str, scenario: str) -> Case:
    return Case(label, scenario, partial(device_story, host_cpu=6, vector=0x63), (("iommu", "vapic"),))


CASES = {
    "ipi-in-guest": _ipi("IPI, target in guest mode", "ipi-in-guest"),
    "ipi-halted": _ipi("IPI, target halted", "ipi-halted"),
    "ipi-preempted": _ipi("IPI, target preempted", "ipi-preempted"),
    "ipi-logical": _ipi("IPI, logical destination", "ipi-logical-in-guest"),
    "ipi-others": _ipi("IPI, all but self", "ipi-others-in-guest"),
    "ipi-xapic": _ipi("IPI, xAPIC guest", "ipi-xapic-in-guest"),
    "ipi-self": _ipi("IPI to itself, by ICR", "self-ipi-icr", 0x42, 0),
    "msi-in-guest": _from("MSI, vCPU in guest mode", "msi-in-guest", "msi", 0x63),
    "msi-halted": _from("MSI, vCPU halted", "msi-halted", "msi", 0x63),
    "timer-in-guest": _from("Deadline timer, vCPU in guest mode", "timer-in-guest", "timer", 0xE1),
    "timer-halted": _from("Deadline timer, vCPU halted", "timer-halted", "timer", 0xE1),
    "timer-periodic": _program("Periodic timer, preempted", "timer-periodic-preempted", 0xE2, since="WRMSR 0x838"),
    "device-in-guest": _device("Passed-through device, vCPU in guest mode", "device-in-guest"),
    "device-halted": _device("Passed-through device, vCPU halted", "device-halted"),
    "window": _program("Vector while IF is clear", "window-clear-none", 0x41),
    "cr8": _program("TPR raised while a vector waits", "cr8-raised", 0x51, since="WRMSR 0x808"),
    "line": Case("Level line", "level-one", partial(line_story, pin=20, vectors=(0x62, 0x72), accepted=2)),
    "extint": Case("8259's interrupt while IF is clear", "extint-clear", partial(extint_story, raiser="vmm")),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Told:
    """One run of a case: its VM, its story, and the ids that it asked for, each under the last time it did."""

    vm: Vm
    story: Story
    asked: dict[str, str]


@dataclass(frozen=True, slots=True)
class Turned:
    """What comes of one change turned round alone, in one of the two releases or in the other, whichever does more.

    ``moves``: steps of that release's run that are others then; ``closer``: in how many lines fewer the runs differ.
    """

    moves: int = 0
    closer: int = 0


@dataclass(frozen=True, slots=True)
class Both:
    """The runs on two releases. ``turned``: of the changes between them, those that a run asked for after the modules
    were loaded; None for one with which, turned round, the model cannot run. Empty if they were too many."""

    left: Told
    right: Told
    turned: dict[str, Turned | None]
    too_many: bool = False

    def asked(self, behaviour: str) -> str | None:
        """When, at last, one of the runs asked for it; None: neither did."""
        times = [side.asked[behaviour] for side in (self.left, self.right) if behaviour in side.asked]
        return max(times, key=PHASES.index, default=None)


def tell(case: Case, kernel: Kernel, cpu: str, avic: bool | None) -> Told:
    """Run a case on a release. ``avic`` as for a Host: None is the release's default."""
    heard, asked = listening(kernel, LOAD)
    host = Host(cpu, heard, avic, **dict(case.host))
    asked.during = CREATE

    def begin(vm: Vm) -> None:
        asked.during = RUN

    vm = run(built_in(case.scenario), host, prepare=begin, limit_ns=LIMIT_NS)
    told = case.tell(sorted(vm.trace.records, key=lambda record: record.t), kernel, title="", setup="")
    return Told(vm, told, {id: during for during in PHASES for id in asked.found.get(during, ())})


def compare(case: Case, a: Kernel, b: Kernel, cpu: str, avic: bool | None) -> Both:
    """Run it on both; then, for each change between them that was asked for, with that one turned round. A run that did
    not ask for it would be the same run again."""
    both = Both(tell(case, a, cpu, avic), tell(case, b, cpu, avic), {})
    ids = [row.change.id for row in differences(a, b) if both.asked(row.change.id) in (CREATE, RUN)]
    apart = differ(both.left.story, both.right.story)

    def turn(id: str) -> Turned | None:
        found = []
        for kernel, own, other in ((a, both.left, both.right), (b, both.right, both.left)):
            if id not in own.asked:
                continue
            try:
                turned = tell(case, flipped(kernel, id), cpu, avic).story
            except Exception:  # a release that never was: two of its halves need not fit
                continue
            found.append(Turned(differ(turned, own.story), apart - differ(turned, other.story)))
        return max(found, key=lambda one: (one.closer, one.moves), default=None)

    if len(ids) > MOST_TURNED:
        return replace(both, too_many=True)
    return replace(both, turned={id: turn(id) for id in ids})


def differ(left: Story, right: Story) -> int:
    """How many lines of the two stories side by side are not the same step by the same functions."""
    return sum(row.mark != align.SAME for row in align.steps(left, right))
