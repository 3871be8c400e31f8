"""Register reads and writes, and the two ways to them: the xAPIC's page and the x2APIC's MSRs."""

from __future__ import annotations

from kvmmodel.events import KvmApic
from kvmmodel.kvm.host_types import trace
from kvmmodel.kvm.lapic.eoi import apic_set_eoi
from kvmmodel.kvm.lapic.icr import kvm_apic_send_ipi, kvm_x2apic_icr_write, kvm_x2apic_read_icr
from kvmmodel.kvm.lapic.map import kvm_recalculate_apic_map, xapic_id_updated
from kvmmodel.kvm.lapic.priority import apic_set_tpr, apic_update_ppr
from kvmmodel.kvm.lapic.registers import (
    LVT_MASKS,
    apic_lvtt_tscdeadline,
    apic_x2apic_mode,
    kvm_lapic_get_reg,
    kvm_lapic_set_reg,
    read_bank,
)
from kvmmodel.kvm.lapic.timer import (
    apic_get_tmcct,
    apic_update_lvtt,
    cancel_apic_timer,
    restart_apic_timer,
    start_apic_timer,
    update_divide_count,
    update_target_expiration,
)
from kvmmodel.kvm.names import kernel
from kvmmodel.kvm.types import KvmLapic
from kvmmodel.silicon import apic as hw

FILE = "arch/x86/kvm/lapic.c"
_PLAIN = (hw.APIC_LVR, hw.APIC_TASKPRI, hw.APIC_PROCPRI, hw.APIC_LDR, hw.APIC_SPIV, hw.APIC_ESR, hw.APIC_ICR)
XAPIC_ONLY = (hw.APIC_ARBPRI, hw.APIC_DFR, hw.APIC_ICR2)
READABLE = frozenset((*_PLAIN, *XAPIC_ONLY, *LVT_MASKS, hw.APIC_ID, hw.APIC_TMICT, hw.APIC_TMCCT, hw.APIC_TDCR))


@kernel(FILE)
def kvm_lapic_reg_read(apic: KvmLapic, offset: int) -> int | None:
    """A 32-bit register, None if there is no such register to read in this mode."""
    bank = read_bank(apic, offset)
    if bank is not None:
        value = bank
    elif offset not in READABLE or (apic_x2apic_mode(apic) and offset in XAPIC_ONLY):
        return None
    elif offset == hw.APIC_ARBPRI:
        value = 0
    elif offset == hw.APIC_TMCCT:
        value = apic_get_tmcct(apic)
    else:
        if offset == hw.APIC_PROCPRI:
            apic_update_ppr(apic)
        value = kvm_lapic_get_reg(apic, offset)
    trace(apic.vcpu.kvm.host, KvmApic, False, offset, value)
    return value


@kernel(FILE)
def kvm_lapic_reg_write(apic: KvmLapic, reg: int, val: int) -> bool:
    """A 32-bit register. False: the write is not allowed; MMIO ignores it, an MSR gets #GP."""
    kvm, x2apic = apic.vcpu.kvm, apic_x2apic_mode(apic)
    trace(kvm.host, KvmApic, True, reg, val)
    if reg == hw.APIC_TASKPRI:
        apic_set_tpr(apic, val & 0xFF)
    elif reg == hw.APIC_EOI:
        apic_set_eoi(apic)
    elif reg == hw.APIC_SPIV:
        _write_spiv(apic, val)
    elif reg == hw.APIC_ICR:
        if x2apic and kvm.host.has("icr_one_register"):
            return False
        val &= ~hw.APIC_ICR_BUSY
        kvm_apic_send_ipi(apic, val, kvm_lapic_get_reg(apic, hw.APIC_ICR2))
        kvm_lapic_set_reg(apic, hw.APIC_ICR, val)
    elif reg in LVT_MASKS:
        _write_lvt(apic, reg, val)
    elif reg == hw.APIC_TMICT:
        if not apic_lvtt_tscdeadline(apic):
            cancel_apic_timer(apic)
            kvm_lapic_set_reg(apic, hw.APIC_TMICT, val)
            start_apic_timer(apic)
    elif reg == hw.APIC_TDCR:
        old = apic.timer.divide_count
        kvm_lapic_set_reg(apic, hw.APIC_TDCR, val & 0xB)
        update_divide_count(apic)
        if old != apic.timer.divide_count and apic.timer.period:
            apic.timer.hrtimer.expires = None
            update_target_expiration(apic, old)
            restart_apic_timer(apic)
    elif reg == hw.APIC_ESR:
        return not (x2apic and val)  # KVM never sets ESR, so there is nothing to clear
    elif reg == hw.APIC_SELF_IPI:
        reserved = val & ~hw.APIC_VECTOR_MASK and kvm.host.has("self_ipi_reserved_gp")
        if not x2apic or reserved:
            return False
        kvm_apic_send_ipi(apic, hw.APIC_DEST_SELF | val & hw.APIC_VECTOR_MASK, 0)
    elif x2apic and reg == hw.APIC_ICR2 and not kvm.host.has("icr_one_register"):
        kvm_lapic_set_reg(apic, reg, val)  # never the guest's own write: the upper half of its ICR
    elif x2apic or not _write_xapic_only(apic, reg, val):
        return False
    kvm_recalculate_apic_map(kvm)
    return True


def _write_xapic_only(apic: KvmLapic, reg: int, val: int) -> bool:
    """ID, LDR, DFR and ICR2: read-only or absent in x2APIC mode."""
    if reg in (hw.APIC_ID, hw.APIC_LDR, hw.APIC_ICR2):
        kvm_lapic_set_reg(apic, reg, val & 0xFF000000)
    elif reg == hw.APIC_DFR:
        kvm_lapic_set_reg(apic, reg, val | 0x0FFFFFFF)
    else:
        return False
    if reg != hw.APIC_ICR2:
        apic.vcpu.kvm.apic_map_dirty = True
    if reg == hw.APIC_ID:
        xapic_id_updated(apic)
    return True


def _write_spiv(apic: KvmLapic, val: int) -> None:
    directed = kvm_lapic_get_reg(apic, hw.APIC_LVR) & 1 << 24
    apic_set_spiv(apic, val & (0x3FF | (hw.APIC_SPIV_DIRECTED_EOI if directed else 0)))
    if not val & hw.APIC_SPIV_APIC_ENABLED:
        for lvt in LVT_MASKS:
            kvm_lapic_set_reg(apic, lvt, kvm_lapic_get_reg(apic, lvt) | hw.APIC_LVT_MASKED)
        apic_update_lvtt(apic)
        apic.timer.pending = 0


@kernel(FILE)
def apic_set_spiv(apic: KvmLapic, val: int) -> None:
    enabled = val & hw.APIC_SPIV_APIC_ENABLED != 0
    kvm_lapic_set_reg(apic, hw.APIC_SPIV, val)
    if enabled != apic.sw_enabled:
        apic.sw_enabled = enabled
        apic.vcpu.kvm.apic_map_dirty = True


def _write_lvt(apic: KvmLapic, reg: int, val: int) -> None:
    if not apic.sw_enabled:
        val |= hw.APIC_LVT_MASKED
    mask = LVT_MASKS[reg] | (hw.APIC_LVT_TIMER_MASK if reg == hw.APIC_LVTT else 0)
    kvm_lapic_set_reg(apic, reg, val & mask)
    if reg == hw.APIC_LVTT:
        apic_update_lvtt(apic)


@kernel(FILE)
def kvm_x2apic_msr_write(apic: KvmLapic, msr: int, data: int) -> int:
    """0, or 1 for #GP. Outside x2APIC mode the whole range is #GP."""
    if not apic_x2apic_mode(apic) or msr == hw.APIC_BASE_MSR + (hw.APIC_ICR2 >> 4):
        return 1
    return kvm_lapic_msr_write(apic, (msr - hw.APIC_BASE_MSR) << 4, data)


@kernel(FILE, since="6.1")
def kvm_lapic_msr_write(apic: KvmLapic, reg: int, data: int) -> int:
    """The ICR is one write since 6.1; before, its upper half went to ICR2 first."""
    if reg == hw.APIC_ICR and not apic.vcpu.kvm.host.has("icr_one_register"):
        kvm_lapic_reg_write(apic, hw.APIC_ICR2, data >> 32)
    elif reg == hw.APIC_ICR:
        return 0 if kvm_x2apic_icr_write(apic, data) else 1
    if data >> 32 and apic.vcpu.kvm.host.has("x2apic_upper32_gp"):
        return 1
    return 0 if kvm_lapic_reg_write(apic, reg, data & 0xFFFFFFFF) else 1


@kernel(FILE)
def kvm_x2apic_msr_read(apic: KvmLapic, msr: int) -> int | None:
    """The register, None for #GP."""
    if not apic_x2apic_mode(apic):
        return None
    return kvm_lapic_msr_read(apic, (msr - hw.APIC_BASE_MSR) << 4)


@kernel(FILE, since="6.1")
def kvm_lapic_msr_read(apic: KvmLapic, reg: int) -> int | None:
    if reg == hw.APIC_ICR:
        return kvm_x2apic_read_icr(apic)
    return kvm_lapic_reg_read(apic, reg)


def apic_mmio_in_range(apic: KvmLapic, address: int) -> bool:
    base = apic.apic_base & ~0xFFF
    return base <= address < base + 0x1000


@kernel(FILE)
def apic_mmio_write(apic: KvmLapic, address: int, value: int, size: int = 4) -> None:
    """A write to the page. One that is refused, has not 4 bytes or falls between two registers, is dropped."""
    offset = address & 0xFFF
    if size != 4 or offset & 0xF or not apic.apic_base & hw.MSR_IA32_APICBASE_ENABLE or apic_x2apic_mode(apic):
        return
    kvm_lapic_reg_write(apic, offset & 0xFF0, value)


@kernel(FILE)
def apic_mmio_read(apic: KvmLapic, address: int, size: int = 4) -> int:
    """All ones while the APIC is off or in x2APIC mode (a kept quirk), 0 where there is no register.

    A read that crosses the register's 4 bytes leaves the buffer as it was; what is read then is not specified, here 0.
    """
    ones = (1 << 8 * size) - 1
    if not apic.apic_base & hw.MSR_IA32_APICBASE_ENABLE or apic_x2apic_mode(apic):
        return ones
    alignment = address & 0xF
    if alignment + size > 4:
        return 0
    return (kvm_lapic_reg_read(apic, address & 0xFF0) or 0) >> 8 * alignment & ones
