"""Emulating HLT."""

from __future__ import annotations

from kvmmodel.kvm.names import kernel
from kvmmodel.kvm.ops import kvm_x86_ops
from kvmmodel.kvm.runnable import kvm_set_mp_state, kvm_vcpu_has_events, take_unhalt
from kvmmodel.kvm.types import KVM_MP_STATE_HALTED, KVM_MP_STATE_RUNNABLE, KvmVcpu

FILE = "arch/x86/kvm/x86.c"


@kernel(FILE)
def kvm_emulate_halt(vcpu: KvmVcpu) -> int:
    kvm_x86_ops.skip_emulated_instruction(vcpu)
    return __kvm_emulate_halt(vcpu)


@kernel(FILE)
def __kvm_emulate_halt(vcpu: KvmVcpu) -> int:
    """What waits already, a kick for one, leaves the vCPU runnable; a kick is used up by that."""
    waiting = vcpu.kvm.host.has("halt_tests_events") and (kvm_vcpu_has_events(vcpu) or vcpu.pv_unhalted)
    if waiting:
        take_unhalt(vcpu)
    kvm_set_mp_state(vcpu, KVM_MP_STATE_RUNNABLE if waiting else KVM_MP_STATE_HALTED)
    return 1
