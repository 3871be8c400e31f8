"""Whether a vCPU has a reason to run: what kvm_vcpu_check_block and the senders ask."""

from __future__ import annotations

from kvmmodel.events import PvUnhalted
from kvmmodel.kvm.host_types import trace
from kvmmodel.kvm.lapic.priority import kvm_apic_has_interrupt
from kvmmodel.kvm.lapic.registers import apic_has_pending_timer, kvm_apic_accept_pic_intr
from kvmmodel.kvm.names import kernel
from kvmmodel.kvm.ops import kvm_x86_ops
from kvmmodel.kvm.requests import KVM_REQ_NMI, KVM_REQ_PMI, KVM_REQ_SMI
from kvmmodel.kvm.types import KVM_MP_STATE_RUNNABLE, KvmVcpu

X86, IRQ = "arch/x86/kvm/x86.c", "arch/x86/kvm/irq.c"


@kernel("arch/x86/kvm/x86.h", since="6.18")
def kvm_set_mp_state(vcpu: KvmVcpu, state: str) -> None:
    """Who runs has used up the kick of REMRD or KVM_HC_KICK_CPU; older releases keep it for the next HLT."""
    vcpu.mp_state = state
    if state == KVM_MP_STATE_RUNNABLE and vcpu.kvm.host.has("runnable_clears_pv_unhalted"):
        take_unhalt(vcpu)


@kernel(IRQ)
def kvm_cpu_has_extint(vcpu: KvmVcpu) -> bool:
    """The 8259s, KVM's or userspace's, ask for service, and this vCPU's LINT0 takes that."""
    if not kvm_apic_accept_pic_intr(vcpu):
        return False
    return vcpu.pending_external_vector != -1 if vcpu.kvm.pic is None else bool(vcpu.kvm.pic.output)


@kernel(IRQ)
def kvm_cpu_has_injectable_intr(vcpu: KvmVcpu) -> bool:
    """An interrupt that KVM itself has to inject. With APICv active the LAPIC's are the processor's, unless L2 runs."""
    if kvm_cpu_has_extint(vcpu):
        return True
    return (vcpu.guest_mode or not vcpu.apic.apicv_active) and kvm_apic_has_interrupt(vcpu) != -1


@kernel(IRQ)
def kvm_cpu_has_interrupt(vcpu: KvmVcpu) -> bool:
    return kvm_cpu_has_extint(vcpu) or kvm_apic_has_interrupt(vcpu) != -1


@kernel(IRQ)
def kvm_cpu_has_pending_timer(vcpu: KvmVcpu) -> bool:
    return apic_has_pending_timer(vcpu)


@kernel(X86)
def kvm_arch_vcpu_runnable(vcpu: KvmVcpu) -> bool:
    return vcpu_runnable(vcpu) or vcpu.pv_unhalted or kvm_vcpu_has_events(vcpu)


def vcpu_runnable(vcpu: KvmVcpu) -> bool:
    return vcpu.mp_state == KVM_MP_STATE_RUNNABLE


def take_unhalt(vcpu: KvmVcpu) -> None:
    """The vCPU becomes runnable: a kick has done its work."""
    if vcpu.pv_unhalted:
        vcpu.pv_unhalted = False
        trace(vcpu.kvm.host, PvUnhalted, vcpu.vcpu_id, False)


@kernel("arch/x86/kvm/lapic.h")
def kvm_apic_has_pending_init_or_sipi(vcpu: KvmVcpu) -> bool:
    return vcpu.apic.pending_init or vcpu.apic.pending_sipi


@kernel("arch/x86/kvm/lapic.h")
def kvm_apic_init_sipi_allowed(vcpu: KvmVcpu) -> bool:
    """Not in SMM, and not while GIF is clear."""
    return not vcpu.smm and not kvm_x86_ops.apic_init_signal_blocked(vcpu)


@kernel(X86)
def kvm_vcpu_has_events(vcpu: KvmVcpu) -> bool:
    """Something that would be allowed in now: INIT or SIPI, an exception, NMI, SMI, an interrupt (IF, GIF, PPR).

    Or a timer of Hyper-V's that has expired, whatever IF says.
    """
    ops = kvm_x86_ops
    if kvm_apic_has_pending_init_or_sipi(vcpu) and kvm_apic_init_sipi_allowed(vcpu):
        return True
    if vcpu.exception.pending:
        return True
    if vcpu.requests >> KVM_REQ_PMI & 1:
        return True
    if vcpu.requests >> KVM_REQ_NMI & 1 or (vcpu.nmi_pending and ops.nmi_allowed(vcpu, False)):
        return True
    if vcpu.requests >> KVM_REQ_SMI & 1 or (vcpu.smi_pending and ops.smi_allowed(vcpu, False)):
        return True
    if ops.interrupt_allowed(vcpu, False) != 0 and kvm_cpu_has_interrupt(vcpu):
        return True
    return vcpu.stimer_pending != 0  # kvm_hv_has_stimer_pending
