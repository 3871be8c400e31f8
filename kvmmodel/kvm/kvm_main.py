"""virt/kvm/kvm_main.c: kicking and waking a vCPU, and a vCPU that halts, polls and blocks."""

from __future__ import annotations

from collections.abc import Sequence

from kvmmodel.events import Block, CheckBlock, Kick, KvmHaltPollNs, KvmVcpuWakeup, SetMode
from kvmmodel.kvm.host_irqs import irq_pending, take_irqs
from kvmmodel.kvm.host_types import POLL, Run, trace
from kvmmodel.kvm.names import kernel
from kvmmodel.kvm.ops import kvm_x86_ops
from kvmmodel.kvm.requests import (
    KVM_REQ_SCAN_IOAPIC,
    KVM_REQ_UNBLOCK,
    KVM_REQ_UNHALT,
    kvm_check_request,
    kvm_make_request,
)
from kvmmodel.kvm.runnable import kvm_arch_vcpu_runnable, kvm_cpu_has_pending_timer
from kvmmodel.kvm.sched import cpu_of, native_send_call_func_ipi, native_smp_send_reschedule, rcuwait_wake_up, schedule
from kvmmodel.kvm.types import EXITING_GUEST_MODE, IN_GUEST_MODE, Kvm, KvmVcpu

FILE = "virt/kvm/kvm_main.c"


@kernel(FILE, since="6.18")
def kvm_vcpu_kick(vcpu: KvmVcpu) -> None:
    __kvm_vcpu_kick(vcpu)


@kernel(FILE, was={"5.10": "kvm_vcpu_kick", "6.18": "__kvm_vcpu_kick"})
def __kvm_vcpu_kick(vcpu: KvmVcpu) -> None:
    """Get the vCPU to look at its requests: wake it, or make it leave the guest. At most one IPI per guest entry."""
    host = vcpu.kvm.host
    if kvm_vcpu_wake_up(vcpu):
        trace(host, Kick, vcpu.vcpu_id, "woken")
        return
    if host.has("kick_self_marks_exiting") and vcpu is host.current.running_vcpu:
        if vcpu.mode == IN_GUEST_MODE:
            set_mode(vcpu, EXITING_GUEST_MODE)
        trace(host, Kick, vcpu.vcpu_id, "itself")
        return
    if kvm_arch_vcpu_should_kick(vcpu) and vcpu.cpu != host.current.id:
        trace(host, Kick, vcpu.vcpu_id, "ipi")
        native_smp_send_reschedule(host, cpu_of(host, vcpu.cpu))
        return
    trace(host, Kick, vcpu.vcpu_id, "nothing")


@kernel("arch/x86/kvm/x86.c")
def kvm_arch_vcpu_should_kick(vcpu: KvmVcpu) -> bool:
    return kvm_vcpu_exiting_guest_mode(vcpu) == IN_GUEST_MODE


@kernel("include/linux/kvm_host.h")
def kvm_vcpu_exiting_guest_mode(vcpu: KvmVcpu) -> str:
    """cmpxchg(&vcpu->mode, IN_GUEST_MODE, EXITING_GUEST_MODE), after smp_mb__before_atomic. Returns the old mode."""
    old = vcpu.mode
    if old == IN_GUEST_MODE:
        set_mode(vcpu, EXITING_GUEST_MODE)
    return old


@kernel(FILE)
def kvm_make_all_cpus_request(kvm: Kvm, request: int, but: KvmVcpu | None = None) -> bool:
    """Every vCPU: the request, and those in the guest are called out of it. Nobody is woken (KVM_REQUEST_NO_WAKEUP).

    True if an IPI was sent.
    """
    called = [kvm_make_vcpu_request(vcpu, request) for vcpu in kvm.vcpus if vcpu is not but]
    return any(called)


@kernel(FILE)
def kvm_make_vcpus_request_mask(kvm: Kvm, request: int, vcpus: Sequence[KvmVcpu]) -> None:
    for vcpu in vcpus:
        kvm_make_vcpu_request(vcpu, request)


def kvm_make_vcpu_request(vcpu: KvmVcpu, request: int) -> bool:
    host = vcpu.kvm.host
    kvm_make_request(request, vcpu)
    called = kvm_vcpu_exiting_guest_mode(vcpu) == IN_GUEST_MODE and vcpu.cpu != host.current.id
    if called:
        native_send_call_func_ipi(host, cpu_of(host, vcpu.cpu))
    return called


@kernel("arch/x86/kvm/x86.c")
def kvm_make_scan_ioapic_request(kvm: Kvm) -> None:
    kvm_make_all_cpus_request(kvm, KVM_REQ_SCAN_IOAPIC)


@kernel("arch/x86/kvm/x86.c")
def kvm_make_scan_ioapic_request_mask(kvm: Kvm, vcpus: Sequence[KvmVcpu]) -> None:
    kvm_make_vcpus_request_mask(kvm, KVM_REQ_SCAN_IOAPIC, vcpus)


def set_mode(vcpu: KvmVcpu, mode: str) -> None:
    """Write vcpu->mode, where every sender looks."""
    old, vcpu.mode = vcpu.mode, mode
    trace(vcpu.kvm.host, SetMode, vcpu.vcpu_id, old, mode)


@kernel(FILE)
def kvm_vcpu_wake_up(vcpu: KvmVcpu) -> bool:
    """True only if the thread slept and was woken."""
    if rcuwait_wake_up(vcpu.kvm.host, vcpu.wait):
        vcpu.ready = True
        return True
    return False


@kernel(FILE, since="6.1")
def kvm_vcpu_halt(vcpu: KvmVcpu) -> Run:
    """HLT: poll for a while, then block. Adjusts how long to poll next time. Up to 5.15 a part of kvm_vcpu_block."""
    host = vcpu.kvm.host
    start = host.current.now
    late = host.has("blocking_hook_after_polling")
    if not late:
        kvm_x86_ops.vcpu_blocking(vcpu)
    polled = yield from halt_poll(vcpu)
    waited = False
    if not polled:
        yield from kvm_vcpu_block(vcpu)
        waited = True
    if not late:
        kvm_x86_ops.vcpu_unblocking(vcpu)
    halted = host.current.now - start
    trace(host, KvmVcpuWakeup, halted, waited, True)  # on x86 every wake-up is valid
    update_halt_poll_ns(vcpu, halted)


def wait_for_events(vcpu: KvmVcpu) -> Run:
    """A vCPU that waits for INIT or SIPI: it blocks at once. Up to 5.15 this is what HLT does too, polling included."""
    if vcpu.kvm.host.has("halt_polls_in_vcpu_halt"):
        yield from kvm_vcpu_block(vcpu)
    else:
        yield from kvm_vcpu_halt(vcpu)


def halt_poll(vcpu: KvmVcpu) -> Run:
    """Spin for halt_poll_ns while nothing else wants the CPU. Returns True if an event came."""
    host, cpu = vcpu.kvm.host, vcpu.kvm.host.current
    stop = cpu.now + vcpu.halt_poll_ns
    while cpu.now < stop and not cpu.queue and not cpu.need_resched:
        if kvm_vcpu_check_block(vcpu) < 0:
            return True
        cpu.now += host.costs["spin"]
        yield POLL
        if irq_pending(host, cpu):
            take_irqs(host)
    return False


@kernel(FILE)
def kvm_vcpu_block(vcpu: KvmVcpu) -> Run:
    """Sleep until there is a reason not to. The rcuwait is set before the last look, so that no wake-up is lost."""
    late = vcpu.kvm.host.has("blocking_hook_after_polling")
    if late:
        kvm_x86_ops.vcpu_blocking(vcpu)
    vcpu.wait = vcpu.task
    while True:
        vcpu.task.interruptible = True  # set_current_state(TASK_INTERRUPTIBLE): a full barrier
        if kvm_vcpu_check_block(vcpu) < 0:
            break
        trace(vcpu.kvm.host, Block, vcpu.vcpu_id)
        if vcpu.task.interruptible:
            vcpu.task.state = "blocked"
        elif not vcpu.kvm.host.current.queue:
            continue  # woken since that look: schedule() returns at once, as nobody else wants the CPU
        yield from schedule(vcpu)
    vcpu.task.interruptible = False
    vcpu.wait = None
    if late:
        kvm_x86_ops.vcpu_unblocking(vcpu)


@kernel(FILE)
def kvm_vcpu_check_block(vcpu: KvmVcpu) -> int:
    """-4 (EINTR) when the vCPU should not block: it is runnable, or a timer is pending."""
    runnable = kvm_arch_vcpu_runnable(vcpu)
    if runnable and not vcpu.kvm.host.has("no_req_unhalt"):
        kvm_make_request(KVM_REQ_UNHALT, vcpu)
    wakes = bool(
        runnable
        or kvm_cpu_has_pending_timer(vcpu)
        or (vcpu.kvm.host.has("req_unblock") and kvm_check_request(KVM_REQ_UNBLOCK, vcpu))
    )
    trace(vcpu.kvm.host, CheckBlock, vcpu.vcpu_id, wakes)
    return -4 if wakes else 0


def update_halt_poll_ns(vcpu: KvmVcpu, halted_ns: int) -> None:
    """Grow towards short halts, shrink after long ones."""
    limit = vcpu.kvm.max_halt_poll_ns
    params = vcpu.kvm.host.params
    limit = params["halt_poll_ns"] if limit is None else limit
    if not limit:
        vcpu.halt_poll_ns = 0
    elif halted_ns <= vcpu.halt_poll_ns:
        pass
    elif vcpu.halt_poll_ns and halted_ns > limit:
        shrink_halt_poll_ns(vcpu)
    elif vcpu.halt_poll_ns < limit and halted_ns < limit:
        grow_halt_poll_ns(vcpu, limit)


@kernel(FILE)
def grow_halt_poll_ns(vcpu: KvmVcpu, limit: int) -> None:
    params, old = vcpu.kvm.host.params, vcpu.halt_poll_ns
    if not params["halt_poll_ns_grow"]:
        return
    new = min(max(old * params["halt_poll_ns_grow"], params["halt_poll_ns_grow_start"]), limit)
    vcpu.halt_poll_ns = new
    trace(vcpu.kvm.host, KvmHaltPollNs, True, vcpu.vcpu_id, new, old)


@kernel(FILE)
def shrink_halt_poll_ns(vcpu: KvmVcpu) -> None:
    params, old = vcpu.kvm.host.params, vcpu.halt_poll_ns
    new = old // params["halt_poll_ns_shrink"] if params["halt_poll_ns_shrink"] else 0
    vcpu.halt_poll_ns = 0 if new < params["halt_poll_ns_grow_start"] else new
    trace(vcpu.kvm.host, KvmHaltPollNs, False, vcpu.vcpu_id, vcpu.halt_poll_ns, old)
