"""The explorer of the page "PV IPI and PV kick": to several vCPUs by ICR or by hypercall, and a lock's waiter woken."""

from __future__ import annotations

from dataclasses import replace

from kvmmodel.machine.host import Host
from kvmmodel.machine.vm import Vm
from kvmmodel.scenarios.format import Scenario
from kvmmodel.scenarios.run import built_in, run
from kvmmodel.trace.steps import kick_story, story
from kvmmodel.trace.story import BROKEN, Badge, Story
from kvmmodel.trace.telling_pv import PV_TELLERS
from kvmmodel.widgets.stepper import Choice, Stepper, stepper

WAYS = (
    ("ICR, one by one", "each"),
    ("ICR, a cluster", "cluster"),
    ("PV IPI", "pv"),
    ("PV kick", "kick"),
)
TARGETS = (("in guest", "in-guest"), ("halted", "halted"))
COUNTS = (("1", "1"), ("2", "2"), ("4", "4"))
KERNELS = (("6.1", "6.1"), ("6.12.95", "6.12.95"), ("7.3.4", "7.3.4"))
VECTOR = 0x43
MOST_STEPS = 50
LIMIT_NS = 200_000  # a broken run may never come to rest
COMMANDS = {
    "each": "send_ipi_mask",
    "cluster": "send_ipi_mask_cluster",
    "pv": "pv_send_ipi",
    "others": "send_ipi_allbutself",
}
WAITS = {"in-guest": f"busy {VECTOR:#x} 1", "halted": f"wait {VECTOR:#x} 1"}
SENT = {
    "each": "One ICR write after the other",
    "cluster": "One ICR write to a logical cluster",
    "pv": "One hypercall",
    "others": "One ICR write by shorthand",
}


def send(way: str, targets: range) -> str:
    """The sender's step: as Linux sends 0x43 to these vCPUs."""
    to = "" if way == "others" else f"{sum(1 << vcpu for vcpu in targets):#x} "
    return f"{COMMANDS[way]} {to}{VECTOR:#x}"


def pv_scenario(way: str, target: str, count: int) -> Scenario:
    """vCPU 0 sends to ``count`` others that are all in guest or all halted; or kicks one, whose story is its own."""
    if way == "kick":
        return built_in(f"pv-kick-{target}")
    targets = range(1, count + 1)
    return replace(
        built_in("pv-ipi"),
        title=f"{SENT[way]}, to {count} vCPU{'s' * (count > 1)}",
        vm={"vcpus": count + 1, "boot": True, "pcpus": [2, *(vcpu + 4 for vcpu in targets)]},
        programs={0: ("spin 20000", send(way, targets)), **dict.fromkeys(targets, (WAITS[target],))},
    )


def pv_run(way: str, target: str, count: int, kernel: str, broken: bool = False) -> Vm:
    """The run that a story tells."""
    host = Host(kernel=kernel, avic=False)
    return run(pv_scenario(way, target, count), host, broken=("no-unhalt",) if broken else (), limit_ns=LIMIT_NS)


def pv_story(
    way: str = "pv", target: str = "in-guest", count: str = "2", kernel: str = "7.3.4", broken: bool = False
) -> Story:
    """One run. The story follows the last of ``count`` targets, so that all sending is in it; a kick has one target.
    ``broken``: a kick does not set pv_unhalted."""
    scenario, vm = pv_scenario(way, target, int(count)), pv_run(way, target, int(count), kernel, broken)
    badges = (BROKEN,) if broken else tuple(Badge(how, what) for how, what in scenario.known.items())
    what = "A PV kick does not set `pv_unhalted`" if broken else None
    records, release, title, setup = vm.trace.records, vm.host.kernel, scenario.title, _setup(vm, way, target)
    if way == "kick":
        told = kick_story(
            records, release, 1, 0, title=title, setup=setup, badges=badges, broken=what, tellers=PV_TELLERS
        )
    else:
        told = story(
            records, release, "ipi", VECTOR, int(count), title=title, setup=setup, badges=badges, broken=what,
            tellers=PV_TELLERS, most=MOST_STEPS,
        )  # fmt: skip
    return replace(told, verdict=_verdict(told, way)) if broken else told


def _setup(vm: Vm, way: str, target: str) -> str:
    notes = {
        ("kick", "in-guest"): "; one waiter, which executes `HLT` when the lock is released",
        ("kick", "halted"): "; one waiter, asleep",
    }
    note = notes.get((way, target), "")
    return f"Kernel {vm.host.kernel.release}, {vm.host.processor.title}, `avic=0`, x2APIC guest{note}"


def _verdict(told: Story, way: str) -> str:
    """What became of it without the flag."""
    if way != "kick":
        return "Nothing lost. An interrupt is requested in the IRR; `pv_unhalted` is the kick's alone."
    state = told.steps[-1].states[-1]
    return (
        f"Lost wake-up: the lock is free, and vCPU {state.vcpu} sleeps with IF clear. "
        "`KVM_REQ_EVENT` is set, but a request alone is no reason to stop sleeping."
    )


def pv_explorer(kernel: str = "7.3.4") -> Stepper:
    """The widget."""
    choices = (
        Choice("way", "Sent by", WAYS, "pv"),
        Choice("target", "Targets", TARGETS),
        Choice("count", "How many", COUNTS, "2"),
        Choice("kernel", "Kernel", KERNELS, kernel),
    )
    return stepper(pv_story, choices, break_it="a kick sets no `pv_unhalted`")
