"""The explorer of the page "The life of an IPI": how it is sent, where its target is, on which kernel."""

from __future__ import annotations

from dataclasses import dataclass, replace

from kvmmodel.machine.host import Host
from kvmmodel.machine.vm import Vm
from kvmmodel.scenarios.format import Scenario
from kvmmodel.scenarios.run import built_in, run
from kvmmodel.trace.steps import story
from kvmmodel.trace.story import BROKEN, Badge, Story
from kvmmodel.trace.telling_ipi import IPI_TELLERS
from kvmmodel.widgets.stepper import Choice, Stepper, stepper

FORMS = (
    ("ICR, to one", "one"),
    ("ICR, logical", "logical"),
    ("ICR, all but self", "others"),
    ("ICR, to itself", "itself"),
    ("SELF_IPI", "self"),
    ("xAPIC page", "xapic"),
)
TARGETS = (("in guest", "in-guest"), ("halted", "halted"), ("in host", "in-host"), ("preempted", "preempted"))
KERNELS = (("6.1", "6.1"), ("6.12.95", "6.12.95"), ("7.3.4", "7.3.4"))
NRIPS = (("reported", "on"), ("nrips=0", "off"))
MOST_STEPS = 40
LIMIT_NS = 100_000  # a broken run may never come to rest


@dataclass(frozen=True, slots=True)
class Form:
    """``scenario``: how the scenarios' names begin; with ``to_itself`` there is one, and no other target."""

    scenario: str
    vector: int = 0x43
    to_itself: bool = False


SENT = {
    "one": Form("ipi"),
    "logical": Form("ipi-logical"),
    "others": Form("ipi-others"),
    "itself": Form("self-ipi-icr", 0x42, to_itself=True),
    "self": Form("self-ipi", 0x41, to_itself=True),
    "xapic": Form("ipi-xapic"),
}
UNHARMED = {
    "in-host": "vCPU 1 was in KVM, and finds `KVM_REQ_EVENT` before its next `VMRUN` anyway.",
    "preempted": "vCPU 1's thread finds `KVM_REQ_EVENT` once it has its CPU back; a kick would not bring that nearer.",
    "itself": "The sender is in KVM because of its own exit, and finds `KVM_REQ_EVENT` before its next `VMRUN`.",
}


def _scenario(form: str, target: str) -> Scenario:
    sent = SENT[form]
    return built_in(sent.scenario if sent.to_itself else f"{sent.scenario}-{target}")


def ipi_run(form: str, target: str, kernel: str, nrips: str = "on", broken: bool = False) -> Vm:
    """The run that a story tells and the table counts."""
    host = Host(kernel=kernel, avic=False, nrips=nrips == "on")
    return run(_scenario(form, target), host, broken=("no-kick",) if broken else (), limit_ns=LIMIT_NS)


def ipi_story(
    form: str = "one", target: str = "in-guest", kernel: str = "7.3.4", nrips: str = "on", broken: bool = False
) -> Story:
    """One run. ``form``, ``target``, ``kernel`` and ``nrips`` are values of the choices above; an IPI to itself finds
    its target in the host, whatever ``target`` says. ``broken``: nobody is kicked."""
    sent, scenario = SENT[form], _scenario(form, target)
    vm = ipi_run(form, target, kernel, nrips, broken)
    known = {how: what for how, what in scenario.known.items() if how != "recorded" or nrips == "on"}
    told = story(
        vm.trace.records,
        vm.host.kernel,
        "ipi",
        sent.vector,
        0 if sent.to_itself else 1,
        title=scenario.title,
        setup=_setup(vm, form, nrips),
        badges=(BROKEN,) if broken else tuple(Badge(how, what) for how, what in known.items()),
        broken="`kvm_vcpu_kick` is left out; the request is made" if broken else None,
        tellers=IPI_TELLERS,
        most=MOST_STEPS,
    )
    return replace(told, verdict=_verdict(told, form, target)) if broken else told


def _setup(vm: Vm, form: str, nrips: str) -> str:
    guest = "xAPIC" if form == "xapic" else "x2APIC"
    off = "" if nrips == "on" else ", `nrips=0`"
    note = "; the target is the sender itself, so it is in the host" if SENT[form].to_itself else ""
    return f"Kernel {vm.host.kernel.release}, {vm.host.processor.title}, `avic=0`{off}, {guest} guest{note}"


def _verdict(told: Story, form: str, target: str) -> str:
    """What became of the vector without the kick."""
    vector, state = SENT[form].vector, told.steps[-1].states[-1]
    if not state.irr >> vector & 1:
        return f"Nothing lost. {UNHARMED['itself' if SENT[form].to_itself else target]}"
    if state.thread == "blocked":
        return f"Lost wake-up: IRR `{vector:#x}` is set, and vCPU {state.vcpu} sleeps. Only something else can wake it."
    return (
        f"Late: IRR `{vector:#x}` is set, and vCPU {state.vcpu} runs on in the guest. "
        "Its next exit, perhaps for a host tick, brings it to the request."
    )


def ipi_explorer(kernel: str = "7.3.4") -> Stepper:
    """The widget."""
    choices = (
        Choice("form", "IPI", FORMS),
        Choice("target", "Target", TARGETS),
        Choice("kernel", "Kernel", KERNELS, kernel),
        Choice("nrips", "NRIPS", NRIPS),
    )
    return stepper(ipi_story, choices, break_it="kick nobody")
