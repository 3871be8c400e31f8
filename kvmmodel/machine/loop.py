"""The loop: whichever physical CPU is earliest takes one turn, until VMRUN, schedule() or idle. Deterministic."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from kvmmodel.events import SchedIn, SchedOut, VmRun
from kvmmodel.guest.cpu import GuestCpu, fetch, leave
from kvmmodel.guest.execute import execute
from kvmmodel.guest.taking import avic_due, doorbell, take_avic, take_virq, take_vnmi, vmrun, vnmi, window
from kvmmodel.kvm import host_irqs, sched, vcpu_ioctl
from kvmmodel.kvm.host_types import POLL, VMRUN, Cpu, HostKernel, Task, trace
from kvmmodel.kvm.names import boundary
from kvmmodel.kvm.types import Kvm, KvmVcpu
from kvmmodel.kvm.workqueue import ret_from_fork_asm
from kvmmodel.machine.record import Trace
from kvmmodel.silicon.vmcb import SVM_EXIT_INTR

NEVER = 1 << 62


@dataclass(slots=True)
class Thread:
    """A host thread as the loop drives it: a vCPU's, userspace's with calls to make, or one that only burns time."""

    task: Task
    vcpu: KvmVcpu | None = None
    guest: GuestCpu | None = None
    in_guest: bool = False
    calls: list[Callable[[], object]] = field(default_factory=list)
    burn: int = 0


@dataclass(slots=True)
class Machine:
    """A host with one VM, its threads, and what userspace does when a vCPU exits to it."""

    host: HostKernel
    kvm: Kvm
    trace: Trace
    threads: dict[str, Thread] = field(default_factory=dict)
    on_exit: Callable[[KvmVcpu], None] = lambda vcpu: None
    now: int = 0
    not_before: Callable[[GuestCpu, str], int] | None = None  # when a guest may execute an instruction, if not at once
    held: set[int] = field(default_factory=set)  # CPUs in the middle of a turn, while others run nested in it
    hardware: list[tuple[int, int, Callable[[int], None]]] = field(default_factory=list)  # when, order, what: no CPU's


def ready_at(machine: Machine, cpu: Cpu) -> int:
    """When this CPU next does something, NEVER if nothing is in sight."""
    thread = machine.threads[cpu.current.name] if cpu.current is not None else None
    if thread is None:
        return max(cpu.now, machine.now) if cpu.queue else _next_irq(machine.host, cpu)
    if thread.guest is None or not thread.in_guest:
        return cpu.now
    guest = thread.guest
    if window(guest) or vnmi(guest) or avic_due(guest) or guest.vmcb.exit_code:
        return cpu.now
    insn = guest.levels[-1].insn if guest.levels else None
    if insn is None:
        return _next_irq(machine.host, cpu)
    if insn.op != "pause" or (insn.test is not None and insn.test()):
        return max(cpu.now, machine.now) if insn.op == "pause" else _executes_at(machine, cpu, guest, insn.op)
    return min(_next_irq(machine.host, cpu), NEVER if insn.end is None else insn.end)


def _executes_at(machine: Machine, cpu: Cpu, guest: GuestCpu, op: str) -> int:
    if machine.not_before is None:
        return cpu.now
    return max(cpu.now, min(machine.not_before(guest, op), _next_irq(machine.host, cpu)))


def _next_irq(host: HostKernel, cpu: Cpu) -> int:
    times = [t.expires for t in host.timers if t.cpu == cpu.id and t.expires is not None]
    if cpu.irqs:
        times.append(cpu.irqs[0][0])
    if cpu.doorbells and cpu.current is not None:
        times.append(min(cpu.doorbells))
    if cpu.queue and cpu.current is not None and not cpu.need_resched:
        times.append(cpu.slice_end)
    return max(min(times), cpu.now) if times else NEVER


def earliest(machine: Machine) -> int:
    """When a CPU that is not in the middle of a turn next does something, or a kernel thread has to."""
    cpus = [cpu for cpu in machine.host.cpus if cpu.id not in machine.held]
    return min([NEVER, *(ready_at(machine, cpu) for cpu in cpus), *_work_due(machine.host), *_hardware_due(machine)])


def _work_due(host: HostKernel) -> list[int]:
    return [work.due for work in host.delayed if work.due is not None and not work.background]


def _hardware_due(machine: Machine) -> list[int]:
    return [machine.hardware[0][0]] if machine.hardware else []


def schedule_hardware(machine: Machine, at: int, act: Callable[[int], None]) -> None:
    """Have something that is no CPU act at a time, which it is told; between two turns, before CPUs of that time."""
    machine.host.order += 1
    machine.hardware.append((at, machine.host.order, act))
    machine.hardware.sort(key=lambda waiting: waiting[:2])


def _act(machine: Machine) -> None:
    at, _, act = machine.hardware.pop(0)
    machine.now = max(machine.now, at)
    act(at)


def step(machine: Machine) -> bool:
    """One turn of the earliest CPU. False: nothing is left to happen."""
    waiting = [(ready_at(machine, cpu), cpu.id, cpu) for cpu in machine.host.cpus if cpu.id not in machine.held]
    if not waiting:
        return False
    if machine.hardware and machine.hardware[0][0] <= min(waiting, key=lambda w: w[:2])[0]:
        _act(machine)
        return True
    at, _, cpu = min(waiting, key=lambda w: w[:2])
    until = min([at, *_work_due(machine.host)])
    if until >= NEVER:
        return False
    if machine.host.delayed and _queue_work(machine, until):
        return True
    cpu.now = max(cpu.now, at)
    machine.now = max(machine.now, cpu.now)
    take_turn(machine, cpu)
    return True


def _queue_work(machine: Machine, until: int) -> bool:
    """Give the earliest work that is due by then to its CPU's kernel thread. False: none is."""
    host = machine.host
    work = min(host.delayed, key=lambda w: w.due or 0)
    if work.due is None or work.due > until:
        return False
    host.delayed.remove(work)
    machine.now = max(machine.now, work.due)
    name = work.worker or f"kworker/{work.cpu}:1"
    thread = machine.threads.setdefault(name, Thread(Task(name, work.cpu, state="blocked")))
    thread.calls.append(lambda: ret_from_fork_asm(host, work))
    if thread.task.state == "blocked":
        start(machine, thread.task)
        sched.resched_curr(host, sched.cpu_of(host, work.cpu))
    return True


@boundary
def take_turn(machine: Machine, cpu: Cpu) -> None:
    """Run one CPU until it waits for something again. Kernel stacks of what happens end here."""
    host = machine.host
    before, host.current = host.current, cpu
    machine.held.add(cpu.id)
    try:
        if cpu.current is None:
            _idle(machine, cpu)
        else:
            thread = machine.threads[cpu.current.name]
            if thread.vcpu is None:
                _run_other(machine, cpu, thread)
            elif thread.in_guest:
                _run_guest(machine, cpu, thread)
            else:
                _run_vcpu(machine, cpu, thread)
    finally:
        machine.held.discard(cpu.id)
        host.current = before


def _idle(machine: Machine, cpu: Cpu) -> None:
    host = machine.host
    if host_irqs.irq_pending(host, cpu):
        host.spend("idle_exit")
        host_irqs.cpu_startup_entry(host)
    _pick_next(machine, cpu)


def _pick_next(machine: Machine, cpu: Cpu) -> None:
    """schedule()'s other half: the next thread in the queue goes on, if there is one."""
    cpu.need_resched = False
    if not cpu.queue:
        return
    task = cpu.queue.pop(0)
    machine.host.spend("context_switch")
    cpu.current, task.state = task, "running"
    cpu.slice_end = cpu.now + machine.host.costs["slice"]
    if task.vcpu is None:
        trace(machine.host, SchedIn, task.name)  # a vCPU's thread tells it itself, in kvm_sched_in


def _switch_out(machine: Machine, cpu: Cpu) -> None:
    """schedule(): the current thread blocked, or was preempted and stays runnable."""
    task = cpu.current
    assert task is not None
    preempted = task.state == "running"
    if task.vcpu is None:
        trace(machine.host, SchedOut, task.name, preempted)
    cpu.current = None
    if preempted:
        task.state = "runnable"
        cpu.queue.append(task)
    _pick_next(machine, cpu)


def _run_other(machine: Machine, cpu: Cpu, thread: Thread) -> None:
    """A userspace thread makes its next call, a burning one burns until the next interrupt; both take interrupts."""
    host = machine.host
    host_irqs.take_irqs(host)
    if thread.calls:
        host.spend("syscall")
        thread.calls.pop(0)()
        return
    if thread.burn:
        spent = min(thread.burn, max(_next_irq(host, cpu) - cpu.now, 1))
        cpu.now += spent
        thread.burn -= spent
        return
    thread.task.state = "blocked"
    thread.task.interruptible = True
    _switch_out(machine, cpu)


def _run_guest(machine: Machine, cpu: Cpu, thread: Thread) -> None:
    """One instruction of the guest, or the exit that a host interrupt or an open window forces."""
    host, guest = machine.host, thread.guest
    assert guest is not None
    rung = _doorbells(cpu)
    if rung:
        doorbell(guest, cpu.id)
    if host_irqs.irq_pending(host, cpu):
        leave(guest, SVM_EXIT_INTR)
    elif vnmi(guest):
        take_vnmi(guest)
    elif avic_due(guest):
        take_avic(guest)
    elif window(guest):
        take_virq(guest)
    elif not guest.vmcb.exit_code and not rung:  # the next instruction may be one whose time has not come
        insn = guest.levels[-1].insn
        assert insn is not None
        if insn.op == "pause":
            guest.levels[-1].insn = None
            host.spend("spin")
        else:
            host.spend("instruction")
            execute(guest, insn)
    if not guest.vmcb.exit_code:
        prefetch(guest)
        return
    machine.trace.guest_of[guest.ident] = thread.in_guest = False
    host.spend("vmexit")
    _run_vcpu(machine, cpu, thread)


def _doorbells(cpu: Cpu) -> bool:
    """Whether one has arrived; those that have are gone then. One that comes while no guest runs: an open point."""
    arrived = [at for at in cpu.doorbells if at <= cpu.now]
    cpu.doorbells = [at for at in cpu.doorbells if at > cpu.now]
    return bool(arrived)


def prefetch(guest: GuestCpu) -> None:
    """Have the next instruction ready; a guest that spins leaves an interrupt shadow."""
    insn = fetch(guest)
    if not guest.vmcb.exit_code and (insn is None or insn.op == "pause"):
        guest.vmcb.int_state = False


def _run_vcpu(machine: Machine, cpu: Cpu, thread: Thread) -> None:
    """The vCPU's thread in the kernel, and in userspace between two KVM_RUNs."""
    host, vcpu, guest = machine.host, thread.vcpu, thread.guest
    assert vcpu is not None
    assert guest is not None
    token = vcpu_ioctl.kvm_run(vcpu)
    if token is VMRUN:
        host.spend("vmrun")
        machine.trace.guest_of[guest.ident] = thread.in_guest = True
        trace(host, VmRun, vcpu.vcpu_id, vcpu.vmcb.event_inj)
        if host.open_points["avic_doorbell_in_host"] == "lost":
            _doorbells(cpu)  # VMRUN looks into the IRR anyway
        guest.vmcb = vcpu.vmcb
        vmrun(guest)
        if not host_irqs.irq_pending(host, cpu):  # else the exit comes before the guest's next instruction
            prefetch(guest)
    elif token is POLL:
        return
    elif token is not None:
        _switch_out(machine, cpu)
    else:
        host.spend("userspace")
        machine.on_exit(vcpu)


def run(machine: Machine, done: Callable[[], bool], limit: int) -> bool:
    """Turns until ``done``, until nothing is left, or for ``limit`` ns. True: ``done`` holds."""
    stop = machine.now + limit
    while not done():
        if machine.now > stop or not step(machine):
            return done()
    return True


def run_nested(machine: Machine, done: Callable[[], bool]) -> bool:
    """Other CPUs' turns in the middle of this one's, until ``done``: a race made on purpose."""
    before = {cpu.id: cpu.now for cpu in machine.host.cpus}
    reached = run(machine, done, NEVER // 2)
    current = machine.host.current
    ran = [cpu.now for cpu in machine.host.cpus if cpu.now != before[cpu.id]]
    current.now = max([current.now, *ran])  # what follows here comes after what happened there
    return reached


def run_others(machine: Machine, until: int) -> None:
    """Other CPUs' turns in the middle of this one's, up to a time; it is that time here, too, afterwards."""
    run(machine, lambda: earliest(machine) >= until, NEVER // 2)
    machine.host.current.now = max(machine.host.current.now, until)


def start(machine: Machine, task: Task) -> None:
    """Let a thread run: queue it on its CPU, not before now; in a turn that is the time of the CPU whose turn it is."""
    cpu = sched.cpu_of(machine.host, task.cpu)
    task.state = "runnable"
    cpu.now = max(cpu.now, machine.now, machine.host.current.now if machine.held else 0)
    cpu.queue.append(task)
