"""The host's own interrupts: on their way to a CPU, taken where interrupts are on, and what their handlers do.

IPIs, expired hrtimers, and the tick, which comes only where it changes something.
"""

from __future__ import annotations

from kvmmodel.events import HostIrq
from kvmmodel.kvm.host_types import Cpu, HostKernel, trace
from kvmmodel.kvm.names import kernel

CORE, SMP = "kernel/sched/core.c", "arch/x86/kernel/smp.c"


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
        if name in host.device_irqs:
            asm_common_interrupt(host, name)
        else:
            HANDLERS[name](host)
    if tick_due(cpu):
        trace(host, HostIrq, "tick")
        cpu.need_resched = True
    if any(t.cpu == cpu.id and t.expires is not None and t.expires <= cpu.now for t in host.timers):
        asm_sysvec_apic_timer_interrupt(host)


@kernel("arch/x86/include/asm/idtentry.h")
def asm_common_interrupt(host: HostKernel, name: str) -> None:
    common_interrupt(host, name)


@kernel("arch/x86/kernel/irq.c")
def common_interrupt(host: HostKernel, name: str) -> None:
    """A device's, or the IOMMU's."""
    trace(host, HostIrq, name)
    host.device_irqs[name]()


def ring(host: HostKernel, cpu: Cpu) -> None:
    """A doorbell on its way to a core. It carries no vector and wakes nobody."""
    cpu.doorbells.append(host.current.now + host.costs["doorbell"])


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
    for timer in sorted(due, key=lambda t: (t.expires, t.rank)):
        timer.fn()


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
