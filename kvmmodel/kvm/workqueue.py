"""Work for kernel threads: delayed work, on the CPU that asked for it, and work of a thread of its own.

kernel/workqueue.c and kernel/kthread.c; threads of interrupts, kernel/irq/manage.c, are those named irq/...
Not modelled: the timer that queues delayed work, several workers on a CPU.
"""

from __future__ import annotations

from kvmmodel.kvm.host_types import DelayedWork, HostKernel
from kvmmodel.kvm.names import kernel

FILE, MANAGE = "kernel/workqueue.c", "kernel/irq/manage.c"


def schedule_delayed_work(host: HostKernel, work: DelayedWork, delay_ns: int) -> bool:
    """False: it is pending already, and stays as it was."""
    if work.due is not None:
        return False
    work.due, work.cpu = host.current.now + delay_ns, host.current.id
    host.delayed.append(work)
    return True


def cancel_delayed_work_sync(host: HostKernel, work: DelayedWork) -> None:
    if work.due is not None:
        work.due = None
        host.delayed.remove(work)


@kernel("kernel/kthread.c")
def kthread_queue_work(host: HostKernel, work: DelayedWork) -> bool:
    """Have the worker run it as soon as it gets to it. False: it is queued already."""
    if work.due is not None:
        return False
    work.due = host.current.now
    host.delayed.append(work)
    return True


@kernel("kernel/irq/handle.c")
def __irq_wake_thread(host: HostKernel, work: DelayedWork) -> None:
    """The interrupt itself does nothing but wake its thread, on the CPU that took it."""
    if work.due is None:
        work.due, work.cpu = host.current.now, host.current.id
        host.delayed.append(work)


@kernel("arch/x86/entry/entry_64.S", since="6.6")
def ret_from_fork_asm(host: HostKernel, work: DelayedWork) -> None:
    """Where every kernel thread begins. Before 6.6, ret_from_fork itself was assembler."""
    ret_from_fork(host, work)


@kernel("arch/x86/kernel/process.c")
def ret_from_fork(host: HostKernel, work: DelayedWork) -> None:
    kthread(host, work)


@kernel("kernel/kthread.c")
def kthread(host: HostKernel, work: DelayedWork) -> None:
    if work.worker.startswith("irq/"):
        irq_thread(host, work)
    elif work.worker:
        kthread_worker_fn(host, work)
    else:
        worker_thread(host, work)


@kernel("kernel/kthread.c")
def kthread_worker_fn(host: HostKernel, work: DelayedWork) -> None:
    work.due = None
    work.fn()


@kernel(MANAGE)
def irq_thread(host: HostKernel, work: DelayedWork) -> None:
    irq_thread_fn(host, work)


@kernel(MANAGE)
def irq_thread_fn(host: HostKernel, work: DelayedWork) -> None:
    work.due = None
    work.fn()


@kernel(FILE)
def worker_thread(host: HostKernel, work: DelayedWork) -> None:
    process_one_work(host, work)


@kernel(FILE)
def process_one_work(host: HostKernel, work: DelayedWork) -> None:
    """From here on the work may be scheduled again."""
    work.due = None
    work.fn()
