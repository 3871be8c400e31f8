"""The recording's timing, given to the model: when each vCPU did its next thing, and where the host interrupted it.

Which of two vCPUs comes first, and whether a tick falls between an injection and its EOI, is the host's affair; the
model cannot know it. So a run that differs is run again under the recorded times: an instruction that exits waits for
the time of the vCPU's next recorded event, and in an event the other vCPUs run up to its time. A recorded exit for a
host interrupt makes one, before or after the event that was being injected, as was recorded; where an entry was given
up after an injection, the host wants the CPU. A halted vCPU that did not get to sleep is held up before it does, and
one that next had an interrupt window, before its handler returns. What happens then is the model's own doing: it learns
no vector and no register from the recording.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from kvmmodel.conform.excluded import comparable
from kvmmodel.events import Event, KvmExit, KvmInjVirq, KvmPio, KvmUserspaceExit, VmExit, VmRun
from kvmmodel.guest.cpu import GuestCpu
from kvmmodel.guest.program import PORT_MARK
from kvmmodel.kvm.host_irqs import post_irq
from kvmmodel.kvm.types import KvmVcpu
from kvmmodel.machine.loop import run_others
from kvmmodel.machine.vm import Vm
from kvmmodel.silicon.vmcb import SVM_EXIT_WRITE_CR8
from kvmmodel.trace.text import tracepoint

EXITING = ("wrmsr", "rdmsr", "mmio_write", "mmio_read", "out", "hlt", "write_cr8")
BEFORE = 2_000  # ns that an exit takes the model, and a little more
# How long after kvm_entry the guest goes on, in s and at most half of the way to the next event; None: whenever it can.
# The recording does not tell, so each is tried.
LAGS = (None, 0.0, 40e-6)
HELD = 0.004  # s for which the host may keep a guest from its next instruction; more, and it was the guest that waited
SLACK = 1.05  # recorded time runs slower by this, so that the guest's own delays are over in time


@dataclass(frozen=True, slots=True)
class Moment:
    """An event that is compared, and what came between it and the one before it on its vCPU.

    ``entered``: when the guest was first entered, 0 if it was not. ``interrupts``: for each exit for a host interrupt,
    whether an event was being delivered (EXITINTINFO), which an emulator lets happen.
    """

    t: float
    text: str
    entered: float
    interrupts: tuple[bool, ...]


@dataclass(slots=True)
class Conductor:
    """Listens to a run. ``moments`` are recorded, by vCPU; ``done`` counts what the model did of them."""

    vm: Vm
    moments: Mapping[int, Sequence[Moment]]
    scale: float
    lag: float | None
    start: int | None = None
    done: Counter[int] = field(default_factory=Counter)
    interrupts: Counter[int] = field(default_factory=Counter)
    marked: bool = False
    undelivered: dict[int, int] = field(default_factory=dict)  # EVENTINJ that an exit for a host interrupt overtakes

    def at(self, vcpu: int, ahead: int = 0) -> Moment | None:
        """The next recorded event of a vCPU, or one after it."""
        number = self.done[vcpu] + ahead
        recorded = self.moments.get(vcpu, ())
        return recorded[number] if self.start is not None and number < len(recorded) else None

    def time(self, t: float) -> int:
        """A recorded time in the model's."""
        return (self.start or 0) + int((t - self.moments[0][0].t) * 1e9 * self.scale)

    def not_before(self, guest: GuestCpu, op: str) -> int:
        """The machine asks when a guest may execute its next instruction."""
        moment = self.at(guest.ident)
        if moment is None or op not in EXITING:
            return 0
        if op == "write_cr8" and SVM_EXIT_WRITE_CR8 not in guest.vmcb.intercepts:
            return 0
        return self.time(moment.t) - BEFORE

    def __call__(self, event: Event) -> None:
        host = self.vm.machine.host
        task = host.current.current
        if task is not None and task.vcpu is not None and self.start is not None:
            vcpu = task.vcpu.vcpu_id
            if isinstance(event, VmRun):
                self._entered(task.vcpu)
            elif isinstance(event, VmExit):
                task.vcpu.vmcb.exit_int_info = self.undelivered.pop(vcpu, 0)
            elif event.tracepoint is not None:
                self._event(vcpu, event)
        if isinstance(event, KvmPio) and event.port == PORT_MARK:
            self.marked = True
        elif isinstance(event, KvmUserspaceExit) and self.marked and self.start is None:
            self.start = host.current.now

    def _entered(self, vcpu: KvmVcpu) -> None:
        """VMRUN, before the guest's next instruction."""
        moment, host, ident = self.at(vcpu.vcpu_id), self.vm.machine.host, vcpu.vcpu_id
        if moment is None:
            return
        if self.lag is not None and moment.entered and not self.interrupts[ident]:
            lag = min(self.lag, (moment.t - moment.entered) / 2)
            run_others(self.vm.machine, self.time(moment.entered + lag))
        if self.interrupts[ident] < len(moment.interrupts):
            if moment.interrupts[self.interrupts[ident]] and vcpu.vmcb.event_inj:
                self.undelivered[ident], vcpu.vmcb.event_inj = vcpu.vmcb.event_inj, 0
            post_irq(host, host.current, "reschedule", host.current.now)
        elif "reason vintr" in moment.text and moment.t - moment.entered < HELD and self._returns_from_handler(vcpu):
            run_others(self.vm.machine, self.time(moment.t) - BEFORE)

    def _returns_from_handler(self, vcpu: KvmVcpu) -> bool:
        inside = next(v.inside for v in self.vm.vcpus if v.id == vcpu.vcpu_id)
        return len(inside.levels) > 1 and not vcpu.vmcb.rflags_if and not vcpu.vmcb.event_inj

    def _event(self, vcpu: int, event: Event) -> None:
        host = self.vm.machine.host
        if isinstance(event, KvmExit) and event.reason == "interrupt":
            self.interrupts[vcpu] += 1
            return
        text = tracepoint(event, host.kernel) or ""
        moment = self.at(vcpu)
        if moment is None or comparable([(event.tracepoint or "", text)]) == [None]:
            return
        run_others(self.vm.machine, self.time(moment.t))
        following = self.at(vcpu, 1)
        self.done[vcpu] += 1
        self.interrupts[vcpu] = 0
        if following is None:
            return
        if isinstance(event, KvmExit) and event.reason == "hlt" and not following.text.startswith("kvm_vcpu_wakeup"):
            run_others(self.vm.machine, self.time(following.t))
        elif isinstance(event, KvmInjVirq) and following.text.startswith("kvm_inj_virq") and not following.entered:
            # The entry was given up, and the event will be injected again. That takes time; a line twice does not.
            host.current.need_resched = host.current.need_resched or following.t > moment.t


def conduct(moments: Mapping[int, Sequence[Moment]], scale: float, lag: float | None) -> Callable[[Vm], None]:
    """What to do with a VM before it runs. ``scale``: the model's time for a second of the recording's."""

    def prepare(vm: Vm) -> None:
        conductor = Conductor(vm, moments, scale, lag)
        vm.trace.listeners.append(conductor)
        vm.machine.not_before = conductor.not_before

    return prepare
