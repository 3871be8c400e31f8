"""The host kernel around KVM, as far as a kick needs it: waking threads, sending host IPIs, preemption.

The scheduler is the smallest that shows the paths: one run queue a CPU, a woken thread runs where it ran last.
"""

from __future__ import annotations

from kvmmodel.events import HostIpi, SchedIn, SchedOut, WakeUp
from kvmmodel.kvm.host_irqs import post_irq
from kvmmodel.kvm.host_types import SCHEDULE as SCHEDULE_TOKEN
from kvmmodel.kvm.host_types import Cpu, HostKernel, Run, Task, trace
from kvmmodel.kvm.names import kernel
from kvmmodel.kvm.ops import kvm_x86_ops
from kvmmodel.kvm.requests import KVM_REQ_GLOBAL_CLOCK_UPDATE, kvm_make_request
from kvmmodel.kvm.types import KvmVcpu

CORE, FAIR, SMP, APIC = (
    "kernel/sched/core.c",
    "kernel/sched/fair.c",
    "arch/x86/kernel/smp.c",
    "arch/x86/kernel/apic/ipi.c",
)


@kernel("kernel/rcu/tree_plugin.h")
def __rcu_read_lock() -> None:
    pass


@kernel("kernel/rcu/tree_plugin.h")
def __rcu_read_unlock() -> None:
    pass


@kernel("kernel/locking/spinlock.c")
def _raw_spin_lock_irqsave() -> None:
    pass


@kernel("kernel/locking/spinlock.c")
def _raw_spin_unlock_irqrestore() -> None:
    pass


@kernel("kernel/exit.c")
def rcuwait_wake_up(host: HostKernel, task: Task | None) -> bool:
    """Wake the one thread that waits, if there is one. True if it slept."""
    __rcu_read_lock()
    woken = task is not None and wake_up_process(host, task)
    __rcu_read_unlock()
    return woken


@kernel(CORE)
def wake_up_process(host: HostKernel, task: Task) -> bool:
    return try_to_wake_up(host, task)


@kernel(CORE)
def try_to_wake_up(host: HostKernel, task: Task) -> bool:
    """False if the thread does not sleep, and is not about to."""
    _raw_spin_lock_irqsave()
    woken = task.interruptible
    if woken:
        task.interruptible = False
        trace(host, WakeUp, task.name, task.vcpu.vcpu_id if task.vcpu else None, task.cpu)
        if task.state == "blocked":
            cpu = select_task_rq_fair(host, task)
            task.state = "runnable"
            if not ttwu_queue_wakelist(host, task, cpu):
                ttwu_do_activate(host, task, cpu)
    _raw_spin_unlock_irqrestore()
    return woken


@kernel(FAIR)
def select_task_rq_fair(host: HostKernel, task: Task) -> Cpu:
    """Where the thread ran last: the model pins threads."""
    __rcu_read_lock()
    cpu = cpu_of(host, task.cpu)
    available_idle_cpu(cpu)
    __rcu_read_unlock()
    return cpu


@kernel(CORE, was={"5.10": "available_idle_cpu", "7.2": "choose_idle_cpu"})
def available_idle_cpu(cpu: Cpu) -> bool:
    return _idle(cpu)


def _idle(cpu: Cpu) -> bool:
    return cpu.current is None and not cpu.queue and not cpu.wake_list


@kernel(CORE)
def ttwu_queue_wakelist(host: HostKernel, task: Task, cpu: Cpu) -> bool:
    """An idle remote CPU is told to wake the thread itself: the thread is queued there and a host IPI is sent."""
    if cpu is host.current or not _idle(cpu):
        return False
    __smp_call_single_queue(host, task, cpu)
    return True


@kernel("kernel/smp.c")
def __smp_call_single_queue(host: HostKernel, task: Task, cpu: Cpu) -> None:
    cpu.wake_list.append(task)
    call_function_single_prep_ipi(cpu)
    native_send_call_func_single_ipi(host, cpu)


@kernel(CORE)
def call_function_single_prep_ipi(cpu: Cpu) -> bool:
    """True: an IPI is needed. The model's idle CPUs halt, they do not poll TIF_NEED_RESCHED."""
    return True


@kernel(SMP)
def native_send_call_func_single_ipi(host: HostKernel, cpu: Cpu) -> None:
    default_send_IPI_single_phys(host, cpu, "call_function_single")


@kernel(SMP)
def native_send_call_func_ipi(host: HostKernel, cpu: Cpu) -> None:
    default_send_IPI_single_phys(host, cpu, "call_function")


@kernel(SMP)
def native_smp_send_reschedule(host: HostKernel, cpu: Cpu) -> None:
    default_send_IPI_single_phys(host, cpu, "reschedule")


@kernel(APIC)
def default_send_IPI_single_phys(host: HostKernel, cpu: Cpu, name: str) -> None:
    """The host's own APIC carries it; it arrives one IPI latency later, on the sending CPU itself at once."""
    trace(host, HostIpi, name, cpu.id)
    post_irq(host, cpu, name, host.current.now + (host.costs["ipi"] if cpu is not host.current else 0))


@kernel(CORE)
def ttwu_do_activate(host: HostKernel, task: Task, cpu: Cpu) -> None:
    """A busy or the own CPU: queue the thread there and ask for a reschedule."""
    cpu.queue.append(task)
    resched_curr(host, cpu)


@kernel(CORE)
def resched_curr(host: HostKernel, cpu: Cpu) -> None:
    cpu.need_resched = True
    if cpu is not host.current:
        native_smp_send_reschedule(host, cpu)


def single_task_running(cpu: Cpu) -> bool:
    """Whether nobody else waits for this CPU."""
    return not cpu.queue


@kernel(CORE)  # kernel/sched/syscalls.c since 6.12
def yield_to(host: HostKernel, task: Task) -> int:
    """Put the thread first on its CPU, and give the own one away. 0 if it runs or sleeps, -3 if no CPU has two."""
    own, other = host.current, cpu_of(host, task.cpu)
    if single_task_running(own) and (other.current is not None) + len(other.queue) == 1:
        return -3
    if task not in other.queue:
        return 0
    other.queue.remove(task)
    other.queue.insert(0, task)
    if other is not own:
        resched_curr(host, other)
    own.need_resched = True
    return 1


@kernel(CORE)
def schedule(vcpu: KvmVcpu) -> Run:
    """The vCPU's thread gives its CPU away until the machine picks it again."""
    yield from __schedule(vcpu)


@kernel(CORE)
def __schedule(vcpu: KvmVcpu) -> Run:
    kvm_sched_out(vcpu)
    yield SCHEDULE_TOKEN
    finish_task_switch(vcpu)


@kernel(CORE)
def finish_task_switch(vcpu: KvmVcpu) -> None:
    kvm_sched_in(vcpu)


@kernel("virt/kvm/kvm_main.c")
def kvm_sched_out(vcpu: KvmVcpu) -> None:
    """The preempt notifier: a thread that did not block, was preempted, and is worth yielding to."""
    vcpu.preempted = vcpu.task.state == "running"
    vcpu.ready = vcpu.ready or vcpu.preempted
    trace(vcpu.kvm.host, SchedOut, vcpu.task.name, vcpu.preempted)
    kvm_arch_vcpu_put(vcpu)


@kernel("virt/kvm/kvm_main.c")
def kvm_sched_in(vcpu: KvmVcpu) -> None:
    vcpu.preempted = vcpu.ready = False
    kvm_arch_vcpu_load(vcpu)
    trace(vcpu.kvm.host, SchedIn, vcpu.task.name)


@kernel("virt/kvm/kvm_main.c")
def vcpu_load(vcpu: KvmVcpu) -> None:
    kvm_arch_vcpu_load(vcpu)


@kernel("virt/kvm/kvm_main.c")
def vcpu_put(vcpu: KvmVcpu) -> None:
    kvm_arch_vcpu_put(vcpu)


@kernel("arch/x86/kvm/x86.c")
def kvm_arch_vcpu_load(vcpu: KvmVcpu) -> None:
    """The vCPU is on this CPU from now on; its timer has to follow. The first time, all kvmclocks are to be updated."""
    cpu = vcpu.kvm.host.current
    if not vcpu.loaded:
        vcpu.loaded = True
        kvm_make_request(KVM_REQ_GLOBAL_CLOCK_UPDATE, vcpu)
    if vcpu.cpu != cpu.id:
        vcpu.cpu = vcpu.apic.timer.hrtimer.cpu = cpu.id
    cpu.running_vcpu = vcpu
    kvm_x86_ops.vcpu_load(vcpu)


@kernel("arch/x86/kvm/x86.c")
def kvm_arch_vcpu_put(vcpu: KvmVcpu) -> None:
    kvm_x86_ops.vcpu_put(vcpu)
    vcpu.kvm.host.current.running_vcpu = None


def cpu_of(host: HostKernel, ident: int) -> Cpu:
    """The physical CPU with that number."""
    return next(cpu for cpu in host.cpus if cpu.id == ident)
