"""Exits that are handled before interrupts are enabled again: ICR and TSC-deadline writes, HLT."""

from __future__ import annotations

from kvmmodel.events import KvmMsr
from kvmmodel.kvm.host_types import trace
from kvmmodel.kvm.lapic.icr import __kvm_x2apic_icr_write, kvm_x2apic_icr_write_fast
from kvmmodel.kvm.lapic.registers import apic_x2apic_mode
from kvmmodel.kvm.lapic.timer import kvm_set_lapic_tscdeadline_msr
from kvmmodel.kvm.names import kernel
from kvmmodel.kvm.ops import kvm_x86_ops
from kvmmodel.kvm.types import KVM_MP_STATE_RUNNABLE, KvmVcpu
from kvmmodel.kvm.x86.halt import kvm_emulate_halt
from kvmmodel.silicon import apic as hw

FILE = "arch/x86/kvm/x86.c"
EXIT_FASTPATH_NONE = 0
EXIT_FASTPATH_REENTER_GUEST = 1
EXIT_FASTPATH_EXIT_HANDLED = 2

MSR_ICR = hw.APIC_BASE_MSR + (hw.APIC_ICR >> 4)


@kernel(FILE, was={"5.10": "handle_fastpath_set_msr_irqoff", "6.18": "handle_fastpath_wrmsr"})
def handle_fastpath_wrmsr(vcpu: KvmVcpu) -> int:
    return __handle_fastpath_wrmsr(vcpu, vcpu.regs.ecx, vcpu.regs.value)


@kernel(FILE, since="6.18")
def __handle_fastpath_wrmsr(vcpu: KvmVcpu, msr: int, data: int) -> int:
    """A WRMSR with interrupts off. NONE: let the ordinary handler do it."""
    host = vcpu.kvm.host
    if msr == MSR_ICR:
        if not handle_fastpath_set_x2apic_icr_irqoff(vcpu, data):
            return EXIT_FASTPATH_NONE
        reenter = host.has("icr_fastpath_reenters")
    elif msr == hw.MSR_IA32_TSC_DEADLINE and host.has("tsc_deadline_fastpath"):
        kvm_set_lapic_tscdeadline_msr(vcpu, data)
        reenter = True
    else:
        return EXIT_FASTPATH_NONE
    kvm_x86_ops.skip_emulated_instruction(vcpu)
    trace(host, KvmMsr, True, msr, data)
    return EXIT_FASTPATH_REENTER_GUEST if reenter else EXIT_FASTPATH_EXIT_HANDLED


@kernel(FILE, until="6.18")
def handle_fastpath_set_x2apic_icr_irqoff(vcpu: KvmVcpu, data: int) -> bool:
    """False: not in x2APIC mode, or not a destination for the fast path."""
    apic = vcpu.apic
    if not apic_x2apic_mode(apic):
        return False
    if vcpu.kvm.host.has("icr_fastpath_any_destination"):
        return kvm_x2apic_icr_write_fast(apic, data)
    simple = not data & (hw.APIC_SHORT_MASK | hw.APIC_DEST_LOGICAL | hw.APIC_MODE_MASK)
    if not simple or data >> 32 == hw.X2APIC_BROADCAST:
        return False
    if data & hw.X2APIC_ICR_RESERVED and vcpu.kvm.host.has("x2apic_icr_reserved_gp"):
        return False
    return __kvm_x2apic_icr_write(apic, data, True)


@kernel(FILE, since="6.12")
def handle_fastpath_hlt(vcpu: KvmVcpu) -> int:
    """Still runnable, as an event waits: enter again. Else the loop goes on to vcpu_block."""
    kvm_emulate_halt(vcpu)
    return EXIT_FASTPATH_REENTER_GUEST if vcpu.mp_state == KVM_MP_STATE_RUNNABLE else EXIT_FASTPATH_EXIT_HANDLED
