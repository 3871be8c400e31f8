"""AVIC told: what the processor does by itself, in the hardware's lane, and what is left for KVM.

None of these events happens on a host without AVIC, so every story's tellers include them.
"""

from __future__ import annotations

from typing import Any

from kvmmodel import events as ev
from kvmmodel.machine.record import Record
from kvmmodel.silicon.apic import REGISTER_NAMES
from kvmmodel.trace.cast import Cast
from kvmmodel.trace.telling import Teller, Told, column, in_kvm, who_on

INCOMPLETE = {  # EXITINFO2's ID: its name, and what KVM makes of it
    0: ("invalid type", "Hardware sends edge-triggered Fixed IPIs only, so KVM has to send this one."),
    1: ("target not running", "Every IRR bit is set already: KVM has to wake or ring those that are meant."),
    2: ("invalid target", "Hardware found no valid entry for a target, and sent nothing."),
    3: ("invalid backing page", "An entry's page is no backing page: KVM warns, and the IPI is lost."),
    4: ("invalid vector", "Vectors below 16 are no interrupts: KVM ignores the IPI."),
}
MODES = {
    "off": "KVM takes AVIC out of the VMCB of vCPU {}: its APIC accesses exit from now on.",
    "xavic": "KVM puts AVIC into the VMCB of vCPU {}, for the xAPIC page.",
    "x2avic": "KVM puts AVIC into the VMCB of vCPU {}, for the x2APIC's MSRs.",
    "hybrid": "KVM puts AVIC into the VMCB of vCPU {}, but its MSRs still exit.",
}


def _unit(record: Record) -> str:
    return who_on("Hardware", record)


def _set_irr(cast: Cast, record: Record, e: Any) -> Told | None:
    """The first step of the unit begins at the guest's write."""
    if record.vcpu is None or not cast.shown(record.vcpu):
        return None
    unit = column(cast, record.vcpu, "hw")
    at, to = (column(cast, record.vcpu, "guest"), unit) if cast.unit_begins else (unit, None)
    if e.apic_id != cast.target:
        why = f"vCPU {e.apic_id} is meant as well, and gets the same steps, which are not shown."
        return Told("set_irr", at, to, f"the same for vCPU {e.apic_id}", "not shown", _unit(record), why)
    why = f"Hardware finds the page of vCPU {e.apic_id} by the tables, and sets bit `{e.vector:#x}` in its IRR."
    label, detail = f"set IRR `{e.vector:#x}`", f"in the page of vCPU {e.apic_id}"
    return Told("set_irr", at, to, label, detail, _unit(record), why)


def _lookup(cast: Cast, record: Record, e: Any) -> Told | None:
    if record.vcpu is None or not cast.shown(record.vcpu) or e.apic_id != cast.target:
        return None
    label, detail = f"`IsRunning` is {int(e.running)}", f"physical ID table, entry {e.apic_id}"
    why = f"`IsRunning` is 0 in entry {e.apic_id} of the physical ID table: hardware cannot ring, and must exit."
    if e.running:
        why = f"`IsRunning` is 1 in entry {e.apic_id} of the physical ID table, which also names its core."
    return Told("read", column(cast, record.vcpu, "hw"), None, label, detail, _unit(record), why)


def _ring(cast: Cast, record: Record, e: Any) -> Told | None:
    """A doorbell to oneself is no signal between cores."""
    if record.vcpu is None or not cast.shown(record.vcpu) or e.apic_id != cast.target or e.apic_id == record.vcpu:
        return None
    why = f"CPU {record.cpu}'s hardware rings the doorbell of CPU {e.host_apic_id} itself: no KVM code runs."
    at, label = column(cast, record.vcpu, "hw"), f"doorbell to CPU {e.host_apic_id}"
    return Told("doorbell", at, column(cast, e.apic_id, "hw"), label, "by hardware", _unit(record), why)


def _ring_by_kvm(cast: Cast, record: Record, e: Any) -> Told | None:
    why = f"KVM writes the doorbell MSR: CPU {e.host_apic_id} looks at the IRR, and stays in the guest."
    if e.vcpu_id != cast.target:
        return None
    told = in_kvm(cast, record, "doorbell", f"doorbell to CPU {e.host_apic_id}", "by KVM", why)
    if told is None:
        return None
    to = column(cast, e.vcpu_id, "hw")
    return Told(told.kind, told.at, to, told.label, told.detail, told.who, told.sentence)


def _doorbell(cast: Cast, record: Record, e: Any) -> Told | None:
    if e.cpu != cast.target_cpu:
        return None
    if not e.heard:
        why = f"The guest that CPU {e.cpu} runs has no AVIC now: nobody looks."
        return Told("no", "t.hw", None, "doorbell not heard", "AVIC is off there", _unit(record), why)
    why = f"The doorbell arrives, and CPU {e.cpu} compares the highest IRR vector with PPR."
    return Told("read", "t.hw", None, "doorbell: look at IRR", "the guest is not left", _unit(record), why)


def _take(cast: Cast, record: Record, e: Any) -> Told:
    why = f"Its class is above PPR's and IF is set: hardware takes `{e.vector:#x}`. No exit, no `EVENTINJ`."
    at, label = column(cast, e.apic_id, "hw"), f"IRR to ISR `{e.vector:#x}`"
    return Told("inject", at, None, label, "no `EVENTINJ`", _unit(record), why)


def _clear_isr(cast: Cast, record: Record, e: Any) -> Told:
    why = f"TMR says that `{e.vector:#x}` is an edge's, so hardware clears ISR, and nothing exits."
    guest, unit = column(cast, e.apic_id, "guest"), column(cast, e.apic_id, "hw")
    return Told("eoi", guest, unit, f"EOI clears ISR `{e.vector:#x}`", "edge, so no exit", _unit(record), why)


def _host_apic(cast: Cast, record: Record, e: Any) -> Told:
    why = f"Nobody intercepts MSR `{e.msr:#x}`, and x2AVIC is off: the guest reaches CPU {record.cpu}'s own APIC."
    label = f"MSR `{e.msr:#x}` of the host's APIC"
    return Told("no", column(cast, e.vcpu_id, "hw"), None, label, "not the guest's", _unit(record), why)


def _tpr(cast: Cast, record: Record, e: Any) -> Told:
    why = f"No exit: hardware writes TPR `{e.tpr:#04x}` into the page, and keeps PPR, `{e.ppr:#04x}`."
    guest, unit = column(cast, e.apic_id, "guest"), column(cast, e.apic_id, "hw")
    return Told("tpr", guest, unit, f"TPR `{e.tpr:#04x}`, PPR `{e.ppr:#04x}`", "no exit", _unit(record), why)


def _is_running(cast: Cast, record: Record, e: Any) -> Told | None:
    vcpu = f"vCPU {e.vcpu_id}"
    if not e.running:
        why = f"KVM clears `IsRunning` of {vcpu}: from now on an IPI to it exits."
    elif e.table:
        why = f"KVM sets `IsRunning` of {vcpu}, with its core: doorbells go there from now on."
    else:
        why = f"{vcpu} runs, but with `enable_ipiv=N` the table keeps `IsRunning` 0, so every IPI exits."
    label, detail = f"`IsRunning` := {int(e.table)}", f"of {vcpu}, in the table"
    return in_kvm(cast, record, "table", label, detail, why)


def _mode(cast: Cast, record: Record, e: Any) -> Told | None:
    label = f"AVIC of vCPU {e.vcpu_id}: {e.mode}"
    return in_kvm(cast, record, "table", label, "in the VMCB", MODES[e.mode].format(e.vcpu_id))


def _accept(cast: Cast, record: Record, e: Any) -> Told | None:
    """The tracepoint's apicid is the vcpu_id."""
    if e.apicid != cast.target:
        return None
    why = "AVIC is on there: the IRR bit is all that is needed, so KVM makes no request and no kick."
    return in_kvm(cast, record, "dot", "hardware will deliver it", "no request, no kick", why)


def _incomplete(cast: Cast, record: Record, e: Any) -> Told | None:
    name, why = INCOMPLETE[e.id]
    return in_kvm(cast, record, "read", f"incomplete IPI: {name}", f"ID {e.id}", why)


def _slowpath(cast: Cast, record: Record, e: Any) -> Told | None:
    why = "Not a destination that KVM can look up, so it compares every vCPU with it."
    return in_kvm(cast, record, "table", "KVM compares every vCPU", "slow path", why)


def _access(cast: Cast, record: Record, e: Any) -> Told | None:
    name = REGISTER_NAMES.get(e.offset, hex(e.offset))
    if e.trap:
        why = f"The write to `{name}` is in the page already: KVM does what follows from it."
    else:
        why = f"Hardware did not carry out this access to `{name}`: KVM has to emulate it."
    label = f"`{name}`: {'trap' if e.trap else 'fault'}"
    return in_kvm(cast, record, "read", label, "not accelerated", why)


def _inhibit(cast: Cast, record: Record, e: Any) -> Told | None:
    """Traced at every call: told where the mask changes."""
    before, cast.inhibits = cast.inhibits, e.inhibits
    if e.inhibits == before or (before is None and not e.set):
        return None
    if e.set:
        why = f"`{e.name}` is a reason against AVIC: no vCPU of this VM may use it from now on."
    elif e.inhibits:
        why = f"`{e.name}` is no reason against AVIC any more, but another is."
    else:
        why = f"`{e.name}` was the last reason against AVIC: all vCPUs may use it again."
    label = f"inhibit `{e.name}` {'set' if e.set else 'cleared'}"
    return in_kvm(cast, record, "inhibit", label, f"inhibits `{e.inhibits:#x}`", why)


def _update_request(cast: Cast, record: Record, e: Any) -> Told | None:
    what = "activate" if e.activate else "deactivate"
    why = f"KVM asks all vCPUs to {what} AVIC, before their next entry."
    return in_kvm(cast, record, "inhibit", f"all vCPUs: {what} AVIC", f"reason {e.bit}", why)


def _ga_log_read(cast: Cast, record: Record, e: Any) -> Told | None:
    why = "The IOMMU's driver reads the log, and KVM finds VM and vCPU by the tag."
    return in_kvm(cast, record, "read", "GA log: find the vCPU", f"VM {e.vmid}, vCPU {e.vcpuid}", why)


def _irte(cast: Cast, record: Record, e: Any) -> Told | None:
    why = "KVM has the device's remapping entry interrupt the host, which passes the interrupt on."
    detail = "the host gets it"
    if e.mode == "posted":
        why = f"The device's remapping entry posts to the vCPU; `IsRun` is {int(e.is_run)} in it."
        detail = f"`IsRun` {int(e.is_run)}, `GALogIntr` {int(e.ga_log_intr)}"
    return in_kvm(cast, record, "table", f"IRTE: {e.mode}", detail, why)


AVIC_TELLERS: dict[type[ev.Event], Teller] = {
    ev.AvicSetIrr: _set_irr,
    ev.AvicLookup: _lookup,
    ev.AvicRing: _ring,
    ev.RingDoorbell: _ring_by_kvm,
    ev.AvicDoorbell: _doorbell,
    ev.AvicTake: _take,
    ev.AvicClearIsr: _clear_isr,
    ev.AvicTpr: _tpr,
    ev.HostApicAccess: _host_apic,
    ev.AvicIsRunning: _is_running,
    ev.AvicMode: _mode,
    ev.KvmApicvAcceptIrq: _accept,
    ev.KvmAvicIncompleteIpi: _incomplete,
    ev.KvmAvicKickVcpuSlowpath: _slowpath,
    ev.KvmAvicUnacceleratedAccess: _access,
    ev.KvmApicvInhibitChanged: _inhibit,
    ev.KvmApicvUpdateRequest: _update_request,
    ev.KvmAvicGaLog: _ga_log_read,
    ev.IommuMode: _irte,
}
