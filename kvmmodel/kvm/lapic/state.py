"""Birth, reset, APIC_BASE, and the state page of KVM_GET_LAPIC and KVM_SET_LAPIC."""

from __future__ import annotations

import struct

from kvmmodel.kvm.lapic.access import apic_set_spiv
from kvmmodel.kvm.lapic.advance import initial_timer_advance
from kvmmodel.kvm.lapic.map import kvm_recalculate_apic_map
from kvmmodel.kvm.lapic.priority import apic_update_ppr, kvm_lapic_update_cr8_intercept
from kvmmodel.kvm.lapic.registers import (
    LVT_MASKS,
    apic_lvtt_oneshot,
    apic_lvtt_tscdeadline,
    apic_x2apic_mode,
    kvm_apic_hw_enabled,
    kvm_lapic_get_reg,
    kvm_lapic_set_reg,
    kvm_x2apic_id,
)
from kvmmodel.kvm.lapic.timer import (
    apic_get_tmcct,
    apic_timer_fn,
    apic_update_lvtt,
    cancel_apic_timer,
    limit_periodic_timer_frequency,
    start_sw_timer,
    update_divide_count,
)
from kvmmodel.kvm.names import kernel
from kvmmodel.kvm.requests import KVM_REQ_EVENT, kvm_make_request
from kvmmodel.kvm.types import Hrtimer, KvmLapic, KvmTimer, KvmVcpu
from kvmmodel.silicon import apic as hw

FILE = "arch/x86/kvm/lapic.c"


@kernel(FILE)
def kvm_create_lapic(vcpu: KvmVcpu) -> None:
    hrtimer = Hrtimer(vcpu, vcpu.cpu, apic_timer_fn)
    vcpu.kvm.host.timers.append(hrtimer)
    vcpu.apic = KvmLapic(vcpu, KvmTimer(hrtimer, timer_advance_ns=initial_timer_advance(vcpu.kvm.host.params)))
    vcpu.apic.apic_base = hw.APIC_DEFAULT_PHYS_BASE | hw.MSR_IA32_APICBASE_ENABLE
    if vcpu.vcpu_id == 0:
        vcpu.apic.apic_base |= hw.MSR_IA32_APICBASE_BSP


@kernel(FILE)
def kvm_lapic_reset(vcpu: KvmVcpu, init_event: bool) -> None:
    """Reset values; an INIT keeps APIC_BASE and the ID."""
    apic = vcpu.apic
    cancel_apic_timer(apic)
    if not init_event:
        bsp = apic.apic_base & hw.MSR_IA32_APICBASE_BSP
        apic.apic_base = hw.APIC_DEFAULT_PHYS_BASE | hw.MSR_IA32_APICBASE_ENABLE | bsp
        kvm_apic_set_xapic_id(apic, vcpu.vcpu_id)
    keep = {hw.APIC_ID: kvm_lapic_get_reg(apic, hw.APIC_ID)}
    apic.regs = keep | {
        hw.APIC_LVR: kvm_apic_version(apic),
        hw.APIC_DFR: hw.APIC_DFR_FLAT,
        **dict.fromkeys(LVT_MASKS, hw.APIC_LVT_MASKED),
    }
    apic_set_spiv(apic, 0xFF)
    if vcpu.vcpu_id == 0:
        kvm_lapic_set_reg(apic, hw.APIC_LVT0, hw.APIC_DM_EXTINT)  # a kept quirk: LINT0 open for the 8259
    if apic_x2apic_mode(apic):
        kvm_apic_set_x2apic_id(apic, kvm_x2apic_id(apic))
    apic.irr = apic.isr = apic.tmr = 0
    apic.timer.timer_mode = 0
    apic.timer.tscdeadline = apic.timer.expired_tscdeadline = apic.timer.period = 0
    update_divide_count(apic)
    kvm_apic_update_apicv(apic)
    vcpu.pv_eoi_msr, vcpu.pv_eoi_attention = 0, False
    apic_update_ppr(apic)
    apic.arb_prio = 0
    vcpu.kvm.apic_map_dirty = True
    kvm_recalculate_apic_map(vcpu.kvm)


def kvm_apic_version(apic: KvmLapic) -> int:
    """Version 0x14 with 6 LVT entries; bit 24 offers directed EOI where the IOAPIC is userspace's."""
    kvm = apic.vcpu.kvm
    directed = 1 << 24 if kvm.x2apic_cpuid and kvm.irqchip == "split" else 0
    return 0x14 | (apic.nr_lvt - 1) << 16 | directed


def kvm_apic_set_xapic_id(apic: KvmLapic, ident: int) -> None:
    kvm_lapic_set_reg(apic, hw.APIC_ID, ident << 24)
    apic.vcpu.kvm.apic_map_dirty = True


def kvm_apic_set_x2apic_id(apic: KvmLapic, ident: int) -> None:
    kvm_lapic_set_reg(apic, hw.APIC_ID, ident)
    kvm_lapic_set_reg(apic, hw.APIC_LDR, hw.x2apic_ldr(ident))
    apic.vcpu.kvm.apic_map_dirty = True


def kvm_apic_update_apicv(apic: KvmLapic) -> None:
    """Refresh what is cached of IRR and ISR. irr_pending starts true: a hint, made exact by apic_clear_irr."""
    apic.irr_pending = True
    apic.isr_count = 1 if apic.apicv_active else apic.isr.bit_count()
    apic.highest_isr_cache = -1


@kernel("arch/x86/kvm/x86.c")
def kvm_set_apic_base(vcpu: KvmVcpu, value: int, host_initiated: bool) -> int:
    """APIC_BASE. 1 (#GP): reserved bits, EXTD without EN, or a transition that only the host may make."""
    apic = vcpu.apic
    mode_bits = hw.MSR_IA32_APICBASE_ENABLE | hw.X2APIC_ENABLE
    old, new = apic.apic_base & mode_bits, value & mode_bits
    reserved = value & 0x2FF or value >> vcpu.kvm.maxphyaddr or (value & hw.X2APIC_ENABLE and not vcpu.kvm.x2apic_cpuid)
    if reserved or new == hw.X2APIC_ENABLE:
        return 1
    x2apic = mode_bits
    if not host_initiated:
        if old == x2apic and new == hw.MSR_IA32_APICBASE_ENABLE:
            return 1
        if old == 0 and new == x2apic:
            return 1
    kvm_lapic_set_base(vcpu, value)
    kvm_recalculate_apic_map(vcpu.kvm)
    return 0


@kernel(FILE, was={"5.10": "kvm_lapic_set_base", "6.18": "__kvm_apic_set_base"})
def kvm_lapic_set_base(vcpu: KvmVcpu, value: int) -> None:
    apic = vcpu.apic
    old, apic.apic_base = apic.apic_base, value
    changed = old ^ value
    if changed & hw.MSR_IA32_APICBASE_ENABLE:
        if value & hw.MSR_IA32_APICBASE_ENABLE:
            kvm_apic_set_xapic_id(apic, vcpu.vcpu_id)
        vcpu.kvm.apic_map_dirty = True
    if changed & hw.X2APIC_ENABLE:
        if value & hw.X2APIC_ENABLE:
            kvm_apic_set_x2apic_id(apic, vcpu.vcpu_id)
        elif value & hw.MSR_IA32_APICBASE_ENABLE:
            kvm_apic_set_xapic_id(apic, vcpu.vcpu_id)  # LDR keeps the x2APIC value
        vcpu.kvm.apic_map_dirty = True
    if kvm_apic_hw_enabled(apic) and value & ~0xFFF != hw.APIC_DEFAULT_PHYS_BASE:
        vcpu.kvm.inhibits.add("APIC_BASE_MODIFIED")


@kernel(FILE)
def kvm_apic_get_state(vcpu: KvmVcpu) -> bytes:
    """The 1 KiB page as KVM_GET_LAPIC gives it. TMCCT is live; PPR is as last stored."""
    apic = vcpu.apic
    words = [0] * (hw.PAGE_SIZE // 4)
    for offset, value in apic.regs.items():
        words[offset // 4] = value
    for base, bank in ((hw.APIC_ISR, apic.isr), (hw.APIC_TMR, apic.tmr), (hw.APIC_IRR, apic.irr)):
        for i in range(8):
            words[base // 4 + 4 * i] = bank >> 32 * i & 0xFFFFFFFF
    words[hw.APIC_TMCCT // 4] = apic_get_tmcct(apic)
    if apic_x2apic_mode(apic) and not vcpu.kvm.x2apic_format:
        words[hw.APIC_ID // 4] = vcpu.vcpu_id << 24 & 0xFFFFFFFF
    return struct.pack("<256I", *words)


@kernel(FILE)
def kvm_apic_set_state(vcpu: KvmVcpu, page: bytes) -> None:
    """Load a page. ValueError unless it is 1024 bytes, or if it holds another vCPU's 32-bit ID.

    PPR is recomputed before the cached ISR is refreshed, so a page that brings a vector in service into an APIC without
    one leaves PPR as if ISR were empty. Real kernels do the same.
    """
    if len(page) != hw.PAGE_SIZE:
        raise ValueError(f"a local APIC page has {hw.PAGE_SIZE} bytes, not {len(page)}")
    apic = vcpu.apic
    words = list(struct.unpack("<256I", page))
    if apic_x2apic_mode(apic):
        if vcpu.kvm.x2apic_format and words[hw.APIC_ID // 4] != vcpu.vcpu_id:
            raise ValueError(
                f"the page's ID is {words[hw.APIC_ID // 4]}, in x2APIC mode it must be the vCPU's: {vcpu.vcpu_id}"
            )
        words[hw.APIC_ID // 4] = vcpu.vcpu_id
        words[hw.APIC_LDR // 4] = hw.x2apic_ldr(vcpu.vcpu_id)
    apic_set_spiv(apic, words[hw.APIC_SPIV // 4])
    banks = [sum(words[base // 4 + 4 * i] << 32 * i for i in range(8)) for base in hw.BANKS]
    apic.isr, apic.tmr, apic.irr = banks
    for base in hw.BANKS:
        for i in range(8):
            words[base // 4 + 4 * i] = 0
    apic.regs = {4 * i: word for i, word in enumerate(words) if word}
    vcpu.kvm.apic_map_dirty = True
    kvm_recalculate_apic_map(vcpu.kvm)
    kvm_lapic_set_reg(apic, hw.APIC_LVR, kvm_apic_version(apic))
    apic_update_ppr(apic)
    cancel_apic_timer(apic)
    apic.timer.expired_tscdeadline = 0
    apic_update_lvtt(apic)
    update_divide_count(apic)
    _restore_timer(apic)
    kvm_apic_update_apicv(apic)
    kvm_make_request(KVM_REQ_EVENT, vcpu)
    apic.arb_prio = 0
    kvm_lapic_update_cr8_intercept(vcpu)


def _restore_timer(apic: KvmLapic) -> None:
    """Go on counting from TMCCT, at most TMICT. None left: a whole period, or (one-shot, newer kernels) at once."""
    timer, host, cycle = apic.timer, apic.vcpu.kvm.host, apic.vcpu.kvm.bus_cycle_ns * apic.timer.divide_count
    if not apic_lvtt_tscdeadline(apic):
        timer.period = kvm_lapic_get_reg(apic, hw.APIC_TMICT) * cycle
        limit_periodic_timer_frequency(apic)
        remaining = min(apic.regs.get(hw.APIC_TMCCT, 0) * cycle, timer.period)
        if not remaining and not (apic_lvtt_oneshot(apic) and host.has("restored_oneshot_fires")):
            remaining = timer.period
        timer.target_expiration = host.current.now + remaining
    apic.regs.pop(hw.APIC_TMCCT, None)
    start_sw_timer(apic)
