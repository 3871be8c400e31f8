"""When APICv, on AMD: AVIC, is active. Reasons against it are kept per VM; each vCPU follows when it next enters.

A vCPU's apicv_active is a copy that holds between VM entry and VM exit; elsewhere it may lag behind the VM's reasons.
Read in 6.1.176, 6.12.117, 7.2.13 and 7.3.4. Of 5.10, 5.15, 6.6 and 6.18 it does what facts/changes says, no more.
"""

from __future__ import annotations

from kvmmodel.events import KvmApicvInhibitChanged, KvmApicvUpdateRequest
from kvmmodel.facts.inhibits import bit, reasons
from kvmmodel.facts.inhibits import reason as named
from kvmmodel.kvm.host_types import HostKernel, Run, trace
from kvmmodel.kvm.kvm_main import kvm_make_all_cpus_request
from kvmmodel.kvm.lapic.registers import apic_x2apic_mode, kvm_apic_hw_enabled
from kvmmodel.kvm.memslots import __x86_set_memory_region
from kvmmodel.kvm.names import kernel
from kvmmodel.kvm.ops import kvm_x86_ops
from kvmmodel.kvm.requests import KVM_REQ_APICV_UPDATE, KVM_REQ_EVENT, kvm_make_request
from kvmmodel.kvm.types import Kvm, KvmLapic, KvmVcpu

X86, LAPIC = "arch/x86/kvm/x86.c", "arch/x86/kvm/lapic.c"
IRQWIN = "IRQWIN"


def enable_apicv(host: HostKernel) -> bool:
    """The module's verdict. Without it no VM ever has AVIC, and no later reason is recorded or traced."""
    return bool(host.params["avic"])


@kernel(X86)
def kvm_apicv_init(kvm: Kvm) -> None:
    """A new VM has no local APICs yet: ABSENT, until it has an irqchip. Without APICv: DISABLED, for good."""
    off, host = not enable_apicv(kvm.host), kvm.host
    if host.has("absent_inhibit") and not (off and host.has("one_first_inhibit")):
        set_or_clear_apicv_inhibit(kvm, kvm.inhibits, "ABSENT", True)
    if off:
        set_or_clear_apicv_inhibit(kvm, kvm.inhibits, "DISABLED", True)


@kernel(X86, since="6.1")
def set_or_clear_apicv_inhibit(kvm: Kvm, inhibits: set[str], reason: str, on: bool) -> None:
    """Change a mask, traced whether that changes anything or not."""
    (inhibits.add if on else inhibits.discard)(reason)
    if kvm.host.has("inhibit_traced_on_every_call"):
        found = named(kvm.host.kernel, reason)
        mask = sum(1 << bit(kvm.host.kernel, one) for one in inhibits)
        trace(kvm.host, KvmApicvInhibitChanged, found.bit, found.name, on, mask)


def kvm_set_apicv_inhibit(kvm: Kvm, reason: str) -> None:
    kvm_set_or_clear_apicv_inhibit(kvm, reason, True)


def kvm_clear_apicv_inhibit(kvm: Kvm, reason: str) -> None:
    kvm_set_or_clear_apicv_inhibit(kvm, reason, False)


@kernel(X86, was={"5.10": "kvm_request_apicv_update", "6.1": "kvm_set_or_clear_apicv_inhibit"})
def kvm_set_or_clear_apicv_inhibit(kvm: Kvm, reason: str, on: bool) -> None:
    if enable_apicv(kvm.host):
        __kvm_set_or_clear_apicv_inhibit(kvm, reason, on)


@kernel(X86, since="5.15", was={"5.15": "__kvm_request_apicv_update", "6.1": "__kvm_set_or_clear_apicv_inhibit"})
def __kvm_set_or_clear_apicv_inhibit(kvm: Kvm, reason: str, on: bool) -> None:
    """Only from none to some reasons, or back, does it concern the vCPUs: all are asked, and called out of the guest.

    They are asked before the mask changes, and wait for that. 5.10 changed it first, and updated the caller itself.
    """
    take_update_lock(kvm)
    host, before = kvm.host, bool(kvm.inhibits)
    if not any(one.id == reason and one.avic for one in reasons(host.kernel)):
        return
    after = set(kvm.inhibits)
    counted = host.has("irqwin_counted")
    if reason != IRQWIN or not counted:
        set_or_clear_apicv_inhibit(kvm, after, reason, on)
    if counted:
        set_or_clear_apicv_inhibit(kvm, after, IRQWIN, kvm.apicv_nr_irq_window_req > 0)
    if before == bool(after):
        kvm.inhibits = after
        return
    if not host.has("inhibit_traced_on_every_call"):
        trace(host, KvmApicvUpdateRequest, not after, bit(host.kernel, reason))
    caller = None
    if not host.has("apicv_update_kicks_first"):
        kvm.inhibits = after
        caller = host.current.running_vcpu if not host.has("apicv_update_by_request") else None
    if not host.has("apic_page_zapped"):
        kvm.apic_access_memslot_enabled = not after  # 5.10 has the memory slot come and go
    old = kvm.inhibits
    if kvm_make_all_cpus_request(kvm, KVM_REQ_APICV_UPDATE, caller):
        host.current.now += host.costs["ipi"]  # KVM_REQUEST_WAIT: until all have left the guest
    kvm.inhibits = after
    if host.has("apicv_update_kicks_first"):
        kvm.inhibits_before, kvm.inhibits_written = old, host.current.now
    if after:
        kvm.apic_page_mapped = False  # kvm_zap_gfn_range, or gone with its memory slot
    if caller is not None:
        __kvm_vcpu_update_apicv(caller)


@kernel(X86, since="7.2")
def kvm_inc_or_dec_irq_window_inhibit(kvm: Kvm, inc: bool) -> None:
    """Count the vCPUs that wait for a window. With another reason there, IRQWIN follows at the next change."""
    if not enable_apicv(kvm.host):
        return
    take_update_lock(kvm)
    kvm.apicv_nr_irq_window_req += 1 if inc else -1
    if kvm.inhibits - {IRQWIN}:
        return
    if kvm.apicv_nr_irq_window_req == int(inc):
        __kvm_set_or_clear_apicv_inhibit(kvm, IRQWIN, inc)


def take_update_lock(kvm: Kvm) -> None:
    """apicv_update_lock, to read or to write: it is free when the last writer's vCPUs have all left the guest."""
    kvm.host.current.now = max(kvm.host.current.now, kvm.inhibits_written)


@kernel(X86)
def kvm_apicv_activated(kvm: Kvm) -> bool:
    """The mask as it is now: one that a writer waits to write is not seen yet."""
    return not (kvm.inhibits_before if kvm.host.current.now < kvm.inhibits_written else kvm.inhibits)


@kernel(X86, since="6.1")
def kvm_vcpu_apicv_activated(vcpu: KvmVcpu) -> bool:
    """The VM's reasons, and the vCPU's own: L2 runs on it."""
    own = vcpu.guest_mode and vcpu.kvm.host.has("nested_inhibits_per_vcpu")
    return kvm_apicv_activated(vcpu.kvm) and not own


@kernel(X86, was={"5.10": "kvm_vcpu_update_apicv", "6.6": "__kvm_vcpu_update_apicv"})
def __kvm_vcpu_update_apicv(vcpu: KvmVcpu) -> None:
    """The vCPU follows. An interrupt that came while AVIC was active made no request, so going inactive makes one."""
    apic, host = vcpu.apic, vcpu.kvm.host
    take_update_lock(vcpu.kvm)
    activate = kvm_vcpu_apicv_activated(vcpu)
    if host.has("apicv_apic_disabled"):
        activate = activate and kvm_apic_hw_enabled(apic)
    if apic.apicv_active == activate and host.has("apicv_update_if_changed"):
        return
    apic.apicv_active = activate
    kvm_apic_update_apicv(apic)
    kvm_x86_ops.refresh_apicv_exec_ctrl(vcpu)
    if not activate and host.has("apicv_deactivate_requests_event"):
        kvm_make_request(KVM_REQ_EVENT, vcpu)


@kernel(X86, since="6.6")
def kvm_vcpu_update_apicv(vcpu: KvmVcpu) -> Run:
    """KVM_REQ_APICV_UPDATE. An x2APIC vCPU on a host without x2AVIC takes the xAPIC page away from the whole VM."""
    host = vcpu.kvm.host
    hybrid = enable_apicv(host) and not x2avic_enabled(host) and apic_x2apic_mode(vcpu.apic)
    if hybrid and host.has("apic_access_page_inhibited"):
        yield from kvm_inhibit_apic_access_page(vcpu)
    __kvm_vcpu_update_apicv(vcpu)


def x2avic_enabled(host: HostKernel) -> bool:
    return enable_apicv(host) and host.has("x2avic") and "x2avic" in host.features


@kernel(LAPIC, since="6.6")
def kvm_inhibit_apic_access_page(vcpu: KvmVcpu) -> Run:
    """For good: without its memory slot, accesses to the xAPIC page are emulated. The vCPU's thread sleeps for it."""
    kvm = vcpu.kvm
    if kvm.apic_access_memslot_enabled:
        kvm.apic_page_mapped = False
        yield from __x86_set_memory_region(vcpu)
        kvm.apic_access_memslot_inhibited = True
        kvm.apic_access_memslot_enabled = False


@kernel(LAPIC, since="6.6")
def kvm_alloc_apic_access_page(kvm: Kvm) -> None:
    """A memory slot for the xAPIC page. Up to 6.1 it is avic_alloc_access_page."""
    if not kvm.apic_access_memslot_inhibited:
        kvm.apic_access_memslot_enabled = True


@kernel(LAPIC)
def kvm_apic_update_apicv(apic: KvmLapic) -> None:
    """Refresh what is cached of IRR and ISR. With APICv nothing can be: the processor changes both.

    irr_pending true is a hint, made exact by apic_clear_irr. Some releases left it as it was, so an IRR that
    KVM_SET_LAPIC loads could wait unseen for the next interrupt. And some kept the highest vector in service: an EOI
    that the processor carries out then does not end it for KVM.
    """
    host = apic.vcpu.kvm.host
    if apic.apicv_active or host.has("apicv_update_sets_irr_pending"):
        apic.irr_pending = True
    elif not host.has("apicv_update_keeps_irr_pending"):
        apic.irr_pending = apic.irr != 0
    apic.isr_count = 1 if apic.apicv_active else apic.isr.bit_count()
    if host.has("apicv_update_forgets_highest_isr"):
        apic.highest_isr_cache = -1
