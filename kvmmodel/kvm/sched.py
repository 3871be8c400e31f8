"""The host kernel around KVM, as far as a kick needs it: waking threads, host IPIs, interrupts, timers, preemption.

The scheduler is the smallest that shows the paths: one run queue a CPU, a woken thread runs where it ran last.
"""

from __future__ import annotations

from kvmmodel.events import HostIpi, HostIrq, SchedIn, SchedOut, WakeUp
from kvmmodel.kvm.names import kernel
from kvmmodel.kvm.requests import KVM_REQ_GLOBAL_CLOCK_UPDATE, kvm_make_request
from kvmmodel.kvm.types import SCHEDULE as SCHEDULE_TOKEN
from kvmmodel.kvm.types import Cpu, HostKernel, KvmVcpu, Run, Task, trace

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
    """The preempt notifier: a thread that did not block, was preempted."""
    vcpu.preempted = vcpu.task.state == "running"
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


@kernel("arch/x86/kvm/x86.c")
def kvm_arch_vcpu_put(vcpu: KvmVcpu) -> None:
    vcpu.kvm.host.current.running_vcpu = None


def cpu_of(host: HostKernel, ident: int) -> Cpu:
    """The physical CPU with that number."""
    return next(cpu for cpu in host.cpus if cpu.id == ident)


def post_irq(host: HostKernel, cpu: Cpu, name: str, arrival: int) -> None:
    """A host interrupt on its way to a CPU."""
    host.order += 1
    cpu.irqs.append((arrival, host.order, name))
    cpu.irqs.sort()


def irq_pending(host: HostKernel, cpu: Cpu) -> bool:
    """Whether a host interrupt has arrived, a timer of this CPU has expired, or its thread's time is up."""
    return (
        bool(cpu.irqs and cpu.irqs[0][0] <= cpu.now)
        or tick_due(cpu)
        or any(t.cpu == cpu.id and t.expires is not None and t.expires <= cpu.now for t in host.timers)
    )


def tick_due(cpu: Cpu) -> bool:
    """The tick comes only where it changes something: another thread waits and the present one had its slice."""
    return bool(cpu.queue) and cpu.current is not None and not cpu.need_resched and cpu.slice_end <= cpu.now


def take_irqs(host: HostKernel) -> None:
    """Interrupts are enabled on the current CPU: take what has arrived."""
    cpu = host.current
    while cpu.irqs and cpu.irqs[0][0] <= cpu.now:
        _, _, name = cpu.irqs.pop(0)
        HANDLERS[name](host)
    if tick_due(cpu):
        trace(host, HostIrq, "tick")
        cpu.need_resched = True
    if any(t.cpu == cpu.id and t.expires is not None and t.expires <= cpu.now for t in host.timers):
        asm_sysvec_apic_timer_interrupt(host)


@kernel("arch/x86/include/asm/idtentry.h")
def asm_sysvec_reschedule_ipi(host: HostKernel) -> None:
    sysvec_reschedule_ipi(host)


@kernel(SMP)
def sysvec_reschedule_ipi(host: HostKernel) -> None:
    """Nothing to do: its arrival made the processor leave the guest, TIF_NEED_RESCHED says the rest."""
    trace(host, HostIrq, "reschedule")


@kernel("arch/x86/include/asm/idtentry.h")
def asm_sysvec_call_function(host: HostKernel) -> None:
    sysvec_call_function(host)


@kernel(SMP)
def sysvec_call_function(host: HostKernel) -> None:
    """KVM's ack_kick: nothing to do, the vCPU has left the guest."""
    trace(host, HostIrq, "call_function")


@kernel("arch/x86/include/asm/idtentry.h")
def asm_sysvec_call_function_single(host: HostKernel) -> None:
    sysvec_call_function_single(host)


@kernel(SMP)
def sysvec_call_function_single(host: HostKernel) -> None:
    """Runs the queued wake-ups (sched_ttwu_pending)."""
    trace(host, HostIrq, "call_function_single")
    cpu = host.current
    cpu.queue += cpu.wake_list
    cpu.wake_list.clear()
    cpu.need_resched = True


@kernel("arch/x86/include/asm/idtentry.h")
def asm_sysvec_apic_timer_interrupt(host: HostKernel) -> None:
    sysvec_apic_timer_interrupt(host)


@kernel("arch/x86/kernel/apic/apic.c")
def sysvec_apic_timer_interrupt(host: HostKernel) -> None:
    __sysvec_apic_timer_interrupt(host)


@kernel("arch/x86/kernel/apic/apic.c")
def __sysvec_apic_timer_interrupt(host: HostKernel) -> None:
    trace(host, HostIrq, "timer")
    hrtimer_interrupt(host)


@kernel("kernel/time/hrtimer.c")
def hrtimer_interrupt(host: HostKernel) -> None:
    __hrtimer_run_queues(host)


@kernel("kernel/time/hrtimer.c")
def __hrtimer_run_queues(host: HostKernel) -> None:
    """Run the callbacks of this CPU's expired timers, earliest first."""
    cpu = host.current
    due = [t for t in host.timers if t.cpu == cpu.id and t.expires is not None and t.expires <= cpu.now]
    for timer in sorted(due, key=lambda t: (t.expires, t.vcpu.vcpu_id)):
        timer.fn(timer.vcpu.apic)


HANDLERS = {
    "reschedule": asm_sysvec_reschedule_ipi,
    "call_function": asm_sysvec_call_function,
    "call_function_single": asm_sysvec_call_function_single,
}


@kernel(CORE)
def do_idle(host: HostKernel) -> None:
    """An idle CPU takes its interrupts where it halts."""
    default_idle_call(host)


@kernel("kernel/sched/idle.c")
def default_idle_call(host: HostKernel) -> None:
    default_idle(host)


@kernel("arch/x86/kernel/process.c")
def default_idle(host: HostKernel) -> None:
    pv_native_safe_halt(host)


@kernel("arch/x86/kernel/paravirt.c")
def pv_native_safe_halt(host: HostKernel) -> None:
    take_irqs(host)


@kernel("kernel/sched/idle.c")
def cpu_startup_entry(host: HostKernel) -> None:
    do_idle(host)
