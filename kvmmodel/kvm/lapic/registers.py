"""Register helpers: reading, enabling, masks. Names as in arch/x86/kvm/lapic.c."""

from __future__ import annotations

from kvmmodel.kvm.names import kernel
from kvmmodel.kvm.types import Kvm, KvmLapic, KvmVcpu
from kvmmodel.silicon import apic as hw

APIC_TASKPRI, APIC_PROCPRI = hw.APIC_TASKPRI, hw.APIC_PROCPRI

LVT_MASK = hw.APIC_LVT_MASKED | 0x1000 | hw.APIC_VECTOR_MASK
LINT_MASK = LVT_MASK | hw.APIC_MODE_MASK | 1 << 13 | 1 << 14 | hw.APIC_INT_LEVELTRIG
# Which bits of each LVT entry a guest can write; the timer's mode bits depend on CPUID.
LVT_MASKS = {
    hw.APIC_LVTT: LVT_MASK,
    hw.APIC_LVTTHMR: LVT_MASK | hw.APIC_MODE_MASK,
    hw.APIC_LVTPC: LVT_MASK | hw.APIC_MODE_MASK,
    hw.APIC_LVT0: LINT_MASK,
    hw.APIC_LVT1: LINT_MASK,
    hw.APIC_LVTERR: LVT_MASK,
}


def kvm_lapic_get_reg(apic: KvmLapic, reg: int) -> int:
    """A 32-bit register as stored; unwritten ones are 0."""
    return apic.regs.get(reg, 0)


def kvm_lapic_set_reg(apic: KvmLapic, reg: int, value: int) -> None:
    apic.regs[reg] = value & 0xFFFFFFFF


def apic_x2apic_mode(apic: KvmLapic) -> bool:
    return apic.apic_base & hw.X2APIC_ENABLE != 0


def kvm_apic_hw_enabled(apic: KvmLapic) -> bool:
    return apic.apic_base & hw.MSR_IA32_APICBASE_ENABLE != 0


def kvm_apic_sw_enabled(apic: KvmLapic) -> bool:
    return apic.sw_enabled


def apic_enabled(apic: KvmLapic) -> bool:
    return kvm_apic_hw_enabled(apic) and apic.sw_enabled


def kvm_xapic_id(apic: KvmLapic) -> int:
    return kvm_lapic_get_reg(apic, hw.APIC_ID) >> 24


def kvm_x2apic_id(apic: KvmLapic) -> int:
    """Hard-wired to the vcpu_id."""
    return apic.vcpu.vcpu_id


def apic_lvt_enabled(apic: KvmLapic, lvt: int) -> bool:
    return not kvm_lapic_get_reg(apic, lvt) & hw.APIC_LVT_MASKED


@kernel("arch/x86/kvm/lapic.c")
def kvm_apic_accept_pic_intr(vcpu: KvmVcpu) -> bool:
    """Whether LINT0 takes the 8259's output: unmasked and ExtINT, or the APIC is off in hardware."""
    lvt0 = kvm_lapic_get_reg(vcpu.apic, hw.APIC_LVT0)
    open_ = not lvt0 & hw.APIC_LVT_MASKED and lvt0 & hw.APIC_MODE_MASK == hw.APIC_DM_EXTINT
    return not kvm_apic_hw_enabled(vcpu.apic) or open_


def advertises_suppress_eoi_broadcast(kvm: Kvm) -> bool:
    """What LVR's bit 24 says; by default only where the IOAPIC is userspace's."""
    chosen = kvm.suppress_eoi_broadcast
    return kvm.irqchip == "split" if chosen == "quirked" else chosen == "enabled"


@kernel("arch/x86/kvm/lapic.c", since="6.18")
def kvm_lapic_suppress_eoi_broadcast(apic: KvmLapic) -> bool:
    """Whether the guest's choice, in SVR, not to broadcast EOIs is respected.

    By default not where the IOAPIC is userspace's, though it is offered there; KVM's own never sees that choice unless
    userspace loads it into SVR.
    """
    if not kvm_lapic_get_reg(apic, hw.APIC_SPIV) & hw.APIC_SPIV_DIRECTED_EOI:
        return False
    kvm = apic.vcpu.kvm
    return (
        kvm.irqchip != "split" if kvm.suppress_eoi_broadcast == "quirked" else kvm.suppress_eoi_broadcast == "enabled"
    )


def apic_lvtt_tscdeadline(apic: KvmLapic) -> bool:
    return apic.timer.timer_mode == hw.APIC_LVT_TIMER_TSCDEADLINE


def apic_lvtt_period(apic: KvmLapic) -> bool:
    return apic.timer.timer_mode == hw.APIC_LVT_TIMER_PERIODIC


def apic_lvtt_oneshot(apic: KvmLapic) -> bool:
    return apic.timer.timer_mode == hw.APIC_LVT_TIMER_ONESHOT


def apic_has_pending_timer(vcpu: KvmVcpu) -> bool:
    apic = vcpu.apic
    return apic_enabled(apic) and apic_lvt_enabled(apic, hw.APIC_LVTT) and apic.timer.pending > 0


def read_bank(apic: KvmLapic, reg: int) -> int | None:
    """A 32-bit word of ISR, TMR or IRR; None if ``reg`` is not in a bank."""
    for base, bank in ((hw.APIC_ISR, apic.isr), (hw.APIC_TMR, apic.tmr), (hw.APIC_IRR, apic.irr)):
        if base <= reg < base + 0x80:
            return bank >> (reg - base) * 2 & 0xFFFFFFFF
    return None
