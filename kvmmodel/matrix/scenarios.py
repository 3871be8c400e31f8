"""Every built-in scenario on one host: does it come to its end, or is it known that this release loses something?"""

from __future__ import annotations

from dataclasses import dataclass

from kvmmodel.facts.releases import Kernel
from kvmmodel.matrix.hosts import host
from kvmmodel.scenarios.run import built_in, names, run, unfinished


@dataclass(frozen=True, slots=True)
class Loss:
    """A bug of releases without ``fix``, a behaviour of facts/changes, that vCPUs in AVIC ``mode`` meet."""

    mode: str
    fix: str
    why: str


LOSSES = {
    "ipi-logical-halted": Loss(
        "x2avic",
        "kick_fast_x2apic_logical",
        "an x2APIC logical IPI to a sleeping vCPU of cluster 0 sets IRR and wakes nobody: "
        "avic_kick_target_vcpus_fast takes the cluster's bits for the mask",
    ),
    "cr8-handler": Loss(
        "hybrid",
        "sync_lapic_to_cr8_always",
        "a TPR that the guest writes by MSR is lost: sync_lapic_to_cr8 does nothing while AVIC is active, "
        "and after the exit V_TPR's old value is copied back",
    ),
}


@dataclass(frozen=True, slots=True)
class Outcome:
    """``failed``: one line for each scenario that raises, waits for what never comes, or comes to an end where a loss
    is expected. ``lost``: scenarios that end as this release's known bugs have it."""

    failed: tuple[str, ...]
    lost: tuple[str, ...]


def outcome(kernel: str, cpu: str, avic: bool) -> Outcome:
    """All scenarios on this host."""
    failed, lost = [], []
    for name in names():
        made = host(kernel, cpu, avic)
        try:
            vm = run(built_in(name), made, stacks=False)
        except Exception as problem:  # whatever it is, the rest has to be run as well
            failed.append(f"{name}: {type(problem).__name__}: {problem}")
            continue
        left = [f"{name}: vCPU {vcpu} is still at {step!r}" for vcpu, step in unfinished(vm).items()]
        if not expected(name, made.kernel, vm.vcpus[0].avic_mode):
            failed += left
        elif left:
            lost.append(name)
        else:
            failed.append(f"{name}: came to its end, though {LOSSES[name].why}")
    return Outcome(tuple(failed), tuple(lost))


def expected(name: str, kernel: Kernel, mode: str) -> bool:
    """Whether this release is known to lose something in this scenario."""
    loss = LOSSES.get(name)
    return loss is not None and loss.mode == mode and not kernel.has(loss.fix)
