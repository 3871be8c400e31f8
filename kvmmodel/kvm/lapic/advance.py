"""Timer advance: a TSC deadline's host timer fires a little early, and KVM spins the rest right before VMRUN.

What it hides is the way from the host's timer interrupt to the guest. How early adapts itself to how well that went.
"""

from __future__ import annotations

from typing import Any

from kvmmodel.events import KvmWaitLapicExpire
from kvmmodel.kvm.host_types import trace
from kvmmodel.kvm.lapic.registers import kvm_apic_hw_enabled, kvm_lapic_get_reg
from kvmmodel.kvm.names import kernel
from kvmmodel.kvm.types import KvmLapic, KvmVcpu
from kvmmodel.silicon import apic as hw

FILE = "arch/x86/kvm/lapic.c"
LAPIC_TIMER_ADVANCE_ADJUST_MIN = 100  # guest TSC ticks; what is smaller is noise
LAPIC_TIMER_ADVANCE_ADJUST_MAX = 10000  # what is larger, a spike
LAPIC_TIMER_ADVANCE_NS_INIT = 1000
LAPIC_TIMER_ADVANCE_NS_MAX = 5000
LAPIC_TIMER_ADVANCE_ADJUST_STEP = 8


def initial_timer_advance(params: dict[str, Any]) -> int:
    """In ns. Up to 6.6 a fixed number may be asked for; -1, and the bool since 6.12, mean: adapt."""
    fixed = params.get("lapic_timer_advance_ns", -1)
    if fixed != -1:
        return int(fixed)
    return LAPIC_TIMER_ADVANCE_NS_INIT if params.get("lapic_timer_advance", True) else 0


def timer_advance_adapts(params: dict[str, Any]) -> bool:
    return bool(params.get("lapic_timer_advance_ns", -1) == -1)


@kernel(FILE)
def kvm_wait_lapic_expire(vcpu: KvmVcpu) -> None:
    """Before VMRUN, if the timer's interrupt is what goes in."""
    timer = vcpu.apic.timer
    if timer.expired_tscdeadline and timer.timer_advance_ns and lapic_timer_int_injected(vcpu.apic):
        __kvm_wait_lapic_expire(vcpu)


def lapic_timer_int_injected(apic: KvmLapic) -> bool:
    """Whether the timer's vector is in service, thus injected; with APICv the processor takes it from the IRR."""
    vector = kvm_lapic_get_reg(apic, hw.APIC_LVTT) & hw.APIC_VECTOR_MASK
    bank = apic.irr if apic.apicv_active else apic.isr
    return kvm_apic_hw_enabled(apic) and bool(bank >> vector & 1)


@kernel(FILE)
def __kvm_wait_lapic_expire(vcpu: KvmVcpu) -> None:
    """Early: spin until the deadline, at most for as long as the timer was advanced. Late: only learn from it."""
    timer, cpu = vcpu.apic.timer, vcpu.kvm.host.current
    deadline, timer.expired_tscdeadline = timer.expired_tscdeadline, 0
    delta = cpu.now - deadline
    trace(vcpu.kvm.host, KvmWaitLapicExpire, vcpu.vcpu_id, delta)
    if timer_advance_adapts(vcpu.kvm.host.params):
        adjust_lapic_timer_advance(vcpu.apic, delta)
    if delta < 0:
        cpu.now += min(-delta, timer.timer_advance_ns)


def adjust_lapic_timer_advance(apic: KvmLapic, delta: int) -> None:
    """An eighth of what it was early or late by; too much of it, and it starts again."""
    if not LAPIC_TIMER_ADVANCE_ADJUST_MIN <= abs(delta) <= LAPIC_TIMER_ADVANCE_ADJUST_MAX:
        return
    step = abs(delta) // LAPIC_TIMER_ADVANCE_ADJUST_STEP
    advance = apic.timer.timer_advance_ns + (step if delta > 0 else -step)
    too_much = advance < 0 or advance > LAPIC_TIMER_ADVANCE_NS_MAX  # a u32 in the kernel: below 0 is too much as well
    apic.timer.timer_advance_ns = LAPIC_TIMER_ADVANCE_NS_INIT if too_much else advance
