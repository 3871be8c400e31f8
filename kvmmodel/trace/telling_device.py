"""What each event becomes in the story of a device's interrupt: the IOMMU, the host that takes it or not, AVIC."""

from __future__ import annotations

from typing import Any

from kvmmodel import events as ev
from kvmmodel.machine.record import Record
from kvmmodel.trace.cast import Cast
from kvmmodel.trace.telling import TELLERS, Teller, Told, in_kvm, vmrun, who_on

LOG_THREAD = "irq/"
# Why is_run is cleared: by whether the thread is about to sleep, and GALogIntr
ENDS = {
    (True, True): "The thread is about to sleep: no core to ring, and a message shall be logged.",
    (True, False): "The thread is about to sleep: no core to ring. GALogIntr should be set now, and is not.",
    (False, False): "The thread loses its core, but is not asleep: it looks into the IRR once it is back.",
    (False, True): "The thread loses its core. This kernel has messages logged, though nobody will have to be woken.",
}


def _entry(cast: Cast, record: Record, e: Any) -> Told:
    """KVM tells the IOMMU where the vCPU runs. Up to 6.12 GALogIntr stays as it is."""
    who, to = who_on("KVM", record), "iommu"
    log = f"GALogIntr {int(e.ga_log_intr)}"
    if e.mode == "remapped":
        why = "AVIC is inhibited now, so the entry interrupts the host again."
        return Told("table", "t.kvm", to, "entry: remapped", "to the host", who, why)
    if e.is_run:
        cpu = e.lo >> 8 & 0xFFFFFF
        why = f"The thread runs again, so KVM writes its core into the entry: ring CPU {cpu} from now on."
        return Told("table", "t.kvm", to, f"`is_run` := 1, CPU {cpu}", log, who, why)
    why = ENDS[any(f.name == "avic_vcpu_blocking" for f in record.stack), e.ga_log_intr]
    return Told("table", "t.kvm", to, f"`is_run` := 0, {log}", "in the entry", who, why)


def _device(cast: Cast, record: Record, e: Any) -> Told:
    why = "The device writes its message. The IOMMU looks up the remapping entry for it."
    return Told("msi", "dev", "iommu", "device sends its MSI", f"host irq {e.irq}", "Device", why)


def _post(cast: Cast, record: Record, e: Any) -> Told:
    bit = f"IRR `{e.vector:#x}`"
    if e.running:
        why = f"The IOMMU sets bit `{e.vector:#x}` in the vCPU's page, and `is_run` says where to ring."
        return Told("post", "iommu", "t.hw", f"posts {bit}, rings CPU {cast.target_cpu}", "a doorbell", "IOMMU", why)
    why = f"The IOMMU sets bit `{e.vector:#x}` in the vCPU's page. `is_run` is 0: nobody is rung."
    return Told("post", "iommu", None, f"posts {bit}, no doorbell", "`is_run` is 0", "IOMMU", why)


def _ga_log(cast: Cast, record: Record, e: Any) -> Told:
    why = f"GALogIntr is 1: the IOMMU writes tag `{e.ga_tag:#x}` into its log, and interrupts the host."
    return Told("table", "iommu", "sched", f"GA log: tag `{e.ga_tag:#x}`", "and an interrupt", "IOMMU", why)


def _host_irq(cast: Cast, record: Record, e: Any) -> Told | None:
    if record.cpu != cast.sender_cpu:
        return None
    if e.name.startswith("vfio"):
        why = f"The entry is remapped: CPU {record.cpu} takes an interrupt of the host, whose handler is VFIO's."
        return Told("kick", "iommu", "sched", "host interrupt: VFIO", f"on CPU {record.cpu}", "IOMMU", why)
    why = f"CPU {record.cpu} takes the log's interrupt. Its handler does no more than wake a thread."
    return Told("kick", "sched", None, "the log's interrupt", f"on CPU {record.cpu}", who_on("Host", record), why)


def _sched_in(cast: Cast, record: Record, e: Any) -> Told | None:
    if e.task.startswith(LOG_THREAD):
        why = "The interrupt's thread reads the log, and calls KVM for each entry."
        label = "thread reads the log"
        return Told("resume", "sched", "h.kvm", label, "`iommu_poll_ga_log`", who_on("Host", record), why)
    return TELLERS[ev.SchedIn](cast, record, e)


def _notifier(cast: Cast, record: Record, e: Any) -> Told | None:
    if next(s.thread for s in record.states if s.vcpu == cast.target) != "blocked":
        why = f"The tag names vCPU {e.vcpuid}, which is not asleep: the interrupt was for nothing."
        return in_kvm(cast, record, "no", "`avic_ga_log_notifier`: nothing", "not asleep", why)
    why = f"The tag names the VM and vCPU {e.vcpuid}. Its IRR is set already; KVM has to wake it, at most."
    return in_kvm(cast, record, "read", "`avic_ga_log_notifier`", f"vCPU {e.vcpuid}", why)


def _wake(cast: Cast, record: Record, e: Any) -> Told | None:
    if e.vcpu_id != cast.target or any(f.name == "kvm_vcpu_kick" for f in record.stack):
        return TELLERS[ev.WakeUp](cast, record, e)
    why = f"vCPU {e.vcpu_id}'s thread is asleep, and `kvm_vcpu_wake_up` wakes it."
    return Told("wake", "h.kvm", "sched", "KVM wakes the thread", "`kvm_vcpu_wake_up`", who_on("KVM", record), why)


def _irqfd(cast: Cast, record: Record, e: Any) -> Told | None:
    why = "VFIO's handler signals the eventfd, and KVM's irqfd has the message at once, still in the interrupt."
    return in_kvm(cast, record, "msi", "`irqfd_wakeup`: the message", f"vec `{e.data & 255:#x}`", why)


def _read_mode(cast: Cast, record: Record, e: Any) -> Told | None:
    if not e.apicv_active:
        return TELLERS[ev.ReadMode](cast, record, e)
    inside = e.mode == "IN_GUEST_MODE"
    what = "in guest: a doorbell is enough" if inside else "not in guest: wake it, if it sleeps"
    label = f"mode {'in guest' if inside else 'outside'}, AVIC 1"
    return in_kvm(
        cast, record, "read", label, f"of vCPU {e.vcpu_id}", f"AVIC is on there, and vCPU {e.vcpu_id} is {what}."
    )


def _ring(cast: Cast, record: Record, e: Any) -> Told | None:
    why = f"KVM writes the doorbell MSR: CPU {cast.target_cpu} shall look into the IRR. No host IPI."
    return Told("doorbell", "h.kvm", "t.hw", f"doorbell to CPU {cast.target_cpu}", "by KVM", who_on("KVM", record), why)


def _doorbell(cast: Cast, record: Record, e: Any) -> Told | None:
    if not e.heard:
        return None
    why = f"The doorbell reaches CPU {e.cpu}, which is in the guest: it looks into the IRR. No exit."
    return Told("doorbell", "t.hw", None, "doorbell heard, no exit", f"CPU {e.cpu}", _processor(record), why)


def _take(cast: Cast, record: Record, e: Any) -> Told:
    why = f"Vector `{e.vector:#x}` moves from IRR to ISR, by the processor alone. `EVENTINJ` is not used."
    return Told("inject", "t.hw", "t.guest", "IRR to ISR, no `EVENTINJ`", "by AVIC", _processor(record), why)


def _avic_eoi(cast: Cast, record: Record, e: Any) -> Told:
    why = f"TMR bit `{e.vector:#x}` is 0, so the processor clears the ISR bit itself: no exit."
    return Told("eoi", "t.hw", None, "ISR cleared, no exit", "by AVIC", _processor(record), why)


def _processor(record: Record) -> str:
    return f"Processor, CPU {record.cpu}"


def _vmrun(cast: Cast, record: Record, e: Any) -> Told | None:
    state = next(s for s in record.states if s.vcpu == cast.target)
    told = vmrun(cast, record, e)
    if e.event_inj or not state.irr >> cast.vector & 1:
        return told
    why = "`VMRUN` has the processor look into the IRR, as it does at each entry with AVIC."
    return Told(told.kind, told.at, told.to, told.label, told.detail, told.who, why)


DEVICE_TELLERS: dict[type[ev.Event], Teller] = {
    ev.IommuMode: _entry,
    ev.DeviceMsi: _device,
    ev.IommuPost: _post,
    ev.IommuGaLog: _ga_log,
    ev.HostIrq: _host_irq,
    ev.SchedIn: _sched_in,
    ev.KvmAvicGaLog: _notifier,
    ev.WakeUp: _wake,
    ev.KvmMsiSetIrq: _irqfd,
    ev.ReadMode: _read_mode,
    ev.KvmAvicDoorbell: _ring,
    ev.AvicDoorbell: _doorbell,
    ev.AvicTake: _take,
    ev.AvicClearIsr: _avic_eoi,
    ev.VmRun: _vmrun,
} | {
    kind: TELLERS[kind]
    for kind in (
        ev.Instruction,
        ev.VmExit,
        ev.SetIrr,
        ev.MakeRequest,
        ev.Kick,
        ev.HostIpi,
        ev.SchedOut,
        ev.Block,
        ev.CheckRequest,
        ev.KvmInjVirq,
        ev.HandlerEnter,
        ev.ClearIsr,
    )
}
