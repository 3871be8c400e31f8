"""The recording's timing, given to the model: when each vCPU did its next thing, and where the host interrupted it.

Which of two vCPUs comes first, and whether a tick falls between an injection and its EOI, is the host's affair; the
model cannot know it. So a run that differs is run again under the recorded times: an instruction that exits waits for
the time of the vCPU's next recorded event, a recorded exit for a host interrupt makes one, and a halted vCPU that did
not get to sleep is held up before it does. What happens then is the model's own doing: of the recording it learns times
alone, and which event is a sleep.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from kvmmodel.conform.excluded import comparable
from kvmmodel.events import Event, KvmExit, KvmPio, KvmUserspaceExit, VmRun
from kvmmodel.guest.cpu import GuestCpu
from kvmmodel.guest.program import PORT_MARK
from kvmmodel.kvm.sched import post_irq
from kvmmodel.machine.loop import run_nested
from kvmmodel.machine.vm import Vm
from kvmmodel.silicon.vmcb import SVM_EXIT_WRITE_CR8
from kvmmodel.trace.text import tracepoint

EXITING = ("wrmsr", "rdmsr", "mmio_write", "mmio_read", "out", "hlt", "write_cr8")
BEFORE = 2_000  # ns that an exit takes the model, and a little more
SLACK = 1.05  # recorded time runs slower by this, so that the guest's own delays are over in time


@dataclass(frozen=True, slots=True)
class Moment:
    """An event that is compared, and how many host interrupts were recorded since the one before it."""

    t: float
    event: str
    interrupts: int


@dataclass(slots=True)
class Conductor:
    """Listens to a run. ``moments`` are recorded, by vCPU; ``done`` counts what the model did of them."""

    vm: Vm
    moments: Mapping[int, Sequence[Moment]]
    scale: float
    start: int | None = None
    done: Counter[int] = field(default_factory=Counter)
    interrupts: Counter[int] = field(default_factory=Counter)
    marked: bool = False

    def at(self, vcpu: int, ahead: int = 0) -> Moment | None:
        """The next recorded event of a vCPU, or one after it."""
        number = self.done[vcpu] + ahead
        recorded = self.moments.get(vcpu, ())
        return recorded[number] if self.start is not None and number < len(recorded) else None

    def time(self, moment: Moment) -> int:
        """The recorded time in the model's."""
        first = self.moments[0][0].t
        return (self.start or 0) + int((moment.t - first) * 1e9 * self.scale)

    def not_before(self, guest: GuestCpu, op: str) -> int:
        """The machine asks when a guest may execute its next instruction."""
        moment = self.at(guest.ident)
        if moment is None or op not in EXITING:
            return 0
        if op == "write_cr8" and SVM_EXIT_WRITE_CR8 not in guest.vmcb.intercepts:
            return 0
        return self.time(moment) - BEFORE

    def __call__(self, event: Event) -> None:
        host = self.vm.machine.host
        task = host.current.current
        vcpu = task.vcpu.vcpu_id if task is not None and task.vcpu is not None else None
        if vcpu is not None and self.start is not None:
            if isinstance(event, VmRun):
                self._tick(vcpu)
            elif event.tracepoint is not None:
                self._event(vcpu, event)
        if isinstance(event, KvmPio) and event.port == PORT_MARK:
            self.marked = True
        elif isinstance(event, KvmUserspaceExit) and self.marked and self.start is None:
            self.start = host.current.now

    def _tick(self, vcpu: int) -> None:
        moment, host = self.at(vcpu), self.vm.machine.host
        if moment is not None and self.interrupts[vcpu] < moment.interrupts:
            post_irq(host, host.current, "reschedule", host.current.now)

    def _event(self, vcpu: int, event: Event) -> None:
        host = self.vm.machine.host
        if isinstance(event, KvmExit) and event.reason == "interrupt":
            self.interrupts[vcpu] += 1
            return
        text = tracepoint(event, host.kernel) or ""
        moment = self.at(vcpu)
        if moment is None or comparable([(event.tracepoint or "", text)]) == [None]:
            return
        host.current.now = max(host.current.now, self.time(moment))
        following = self.at(vcpu, 1)
        self.done[vcpu] += 1
        self.interrupts[vcpu] = 0
        if isinstance(event, KvmExit) and event.reason == "hlt" and following and following.event != "kvm_vcpu_wakeup":
            until = self.time(following) - BEFORE
            run_nested(self.vm.machine, lambda: self.vm.machine.now >= until)
            host.current.now = max(host.current.now, until)


def conduct(moments: Mapping[int, Sequence[Moment]], scale: float) -> Callable[[Vm], None]:
    """What to do with a VM before it runs."""

    def prepare(vm: Vm) -> None:
        conductor = Conductor(vm, moments, scale)
        vm.trace.listeners.append(conductor)
        vm.machine.not_before = conductor.not_before

    return prepare
