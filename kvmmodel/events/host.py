"""The host kernel around KVM: threads, IPIs, interrupts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from kvmmodel.events.base import Event


@dataclass(frozen=True, slots=True)
class Block(Event):
    kind: ClassVar[str] = "block"
    lane: ClassVar[str] = "sched"
    vcpu_id: int


@dataclass(frozen=True, slots=True)
class WakeUp(Event):
    kind: ClassVar[str] = "wake"
    lane: ClassVar[str] = "sched"
    task: str
    vcpu_id: int | None
    cpu: int


@dataclass(frozen=True, slots=True)
class HostIpi(Event):
    """A host IPI leaves for another CPU; ``name`` is reschedule or call_function_single."""

    kind: ClassVar[str] = "host_ipi"
    lane: ClassVar[str] = "sched"
    name: str
    target_cpu: int


@dataclass(frozen=True, slots=True)
class HostIrq(Event):
    """A host interrupt is taken on this CPU; ``name`` is reschedule, call_function_single, timer or tick."""

    kind: ClassVar[str] = "host_irq"
    lane: ClassVar[str] = "sched"
    name: str


@dataclass(frozen=True, slots=True)
class SchedOut(Event):
    kind: ClassVar[str] = "sched_out"
    lane: ClassVar[str] = "sched"
    task: str
    preempted: bool


@dataclass(frozen=True, slots=True)
class SchedIn(Event):
    kind: ClassVar[str] = "sched_in"
    lane: ClassVar[str] = "sched"
    task: str
