"""Birth, reset, APIC_BASE, and the state page of KVM_GET_LAPIC and KVM_SET_LAPIC."""

from __future__ import annotations

import struct

from kvmmodel.kvm.apicv import (
    __kvm_vcpu_update_apicv,
    enable_apicv,
    kvm_apic_update_apicv,
    kvm_apicv_activated,
    kvm_set_apicv_inhibit,
)
from kvmmodel.kvm.host_types import Hrtimer
from kvmmodel.kvm.ioapic import kvm_rtc_eoi_tracking_restore_one
from kvmmodel.kvm.lapic.access import apic_set_spiv
from kvmmodel.kvm.lapic.advance import initial_timer_advance
from kvmmodel.kvm.lapic.icr import icr_is_one_register
from kvmmodel.kvm.lapic.map import kvm_recalculate_apic_map, xapic_id_updated
from kvmmodel.kvm.lapic.priority import apic_update_ppr, kvm_lapic_update_cr8_intercept
from kvmmodel.kvm.lapic.registers import (
    LVT_MASKS,
    advertises_suppress_eoi_broadcast,
    apic_x2apic_mode,
    kvm_apic_hw_enabled,
    kvm_lapic_get_reg,
    kvm_lapic_set_reg,
)
from kvmmodel.kvm.lapic.timer import (
    __start_apic_timer,
    apic_get_tmcct,
    apic_timer_fn,
    apic_update_lvtt,
    cancel_apic_timer,
    update_divide_count,
)
from kvmmodel.kvm.names import kernel
from kvmmodel.kvm.ops import kvm_x86_ops
from kvmmodel.kvm.requests import KVM_REQ_APICV_UPDATE, KVM_REQ_EVENT, kvm_make_request
from kvmmodel.kvm.types import KvmLapic, KvmTimer, KvmVcpu
from kvmmodel.silicon import apic as hw

FILE = "arch/x86/kvm/lapic.c"


@kernel(FILE)
def kvm_create_lapic(vcpu: KvmVcpu) -> None:
    hrtimer = Hrtimer(vcpu.cpu, lambda: apic_timer_fn(vcpu.apic), vcpu.vcpu_id)
    vcpu.kvm.host.timers.append(hrtimer)
    vcpu.apic = KvmLapic(vcpu, KvmTimer(hrtimer, timer_advance_ns=initial_timer_advance(vcpu.kvm.host.params)))
    vcpu.apic.apic_base = hw.MSR_IA32_APICBASE_ENABLE  # the rest by kvm_lapic_reset
    host = vcpu.kvm.host
    if host.has("apicv_update_at_creation"):
        vcpu.apic.apicv_active = enable_apicv(host)  # for now; corrected at the first entry
        if enable_apicv(host):
            kvm_make_request(KVM_REQ_APICV_UPDATE, vcpu)
    else:
        vcpu.apic.apicv_active = kvm_apicv_activated(vcpu.kvm)


@kernel(FILE)
def kvm_lapic_reset(vcpu: KvmVcpu, init_event: bool) -> None:
    """Reset values. An INIT keeps APIC_BASE and the IDs; what is not named here stays as well."""
    apic = vcpu.apic
    if not init_event:
        bsp = hw.MSR_IA32_APICBASE_BSP if vcpu.vcpu_id == 0 else 0
        __kvm_apic_set_base(vcpu, hw.APIC_DEFAULT_PHYS_BASE | hw.MSR_IA32_APICBASE_ENABLE | bsp)
    apic.timer.hrtimer.expires = None
    if not init_event:
        kvm_apic_set_xapic_id(apic, vcpu.vcpu_id)
    kvm_lapic_set_reg(apic, hw.APIC_LVR, kvm_apic_version(apic))
    for lvt in LVT_MASKS:
        kvm_lapic_set_reg(apic, lvt, hw.APIC_LVT_MASKED)
    apic_update_lvtt(apic)
    if vcpu.vcpu_id == 0:
        kvm_lapic_set_reg(apic, hw.APIC_LVT0, hw.APIC_DM_EXTINT)  # a kept quirk: LINT0 open for the 8259
    kvm_lapic_set_reg(apic, hw.APIC_DFR, hw.APIC_DFR_FLAT)
    apic_set_spiv(apic, 0xFF)
    kvm_lapic_set_reg(apic, hw.APIC_TASKPRI, 0)
    if not apic_x2apic_mode(apic):
        kvm_lapic_set_reg(apic, hw.APIC_LDR, 0)
    kvm_lapic_set_reg(apic, hw.APIC_ESR, 0)
    _reset_icr(apic)
    kvm_lapic_set_reg(apic, hw.APIC_TDCR, 0)
    kvm_lapic_set_reg(apic, hw.APIC_TMICT, 0)
    apic.irr = apic.isr = apic.tmr = 0
    apic.highest_isr_cache = -1
    kvm_apic_update_apicv(apic)
    update_divide_count(apic)
    apic.timer.pending = 0
    vcpu.pv_eoi_msr, vcpu.pv_eoi_attention = 0, False
    apic_update_ppr(apic)
    if apic.apicv_active and vcpu.avic_backing_page:
        kvm_x86_ops.apicv_post_state_restore(vcpu)
    apic.arb_prio = 0
    vcpu.kvm.apic_map_dirty = True
    kvm_recalculate_apic_map(vcpu.kvm)


def _reset_icr(apic: KvmLapic) -> None:
    """In x2APIC mode it is reset as one 64-bit value, also where it is kept split: the destination then survives."""
    one = apic_x2apic_mode(apic) and apic.vcpu.kvm.host.has("icr_one_register")
    kvm_lapic_set_reg(apic, hw.APIC_ICR, 0)
    kvm_lapic_set_reg(apic, hw.APIC_ICR + 4 if one else hw.APIC_ICR2, 0)


def kvm_apic_version(apic: KvmLapic) -> int:
    """Version 0x14 with 6 LVT entries; bit 24 offers directed EOI where the IOAPIC is userspace's."""
    kvm = apic.vcpu.kvm
    directed = 1 << 24 if kvm.x2apic_cpuid and advertises_suppress_eoi_broadcast(kvm) else 0
    return 0x14 | (apic.nr_lvt - 1) << 16 | directed


def kvm_apic_set_xapic_id(apic: KvmLapic, ident: int) -> None:
    kvm_lapic_set_reg(apic, hw.APIC_ID, ident << 24)
    apic.vcpu.kvm.apic_map_dirty = True


def kvm_apic_set_x2apic_id(apic: KvmLapic, ident: int) -> None:
    kvm_lapic_set_reg(apic, hw.APIC_ID, ident)
    kvm_lapic_set_reg(apic, hw.APIC_LDR, hw.x2apic_ldr(ident))
    apic.vcpu.kvm.apic_map_dirty = True


@kernel(FILE, was={"5.10": "kvm_set_apic_base", "6.18": "kvm_apic_set_base"})  # x86.c up to 6.12
def kvm_apic_set_base(vcpu: KvmVcpu, value: int, host_initiated: bool) -> int:
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
    __kvm_apic_set_base(vcpu, value)
    kvm_recalculate_apic_map(vcpu.kvm)
    return 0


@kernel(FILE, was={"5.10": "kvm_lapic_set_base", "6.18": "__kvm_apic_set_base"})
def __kvm_apic_set_base(vcpu: KvmVcpu, value: int) -> None:
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
        elif value & hw.MSR_IA32_APICBASE_ENABLE and vcpu.kvm.host.has("xapic_id_after_x2apic"):
            kvm_apic_set_xapic_id(apic, vcpu.vcpu_id)  # LDR keeps the x2APIC value
    if changed & (hw.MSR_IA32_APICBASE_ENABLE | hw.X2APIC_ENABLE):
        _mode_changed(vcpu)
    moved = value & ~0xFFF != hw.APIC_DEFAULT_PHYS_BASE
    if kvm_apic_hw_enabled(apic) and moved and vcpu.kvm.host.has("apic_base_inhibits"):
        kvm_set_apicv_inhibit(vcpu.kvm, "APIC_BASE_MODIFIED")


def _mode_changed(vcpu: KvmVcpu) -> None:
    """The APIC went on, off, or between xAPIC and x2APIC: the VMCB at once, whether AVIC is active at the next entry.

    6.1 does all of it at once; before, only an inhibit mattered.
    """
    host = vcpu.kvm.host
    if not enable_apicv(host) or not vcpu.avic_backing_page:
        return
    if host.has("apic_base_requests_update"):
        kvm_make_request(KVM_REQ_APICV_UPDATE, vcpu)
        kvm_x86_ops.set_virtual_apic_mode(vcpu)
    elif host.has("apicv_apic_disabled"):
        __kvm_vcpu_update_apicv(vcpu)
        kvm_x86_ops.set_virtual_apic_mode(vcpu)


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
        words[hw.APIC_ID // 4] = kvm_lapic_get_reg(apic, hw.APIC_ID) << 24 & 0xFFFFFFFF
    if apic_x2apic_mode(apic) and icr_is_one_register(vcpu.kvm.host):
        words[hw.APIC_ICR2 // 4] = words[hw.APIC_ICR // 4 + 1]  # userspace finds it where the xAPIC has it
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
    apic_set_spiv(apic, words[hw.APIC_SPIV // 4])  # even if the page is refused
    if apic_x2apic_mode(apic):
        if vcpu.kvm.x2apic_format and words[hw.APIC_ID // 4] != vcpu.vcpu_id:
            kvm_recalculate_apic_map(vcpu.kvm)
            raise ValueError(
                f"the page's ID is {words[hw.APIC_ID // 4]}, in x2APIC mode it must be the vCPU's: {vcpu.vcpu_id}"
            )
        fixed = vcpu.kvm.x2apic_format or vcpu.kvm.host.has("x2apic_id_is_the_vcpu_id")
        ident = vcpu.vcpu_id if fixed else words[hw.APIC_ID // 4] >> 24
        words[hw.APIC_ID // 4], words[hw.APIC_LDR // 4] = ident, hw.x2apic_ldr(ident)
        if icr_is_one_register(vcpu.kvm.host):
            words[hw.APIC_ICR // 4 + 1] = words[hw.APIC_ICR2 // 4]
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
    __start_apic_timer(apic, hw.APIC_TMCCT)
    apic.regs.pop(hw.APIC_TMCCT, None)
    apic.highest_isr_cache = -1
    kvm_apic_update_apicv(apic)
    xapic_id_updated(apic)
    if apic.apicv_active and vcpu.avic_backing_page:
        kvm_x86_ops.apicv_post_state_restore(vcpu)
    kvm_make_request(KVM_REQ_EVENT, vcpu)
    if vcpu.kvm.ioapic is not None:
        kvm_rtc_eoi_tracking_restore_one(vcpu)
    apic.arb_prio = 0
    if not vcpu.kvm.host.has("cr8_recomputed_on_ppr"):  # since then the one in apic_update_ppr has to do
        kvm_lapic_update_cr8_intercept(vcpu)
