"""What a run leaves behind: events with their time, place, kernel stack and the state after them."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, field

from kvmmodel.events import Event
from kvmmodel.kvm.host_types import HostKernel
from kvmmodel.kvm.names import KernelFunction, walk
from kvmmodel.kvm.requests import names
from kvmmodel.kvm.svm.predicates import gif_set, svm_get_nmi_mask
from kvmmodel.kvm.types import Kvm, KvmVcpu


@dataclass(frozen=True, slots=True)
class VcpuState:
    """What senders and readers can see of a vCPU. Bitmaps are ints, bit n for vector n."""

    vcpu: int
    cpu: int
    irr: int
    isr: int
    tmr: int
    tpr: int
    ppr: int
    mode: str
    requests: tuple[str, ...]
    thread: str  # running, runnable, blocked
    in_guest: bool
    gif: bool = True
    nmi_blocked: bool = False
    nmis: int = 0  # that wait, wherever that is noted
    smm: bool = False


@dataclass(frozen=True, slots=True)
class Record:
    """One event. ``t`` is virtual ns since the trace began; ``vcpu`` is the one whose thread runs, if any.

    ``cpu`` is the physical CPU; ``stack`` the kernel functions, innermost first; ``states`` all vCPUs after the event.
    """

    t: int
    cpu: int
    vcpu: int | None
    task: str
    event: Event
    stack: tuple[KernelFunction, ...]
    states: tuple[VcpuState, ...]


def state_of(vcpu: KvmVcpu, in_guest: bool) -> VcpuState:
    apic = vcpu.apic
    return VcpuState(
        vcpu.vcpu_id,
        vcpu.cpu,
        apic.irr,
        apic.isr,
        apic.tmr,
        apic.tpr,
        apic.ppr,
        vcpu.mode,
        names(vcpu.requests, vcpu.kvm.host),
        vcpu.task.state,
        in_guest,
        gif_set(vcpu),
        svm_get_nmi_mask(vcpu),
        vcpu.nmi_queued + vcpu.nmi_pending + vcpu.vmcb.v_nmi_pending,
        vcpu.smm,
    )


@dataclass(slots=True)
class Trace:
    """The events of a VM, in order, in ``records``. ``on``: recorded at all; ``stacks``: with kernel stacks.

    Each callable in ``listeners`` is called with each event, recorded or not.
    """

    on: bool = True
    stacks: bool = True
    base: int = 0
    records: list[Record] = field(default_factory=list)
    listeners: list[Callable[[Event], None]] = field(default_factory=list)
    guest_of: dict[int, bool] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.records)

    @property
    def events(self) -> list[Event]:
        """The events alone, in order."""
        return [record.event for record in self.records]

    def clear(self, base: int) -> None:
        """Forget everything; time counts from ``base`` on."""
        self.records.clear()
        self.base = base

    def take(self, host: HostKernel, kvm: Kvm, event: Event) -> None:
        """Record an event of the current CPU, then tell the listeners."""
        if self.on:
            cpu = host.current
            task = cpu.current
            states = tuple(state_of(v, self.guest_of.get(v.vcpu_id, False)) for v in kvm.vcpus if v.apic is not None)
            if self.records and self.records[-1].states == states:
                states = self.records[-1].states
            stack = walk(sys._getframe(1)) if self.stacks and event.lane not in ("guest", "hw") else ()
            vcpu = task.vcpu.vcpu_id if task is not None and task.vcpu is not None else None
            name = task.name if task is not None else "<idle>"
            self.records.append(Record(cpu.now - self.base, cpu.id, vcpu, name, event, stack, states))
        for listener in tuple(self.listeners):
            listener(event)
