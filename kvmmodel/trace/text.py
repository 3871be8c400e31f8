"""An event in words: KVM's tracepoints in the kernel's own formats, the rest in a few words.

Formats by release: arch/x86/kvm/trace.h, and the recorded lines of 6.12.95 and 7.3.4.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kvmmodel import events as ev
from kvmmodel.events import Event
from kvmmodel.facts.inhibits import decode
from kvmmodel.facts.releases import Kernel
from kvmmodel.silicon import apic as hw

SHORTHANDS = ("dst", "self", "all", "all-but-self")
EXCEPTIONS = {13: "#GP", 14: "#PF", 6: "#UD", 8: "#DF"}


def tracepoint(event: Event, kernel: Kernel) -> str | None:
    """What the kernel's TP_printk makes of a tracepoint; None if the event is not one."""
    form = _TRACEPOINTS.get(type(event))
    return None if form is None else form(event, kernel)


def text(event: Event, kernel: Kernel) -> str:
    """Any event in one line, without its name for tracepoints."""
    return tracepoint(event, kernel) or _WORDS[type(event)](event)


def _mode(delivery_mode: int) -> str:
    return hw.DELIVERY_MODE_NAMES[delivery_mode >> 8 & 7]


def _trig(level: object) -> str:
    return "level" if level else "edge"


def _ipi(e: Any, kernel: Kernel) -> str:
    icr = e.icr_low
    parts = (
        _mode(icr),
        "logical" if icr & hw.APIC_DEST_LOGICAL else "physical",
        "assert" if icr & hw.APIC_INT_ASSERT else "de-assert",
        _trig(icr & hw.APIC_INT_LEVELTRIG),
        SHORTHANDS[icr >> 18 & 3],
    )
    return f"dst {e.dest_id:x} vec {icr & 0xFF} ({'|'.join(parts)})"


def _entry(e: Any, kernel: Kernel) -> str:
    tail = " [immediate exit]" if e.immediate_exit and kernel.has("entry_tells_immediate_exit") else ""
    more = f" intr_info 0x{e.intr_info:08x} error_code 0x00000000" if kernel.has("entry_tells_intr_info") else ""
    return f"vcpu {e.vcpu_id}, rip 0x{e.rip:x}{more}{tail}"


def _exit(e: Any, kernel: Kernel) -> str:
    more = f" requests 0x{e.requests:016x}" if kernel.has("exit_tells_requests") else ""
    return (
        f"vcpu {e.vcpu_id} reason {e.reason} rip 0x{e.rip:x} info1 0x{e.info1:016x} info2 0x{e.info2:016x} "
        f"intr_info 0x{e.intr_info:08x} error_code 0x00000000{more}"
    )


def _virq(e: Any, kernel: Kernel) -> str:
    if not kernel.has("virq_in_hex"):
        return f"irq {e.vector}"
    return f"{'Soft/INTn' if e.soft else 'IRQ'} 0x{e.vector:x}{' [reinjected]' if e.reinjected else ''}"


def _exception(e: Any, kernel: Kernel) -> str:
    name = EXCEPTIONS.get(e.exception, f"#{e.exception}")
    code = "" if e.error_code is None else f" (0x{e.error_code:x})"
    if not kernel.has("virq_in_hex"):
        return f"{name} (0x{e.error_code or 0:x})"
    return f"{name}{code}{' [reinjected]' if e.reinjected else ''}"


def _msr(e: Any, kernel: Kernel) -> str:
    return f"msr_{'write' if e.write else 'read'} {e.ecx:x} = 0x{e.data:x}{' (#GP)' if e.exception else ''}"


def _apic(e: Any, kernel: Kernel) -> str:
    value = e.val if kernel.has("icr_one_register") else e.val & 0xFFFFFFFF
    return f"apic_{'write' if e.write else 'read'} {hw.REGISTER_NAMES.get(e.reg, hex(e.reg))} = 0x{value:x}"


def _msi(e: Any, kernel: Kernel) -> str:
    hint = "|rh" if e.address >> 3 & 1 else ""
    dest = e.address >> 12 & 0xFF | e.address >> 32 & 0xFFFFFF00
    mode = "logical" if e.address >> 2 & 1 else "physical"
    return f"dst {dest:x} vec {e.data & 0xFF} ({_mode(e.data)}|{mode}|{_trig(e.data >> 15 & 1)}{hint})"


def _ioapic(e: Any, kernel: Kernel) -> str:
    return f"pin {e.pin} {_entry_of_ioapic(e.e)}{' (coalesced)' if e.coalesced else ''}"


def _entry_of_ioapic(entry: int) -> str:
    mode = "logical" if entry >> 11 & 1 else "physical"
    masked = "|masked" if entry >> 16 & 1 else ""
    dest, vector = entry >> 56 & 0xFF, entry & 0xFF
    return f"dst {dest:x} vec {vector} ({_mode(entry)}|{mode}|{_trig(entry >> 15 & 1)}{masked})"


def _pic(e: Any, kernel: Kernel) -> str:
    masked = "|masked" if e.imr >> e.pin & 1 else ""
    return f"chip {e.chip} pin {e.pin} ({_trig(e.elcr >> e.pin & 1)}{masked}){' (coalesced)' if e.coalesced else ''}"


def _sources(sources: tuple[int, ...]) -> str:
    return f"up, by source {' and '.join(map(str, sources))}" if sources else "down"


def _inhibit(e: Any, kernel: Kernel) -> str:
    names = f" {'|'.join(decode(kernel, e.inhibits))}" if e.inhibits and kernel.has("inhibit_trace_names") else ""
    return f"{'set' if e.set else 'cleared'} reason={e.reason}, inhibits=0x{e.inhibits:x}{names}"


def _pi_irte(e: Any, kernel: Kernel) -> str:
    vcpu = -1 if e.vcpu_id is None else e.vcpu_id
    state = "enabled and being updated" if e.set else "disabled"
    vtd = "" if kernel.has("pi_irte_trace_names_no_vtd") else "VT-d "
    page = "" if kernel.has("pi_irte_unset_traced") else f", pi_desc_addr: {e.pi_desc_addr:#x}"
    return f"{vtd}PI is {state} for irq {e.host_irq}, vcpu {vcpu}, gsi: {e.gsi:#x}, gvec: {e.gvec:#x}{page}"


_TRACEPOINTS: dict[type[Event], Callable[[Any, Kernel], str]] = {
    ev.KvmEntry: _entry,
    ev.KvmExit: _exit,
    ev.KvmHypercall: lambda e, k: f"nr 0x{e.nr:x} a0 0x{e.a0:x} a1 0x{e.a1:x} a2 0x{e.a2:x} a3 0x{e.a3:x}",
    ev.KvmApicIpi: _ipi,
    ev.KvmApicAcceptIrq: lambda e, k: (
        f"apicid {e.apicid:x} vec {e.vector} ({_mode(e.delivery_mode)}|{_trig(e.trig_mode)})"
    ),
    ev.KvmEoi: lambda e, k: f"apicid {e.apicid:x} vector {e.vector}",
    ev.KvmPvEoi: lambda e, k: f"apicid {e.apicid:x} vector {e.vector}",
    ev.KvmInjVirq: _virq,
    ev.KvmInjException: _exception,
    ev.KvmMsr: _msr,
    ev.KvmApic: _apic,
    ev.KvmMsiSetIrq: _msi,
    ev.KvmSetIrq: lambda e, k: f"gsi {e.gsi} level {e.level} source {e.irq_source_id}",
    ev.KvmIoapicSetIrq: _ioapic,
    ev.KvmIoapicDelayedEoiInj: lambda e, k: _entry_of_ioapic(e.e),
    ev.KvmPicSetIrq: _pic,
    ev.KvmAckIrq: lambda e, k: f"irqchip {e.irqchip} pin {e.pin}",
    ev.KvmMmio: lambda e, k: f"mmio {'write' if e.write else 'read'} len 4 gpa 0x{e.gpa:x} val 0x{e.val:x}",
    ev.KvmVcpuWakeup: lambda e, k: (
        f"{'wait' if e.waited else 'poll'} time {e.ns} ns, polling {'valid' if e.valid else 'invalid'}"
    ),
    ev.KvmHaltPollNs: lambda e, k: f"vcpu {e.vcpu_id}: halt_poll_ns {e.new} ({'grow' if e.grow else 'shrink'} {e.old})",
    ev.KvmWaitLapicExpire: lambda e, k: f"vcpu {e.vcpu_id}: delta {e.delta} ({'early' if e.delta < 0 else 'late'})",
    ev.KvmSmmTransition: lambda e, k: (
        f"vcpu {e.vcpu_id}: {'entering' if e.entering else 'leaving'} SMM, smbase 0x{e.smbase:x}"
    ),
    ev.KvmPio: lambda e, k: (
        f"pio_{'write' if e.write else 'read'} at 0x{e.port:x} size {e.size} count 1 val 0x{e.val:x} "
    ),
    ev.KvmUserspaceExit: lambda e, k: f"reason {e.reason} ({e.number})",
    ev.KvmApicvInhibitChanged: _inhibit,
    ev.KvmApicvUpdateRequest: lambda e, k: f"{'activate' if e.activate else 'deactivate'} bit={e.bit}",
    ev.KvmApicvAcceptIrq: lambda e, k: (
        f"apicid {e.apicid:x} vec {e.vector} ({_mode(e.delivery_mode)}|{_trig(e.trig_mode)})"
    ),
    ev.KvmAvicDoorbell: lambda e, k: f"vcpuid={e.vcpuid}, apicid={e.apicid}",
    ev.KvmAvicIncompleteIpi: lambda e, k: (
        f"vcpu={e.vcpu}, icrh:icrl={e.icrh:#010x}:{e.icrl:08x}, id={e.id}, index={e.index}"
    ),
    ev.KvmAvicKickVcpuSlowpath: lambda e, k: f"icrh:icrl={e.icrh:#08x}:{e.icrl:08x}, index={e.index}",
    ev.KvmAvicUnacceleratedAccess: lambda e, k: (
        f"vcpu={e.vcpu}, offset={e.offset:#x}({hw.REGISTER_NAMES.get(e.offset, hex(e.offset))}), "
        f"{'trap' if e.trap else 'fault'}, {'write' if e.write else 'read'}, vec={e.vec:#x}"
    ),
    ev.KvmAvicGaLog: lambda e, k: f"vmid={e.vmid}, vcpuid={e.vcpuid}",
    ev.KvmPiIrteUpdate: _pi_irte,
    ev.KvmHvSynicSetIrq: lambda e, k: f"vcpu_id {e.vcpu_id} sint {e.sint} vector {e.vector} ret {e.ret}",
    ev.KvmHvSynicSendEoi: lambda e, k: f"vcpu_id {e.vcpu_id} vector {e.vector}",
    ev.KvmHvNotifyAckedSint: lambda e, k: f"vcpu_id {e.vcpu_id} sint {e.sint}",
    ev.KvmHvStimerCallback: lambda e, k: f"vcpu_id {e.vcpu_id} timer {e.timer_index}",
    ev.KvmHvStimerExpiration: lambda e, k: (
        f"vcpu_id {e.vcpu_id} timer {e.timer_index} direct {int(e.direct)} send result {e.msg_send_result}"
    ),
}

_WORDS: dict[type[Event], Callable[[Any], str]] = {
    ev.AvicSetIrr: lambda e: f"AVIC sets IRR 0x{e.vector:x} of APIC {e.apic_id}",
    ev.AvicLookup: lambda e: f"AVIC reads IsRunning of APIC {e.apic_id}: {int(e.running)}",
    ev.AvicRing: lambda e: f"AVIC rings CPU {e.host_apic_id} for APIC {e.apic_id}",
    ev.AvicDoorbell: lambda e: f"doorbell at CPU {e.cpu}{'' if e.heard else ', not heard'}",
    ev.AvicTake: lambda e: f"AVIC takes 0x{e.vector:x} into service on APIC {e.apic_id}",
    ev.AvicClearIsr: lambda e: f"AVIC ends 0x{e.vector:x} on APIC {e.apic_id}, no exit",
    ev.AvicTpr: lambda e: f"AVIC keeps TPR 0x{e.tpr:x} and PPR 0x{e.ppr:x} of APIC {e.apic_id}",
    ev.HostApicAccess: lambda e: f"MSR {e.msr:#x} of the core's own APIC {'written' if e.write else 'read'}",
    ev.AvicIsRunning: lambda e: f"IsRunning of vCPU {e.vcpu_id} := {int(e.running)}, in the table {int(e.table)}",
    ev.AvicMode: lambda e: f"AVIC of vCPU {e.vcpu_id}: {e.mode}",
    ev.RingDoorbell: lambda e: f"KVM rings CPU {e.host_apic_id} for vCPU {e.vcpu_id}",
    ev.DeviceMsi: lambda e: f"the device of GSI {e.gsi}, irq {e.irq}, sends its MSI",
    ev.IommuPost: lambda e: f"IOMMU posts 0x{e.vector:x}, {'with a doorbell' if e.running else 'not running'}",
    ev.IommuGaLog: lambda e: f"IOMMU logs tag 0x{e.ga_tag:x}",
    ev.IommuMode: lambda e: f"IRTE of irq {e.irq}: {e.mode}, is_run {int(e.is_run)}, ga_log_intr {int(e.ga_log_intr)}",
    ev.SetIrr: lambda e: f"set IRR 0x{e.vector:x} of vCPU {e.vcpu_id}",
    ev.IoapicLine: lambda e: f"IOAPIC pin {e.pin}: {_sources(e.sources)}",
    ev.IoapicEntry: lambda e: f"IOAPIC entry {e.pin}: 0x{e.old:x} to 0x{e.e:x}",
    ev.ResampleSignal: lambda e: f"resample eventfd of GSI {e.gsi} is signalled",
    ev.IoapicMessage: lambda e: f"IOAPIC pin {e.pin} sends 0x{e.e:x}",
    ev.PicLine: lambda e: f"line {e.line} of the 8259s: {'up' if e.sources else 'down'}",
    ev.PicOutput: lambda e: f"output of the 8259s {'rises' if e.level else 'falls'}",
    ev.PitTick: lambda e: f"tick of the PIT, {e.pending} owed",
    ev.PitWaits: lambda e: f"the PIT's last tick is not acknowledged, {e.pending} owed",
    ev.PicAck: lambda e: f"8259s acknowledged: 0x{e.vector:x}{', spurious' if e.spurious else ''}",
    ev.Ack: lambda e: f"IRR 0x{e.vector:x} to ISR on vCPU {e.vcpu_id}",
    ev.ClearIsr: lambda e: f"clear ISR 0x{e.vector:x} of vCPU {e.vcpu_id}",
    ev.UpdatePpr: lambda e: f"PPR of vCPU {e.vcpu_id}: 0x{e.old:x} to 0x{e.new:x}",
    ev.ApicUpdatePpr: lambda e: f"PPR of vCPU {e.vcpu_id} computed: 0x{e.new:x}",
    ev.Barrier: lambda e: e.name,
    ev.ReadMode: lambda e: f"vCPU {e.vcpu_id}: mode {e.mode}, apicv_active {int(e.apicv_active)}",
    ev.SetMode: lambda e: f"vCPU {e.vcpu_id}: mode {e.old} to {e.mode}",
    ev.MakeRequest: lambda e: f"request KVM_REQ_{e.request} of vCPU {e.vcpu_id}",
    ev.CheckRequest: lambda e: f"vCPU {e.vcpu_id} takes KVM_REQ_{e.request}",
    ev.Kick: lambda e: f"kick of vCPU {e.vcpu_id}: {e.outcome}",
    ev.CheckBlock: lambda e: f"vCPU {e.vcpu_id} {'has a reason to run' if e.wakes else 'may sleep'}",
    ev.TimerArmed: lambda e: f"timer of vCPU {e.vcpu_id} armed",
    ev.TimerPending: lambda e: f"timer of vCPU {e.vcpu_id} is pending",
    ev.Cr8Intercept: lambda e: f"CR8 intercept of vCPU {e.vcpu_id} {'on' if e.on else 'off'}",
    ev.TprSync: lambda e: f"{'V_TPR' if e.to == 'V_TPR' else 'APIC TPR'} of vCPU {e.vcpu_id} := {e.tpr:#x}",
    ev.PvEoiArm: lambda e: f"PV EOI armed for 0x{e.vector:x} on vCPU {e.vcpu_id}",
    ev.PvEoiDisarm: lambda e: f"PV EOI of vCPU {e.vcpu_id} taken back",
    ev.PvUnhalted: lambda e: f"pv_unhalted of vCPU {e.vcpu_id} := {int(e.on)}",
    ev.IrqWindow: lambda e: f"IRQ window of vCPU {e.vcpu_id} {'requested' if e.open else 'closed'}",
    ev.SetGif: lambda e: f"GIF of vCPU {e.vcpu_id} := {int(e.value)}",
    ev.InjectNmi: lambda e: f"NMI to EVENTINJ of vCPU {e.vcpu_id}",
    ev.VnmiPending: lambda e: f"V_NMI_PENDING of vCPU {e.vcpu_id} set",
    ev.NmiWindow: lambda e: f"NMI window of vCPU {e.vcpu_id} by {e.by} {'requested' if e.open else 'closed'}",
    ev.NestedVmEnter: lambda e: f"vCPU {e.vcpu_id} goes on with its guest's guest",
    ev.NestedVmExit: lambda e: f"the guest's guest of vCPU {e.vcpu_id} ends: {e.reason}",
    ev.VcpuReset: lambda e: f"vCPU {e.vcpu_id} reset{' by INIT' if e.init else ''}",
    ev.Block: lambda e: f"vCPU {e.vcpu_id} sleeps",
    ev.WakeUp: lambda e: f"wake {e.task} on CPU {e.cpu}",
    ev.HostIpi: lambda e: f"host IPI {e.name} to CPU {e.target_cpu}",
    ev.HostIrq: lambda e: f"host interrupt: {e.name}",
    ev.SchedOut: lambda e: f"{e.task} leaves the CPU{', preempted' if e.preempted else ''}",
    ev.SchedIn: lambda e: f"{e.task} gets the CPU",
    ev.VmExit: lambda e: f"#VMEXIT {e.reason} of vCPU {e.vcpu_id}",
    ev.VmRun: lambda e: f"VMRUN vCPU {e.vcpu_id}" + (f", EVENTINJ 0x{e.event_inj:x}" if e.event_inj else ""),
    ev.Instruction: lambda e: e.text,
    ev.HandlerEnter: lambda e: f"handler of 0x{e.vector:x} runs",
    ev.HandlerLeave: lambda e: f"handler of 0x{e.vector:x} returns",
    ev.PvEoiByGuest: lambda e: "PV EOI: bit was set, cleared it",
    ev.VirtualGif: lambda e: f"V_GIF of vCPU {e.vcpu_id} := {int(e.value)}",
    ev.TakeVnmi: lambda e: f"virtual NMI of vCPU {e.vcpu_id} delivered",
    ev.Fault: lambda e: f"exception {e.vector}",
}
