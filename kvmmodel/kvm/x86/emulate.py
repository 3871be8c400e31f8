"""Exits that run KVM's instruction emulator: accesses to the xAPIC page, MOV to CR8, RSM, MSRs that AVIC left to KVM.

The emulator itself is not modelled, only the functions that an access passes on its way to the local APIC.
"""

from __future__ import annotations

from kvmmodel.events import KvmMmio, KvmMsr
from kvmmodel.kvm.apicv import kvm_apicv_activated
from kvmmodel.kvm.host_types import trace
from kvmmodel.kvm.ioapic_registers import ioapic_in_range, ioapic_mmio_read, ioapic_mmio_write
from kvmmodel.kvm.lapic.access import apic_mmio_in_range, apic_mmio_read, apic_mmio_write
from kvmmodel.kvm.lapic.priority import kvm_lapic_set_tpr
from kvmmodel.kvm.names import kernel
from kvmmodel.kvm.ops import kvm_x86_ops
from kvmmodel.kvm.smm import emulator_leave_smm
from kvmmodel.kvm.types import KvmVcpu
from kvmmodel.kvm.x86.inject import kvm_queue_exception
from kvmmodel.kvm.x86.msrs import GP_VECTOR, kvm_set_msr_ignored_check
from kvmmodel.silicon.apic import APIC_DEFAULT_PHYS_BASE

X86, EMULATE = "arch/x86/kvm/x86.c", "arch/x86/kvm/emulate.c"
UD_VECTOR = 6
LOW_MEMORY = 0xA0000  # below the VGA hole, all is memory


@kernel("arch/x86/kvm/mmu/mmu.c")
def kvm_mmu_page_fault(vcpu: KvmVcpu) -> int:
    """A nested page fault. In memory, the page is mapped and that is all; else the access is emulated.

    On the xAPIC page, AVIC may take accesses from here on.
    """
    kvm = vcpu.kvm
    if vcpu.regs.gpa < LOW_MEMORY:
        return 1
    on_page = vcpu.regs.gpa & ~0xFFF == APIC_DEFAULT_PHYS_BASE
    if on_page and kvm.apic_access_memslot_enabled and kvm_apicv_activated(kvm):
        kvm.apic_page_mapped = not kvm.inhibits  # else an inhibit is on its way, and takes it away again
        return 1
    return x86_emulate_instruction(vcpu, "mmio")


@kernel(X86)
def x86_emulate_instruction(vcpu: KvmVcpu, what: str) -> int:
    """``what``: mmio, msr, cr8 or rsm."""
    refused = x86_emulate_insn(vcpu, what)
    if what != "rsm" and not refused:  # RSM goes to where SMM came from, not to what is behind it
        kvm_x86_ops.skip_emulated_instruction(vcpu)
    return 1


@kernel(EMULATE)
def x86_emulate_insn(vcpu: KvmVcpu, what: str) -> bool:
    """Whether the guest gets a #GP for an MSR instead."""
    if what == "msr":
        return not (em_wrmsr(vcpu) if vcpu.regs.write else em_rdmsr(vcpu))
    if what == "cr8":
        em_cr_write(vcpu)
    elif what == "rsm":
        em_rsm(vcpu)
    elif vcpu.regs.write:
        segmented_write(vcpu)
    else:
        emulator_read_write(vcpu)
    return False


@kernel(EMULATE)
def em_wrmsr(vcpu: KvmVcpu) -> bool:
    return _done(vcpu, emulator_set_msr_with_filter(vcpu))


@kernel(EMULATE)
def em_rdmsr(vcpu: KvmVcpu) -> bool:
    return _done(vcpu, emulator_get_msr_with_filter(vcpu))


def _done(vcpu: KvmVcpu, done: bool) -> bool:
    if not done:
        kvm_queue_exception(vcpu, GP_VECTOR, 0)
    return done


@kernel(X86, since="6.1")
def emulator_set_msr_with_filter(vcpu: KvmVcpu) -> bool:
    regs = vcpu.regs
    failed = kvm_set_msr_ignored_check(vcpu, regs.ecx, regs.value, False)
    trace(vcpu.kvm.host, KvmMsr, True, regs.ecx, regs.value, bool(failed))
    return not failed


@kernel(X86, since="6.1")
def emulator_get_msr_with_filter(vcpu: KvmVcpu) -> bool:
    value = kvm_x86_ops.get_msr(vcpu, vcpu.regs.ecx)
    trace(vcpu.kvm.host, KvmMsr, False, vcpu.regs.ecx, value or 0, value is None)
    if value is not None:
        vcpu.regs.value = value
    return value is not None


@kernel(EMULATE)
def segmented_write(vcpu: KvmVcpu) -> None:
    emulator_read_write(vcpu)


@kernel(X86)
def emulator_read_write(vcpu: KvmVcpu) -> None:
    emulator_read_write_onepage(vcpu)


@kernel(X86)
def emulator_read_write_onepage(vcpu: KvmVcpu) -> None:
    if vcpu.regs.write:
        write_mmio(vcpu)
    else:
        vcpu_mmio_read(vcpu)


@kernel(X86, until="7.2")  # 7.2 has a pointer to vcpu_mmio_write in its place; 6.18 not known
def write_mmio(vcpu: KvmVcpu) -> None:
    vcpu_mmio_write(vcpu)


@kernel(X86)
def vcpu_mmio_write(vcpu: KvmVcpu) -> None:
    gpa, value, kvm = vcpu.regs.gpa, vcpu.regs.value, vcpu.kvm
    trace(kvm.host, KvmMmio, True, gpa, value)
    if apic_mmio_in_range(vcpu.apic, gpa):
        apic_mmio_write(vcpu.apic, gpa, value, vcpu.regs.size)
    elif ioapic_in_range(kvm.ioapic, gpa):
        ioapic_mmio_write(kvm, kvm.ioapic, gpa, value)


@kernel(X86)
def vcpu_mmio_read(vcpu: KvmVcpu) -> None:
    """The local APIC and the IOAPIC; elsewhere nothing answers, and all ones are read."""
    gpa, kvm = vcpu.regs.gpa, vcpu.kvm
    if apic_mmio_in_range(vcpu.apic, gpa):
        vcpu.regs.value = apic_mmio_read(vcpu.apic, gpa, vcpu.regs.size)
    else:
        vcpu.regs.value = ioapic_mmio_read(kvm.ioapic, gpa) if ioapic_in_range(kvm.ioapic, gpa) else 0xFFFFFFFF
    trace(kvm.host, KvmMmio, False, gpa, vcpu.regs.value)


@kernel(EMULATE)
def em_rsm(vcpu: KvmVcpu) -> None:
    """#UD outside SMM."""
    if vcpu.smm:
        emulator_leave_smm(vcpu)
    else:
        kvm_queue_exception(vcpu, UD_VECTOR)


@kernel(EMULATE)
def em_cr_write(vcpu: KvmVcpu) -> None:
    emulator_set_cr(vcpu)


@kernel(X86)
def emulator_set_cr(vcpu: KvmVcpu) -> None:
    kvm_set_cr8(vcpu, vcpu.regs.value & 0xF)


@kernel(X86)
def kvm_set_cr8(vcpu: KvmVcpu, cr8: int) -> int:
    """1 (#GP) for more than 4 bits."""
    if cr8 & ~0xF:
        return 1
    kvm_lapic_set_tpr(vcpu, cr8)
    return 0
