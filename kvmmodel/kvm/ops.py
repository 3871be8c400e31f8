"""struct kvm_x86_ops: the calls from KVM's common code into the vendor module. Filled by kvm/svm."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from kvmmodel.kvm.host_types import Run
from kvmmodel.kvm.types import Kvm, KvmLapic, KvmVcpu


@dataclass(slots=True)
class KvmX86Ops:
    vcpu_run: Callable[[KvmVcpu], Run]
    vcpu_reset: Callable[[KvmVcpu, bool], None]
    handle_exit_irqoff: Callable[[KvmVcpu], None]
    handle_exit: Callable[[KvmVcpu, int], int]
    deliver_interrupt: Callable[[KvmLapic, int, int, int], None]
    inject_irq: Callable[[KvmVcpu, bool], None]
    inject_nmi: Callable[[KvmVcpu], None]
    inject_exception: Callable[[KvmVcpu], None]
    cancel_injection: Callable[[KvmVcpu], None]
    interrupt_allowed: Callable[[KvmVcpu, bool], int]
    nmi_allowed: Callable[[KvmVcpu, bool], int]
    enable_irq_window: Callable[[KvmVcpu], None]
    enable_nmi_window: Callable[[KvmVcpu], None]
    get_nmi_mask: Callable[[KvmVcpu], bool]
    set_nmi_mask: Callable[[KvmVcpu, bool], None]
    is_vnmi_pending: Callable[[KvmVcpu], bool]
    set_vnmi_pending: Callable[[KvmVcpu], bool]
    smi_allowed: Callable[[KvmVcpu, bool], int]
    enable_smi_window: Callable[[KvmVcpu], None]
    apic_init_signal_blocked: Callable[[KvmVcpu], bool]
    check_nested_events: Callable[[KvmVcpu], int]
    leave_nested: Callable[[KvmVcpu], None]
    set_efer: Callable[[KvmVcpu, int], None]
    update_cr8_intercept: Callable[[KvmVcpu, int, int], None]
    skip_emulated_instruction: Callable[[KvmVcpu], None]
    set_msr: Callable[[KvmVcpu, int, int, bool], int]
    get_msr: Callable[[KvmVcpu, int], int | None]
    deliver_posted_interrupt: Callable[[KvmVcpu, int], int]
    vcpu_precreate: Callable[[Kvm], None]
    vcpu_create: Callable[[KvmVcpu], int]
    vcpu_after_set_cpuid: Callable[[KvmVcpu], None]
    vcpu_load: Callable[[KvmVcpu], None]
    vcpu_put: Callable[[KvmVcpu], None]
    vcpu_blocking: Callable[[KvmVcpu], None]
    vcpu_unblocking: Callable[[KvmVcpu], None]
    refresh_apicv_exec_ctrl: Callable[[KvmVcpu], None]
    set_virtual_apic_mode: Callable[[KvmVcpu], None]
    apicv_post_state_restore: Callable[[KvmVcpu], None]


def _missing(*_: object) -> None:
    raise RuntimeError("no vendor module is loaded: import kvmmodel.kvm.svm")


kvm_x86_ops = KvmX86Ops(*[_missing] * len(KvmX86Ops.__slots__))  # type: ignore[arg-type]
