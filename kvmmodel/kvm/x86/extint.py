"""A split irqchip: userspace has the 8259s and the IOAPIC. KVM takes its ExtINT vectors, and tells it of level EOIs."""

from __future__ import annotations

from kvmmodel.events import KvmUserspaceExit
from kvmmodel.kvm.errno import EEXIST, EINVAL, ENXIO
from kvmmodel.kvm.host_types import trace
from kvmmodel.kvm.lapic.registers import kvm_apic_accept_pic_intr
from kvmmodel.kvm.names import kernel
from kvmmodel.kvm.ops import kvm_x86_ops
from kvmmodel.kvm.requests import KVM_REQ_EVENT, kvm_make_request
from kvmmodel.kvm.runnable import kvm_cpu_has_extint
from kvmmodel.kvm.types import KvmVcpu
from kvmmodel.kvm.x86.inject import kvm_event_needs_reinjection

X86 = "arch/x86/kvm/x86.c"
KVM_NR_INTERRUPTS = 256
KVM_EXIT_IRQ_WINDOW_OPEN, KVM_EXIT_IOAPIC_EOI = 7, 26


@kernel(X86)
def kvm_vcpu_ioctl_interrupt(vcpu: KvmVcpu, irq: int) -> int:
    """KVM_INTERRUPT: an ExtINT. -22 (EINVAL) beyond 255, -6 (ENXIO) with KVM's own 8259s, -17 (EEXIST) one waits."""
    if irq >= KVM_NR_INTERRUPTS:
        return -EINVAL
    if vcpu.kvm.pic is not None:
        return -ENXIO
    if vcpu.pending_external_vector != -1:
        return -EEXIST
    vcpu.pending_external_vector = irq
    kvm_make_request(KVM_REQ_EVENT, vcpu)
    return 0


@kernel(X86)
def dm_request_for_irq_injection(vcpu: KvmVcpu) -> bool:
    """Userspace asked, in kvm_run, to be told when the guest takes an ExtINT."""
    return vcpu.request_interrupt_window and vcpu.kvm.pic is None


@kernel(X86)
def kvm_cpu_accept_dm_intr(vcpu: KvmVcpu) -> bool:
    """There is room for one vector, and LINT0 is open."""
    return not kvm_cpu_has_extint(vcpu) and kvm_apic_accept_pic_intr(vcpu)


@kernel(X86)
def kvm_vcpu_ready_for_interrupt_injection(vcpu: KvmVcpu) -> bool:
    return (
        kvm_x86_ops.interrupt_allowed(vcpu, False) != 0
        and kvm_cpu_accept_dm_intr(vcpu)
        and not kvm_event_needs_reinjection(vcpu)
        and not vcpu.exception.pending
    )


def exit_for_irq_window(vcpu: KvmVcpu) -> bool:
    """vcpu_run's part of it. True: to userspace."""
    if not dm_request_for_irq_injection(vcpu) or not kvm_vcpu_ready_for_interrupt_injection(vcpu):
        return False
    vcpu.exit = ("irq_window_open",)
    trace(vcpu.kvm.host, KvmUserspaceExit, "KVM_EXIT_IRQ_WINDOW_OPEN", KVM_EXIT_IRQ_WINDOW_OPEN)
    return True


def exit_for_ioapic_eoi(vcpu: KvmVcpu) -> bool:
    """vcpu_enter_guest's part: userspace's IOAPIC hears of the EOI, if its vector still counts. True: to userspace."""
    if vcpu.pending_ioapic_eoi not in vcpu.ioapic_handled_vectors:
        return False
    vcpu.exit = ("ioapic_eoi", vcpu.pending_ioapic_eoi)
    trace(vcpu.kvm.host, KvmUserspaceExit, "KVM_EXIT_IOAPIC_EOI", KVM_EXIT_IOAPIC_EOI)
    return True
