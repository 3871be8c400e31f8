"""The host around KVM: threads, physical CPUs, timers, work, and the kernel that they belong to. Plain state."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from kvmmodel.events import Event
from kvmmodel.facts.open_points import choose
from kvmmodel.facts.releases import Kernel
from kvmmodel.silicon.avic_tables import HostMemory

if TYPE_CHECKING:
    from kvmmodel.kvm.types import KvmVcpu


@dataclass(frozen=True, slots=True)
class Suspend:
    """What a vCPU's thread hands to the machine when it stops running kernel code."""

    why: str  # vmrun, schedule, poll


VMRUN = Suspend("vmrun")
SCHEDULE = Suspend("schedule")
POLL = Suspend("poll")
# Code that spans VMRUN or schedule() is a generator of these; it is resumed with nothing.
Run = Generator[Suspend, None, Any]


@dataclass(slots=True)
class Task:
    """A host thread. ``state``: running, runnable or blocked; ``cpu`` the physical CPU it is on or was last."""

    name: str
    cpu: int
    vcpu: KvmVcpu | None = None
    state: str = "runnable"
    interruptible: bool = False  # set_current_state(TASK_INTERRUPTIBLE) was called and not undone


@dataclass(slots=True)
class Cpu:
    """A physical CPU: its clock, its run queue, and host interrupts on their way: (arrival ns, order, name)."""

    id: int
    now: int = 0
    current: Task | None = None
    queue: list[Task] = field(default_factory=list)
    wake_list: list[Task] = field(default_factory=list)  # woken from another CPU, queued once its IPI arrives
    irqs: list[tuple[int, int, str]] = field(default_factory=list)
    need_resched: bool = False
    slice_end: int = 0  # when the tick takes the CPU from its thread, if another one waits
    running_vcpu: KvmVcpu | None = None
    doorbells: list[int] = field(default_factory=list)  # AVIC's, by their arrival in ns


@dataclass(slots=True)
class Hrtimer:
    """A host timer, a local APIC's or the PIT's. ``expires`` in virtual ns, None while it is not armed.

    Of timers that expire at the same time on a CPU, the one with the lowest ``rank`` goes first.
    """

    cpu: int
    fn: Callable[[], None]
    rank: int
    expires: int | None = None


@dataclass(slots=True)
class DelayedWork:
    """struct delayed_work, or struct kthread_work where ``worker`` names the kernel thread that is there for it alone.

    ``due`` in virtual ns, None while not pending; ``cpu`` is where it runs. A run of the machine does not go on for the
    sake of ``background`` work.
    """

    fn: Callable[[], None]
    due: int | None = None
    cpu: int = 0
    worker: str = ""
    background: bool = False


class Sink(Protocol):
    """Takes each event as it happens."""

    def __call__(self, event: Event) -> None: ...


@dataclass(slots=True)
class HostKernel:
    """The host: a kernel release, its parameters, its CPUs. ``current`` is the CPU whose code runs."""

    kernel: Kernel
    features: frozenset[str]
    params: dict[str, Any]
    costs: dict[str, int]
    cpus: list[Cpu]
    current: Cpu
    sink: Sink | None = None
    timers: list[Hrtimer] = field(default_factory=list)
    delayed: list[DelayedWork] = field(default_factory=list)
    order: int = 0  # breaks ties between events of the same ns
    memory: HostMemory = field(default_factory=HostMemory)
    iommu: str | None = "vapic"  # "legacy": without guest mode, None: no IOMMU
    device_irqs: dict[str, Callable[[], None]] = field(default_factory=dict)  # a host interrupt's name -> its handler
    open_points: dict[str, str] = field(default_factory=choose)  # where it is not known what the processor does

    def has(self, behaviour: str) -> bool:
        """Whether this release behaves so (facts/changes/)."""
        return behaviour in self.kernel.behaviours

    def spend(self, what: str) -> None:
        """Let the current CPU's clock go on by the cost of something (facts/costs.toml)."""
        self.current.now += self.costs[what]


def trace(host: HostKernel, event: type[Event], *args: object) -> None:
    """Report an event of the current CPU. Costs a test when nobody listens."""
    if host.sink is not None:
        make: Callable[..., Event] = event
        host.sink(make(*args))
