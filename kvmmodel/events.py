"""What can happen: the types of events, and nothing else.

Two kinds. *Tracepoints* are KVM's own, with the kernel's field names. *Accesses* are the reads, writes and signals that
another CPU can see, and what the guest and the processor do. ``lane`` says who does it: guest, hw, kvm or sched.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True, slots=True)
class Event:
    """Any event. ``kind`` is its name in JSON and the diagrams' glyph."""

    kind: ClassVar[str] = "event"
    lane: ClassVar[str] = "kvm"
    tracepoint: ClassVar[str | None] = None


# ---- KVM's tracepoints -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class KvmEntry(Event):
    kind: ClassVar[str] = "kvm_entry"
    tracepoint: ClassVar[str | None] = "kvm_entry"
    vcpu_id: int
    rip: int
    intr_info: int
    immediate_exit: bool = False


@dataclass(frozen=True, slots=True)
class KvmExit(Event):
    kind: ClassVar[str] = "kvm_exit"
    tracepoint: ClassVar[str | None] = "kvm_exit"
    vcpu_id: int
    reason: str
    rip: int
    info1: int
    info2: int
    intr_info: int
    requests: int


@dataclass(frozen=True, slots=True)
class KvmApicIpi(Event):
    kind: ClassVar[str] = "kvm_apic_ipi"
    tracepoint: ClassVar[str | None] = "kvm_apic_ipi"
    icr_low: int
    dest_id: int


@dataclass(frozen=True, slots=True)
class KvmApicAcceptIrq(Event):
    kind: ClassVar[str] = "kvm_apic_accept_irq"
    tracepoint: ClassVar[str | None] = "kvm_apic_accept_irq"
    apicid: int  # the kernel's name; it holds the vcpu_id
    delivery_mode: int
    trig_mode: int
    vector: int


@dataclass(frozen=True, slots=True)
class KvmEoi(Event):
    kind: ClassVar[str] = "kvm_eoi"
    tracepoint: ClassVar[str | None] = "kvm_eoi"
    apicid: int
    vector: int  # -1: nothing was in service


@dataclass(frozen=True, slots=True)
class KvmPvEoi(Event):
    kind: ClassVar[str] = "kvm_pv_eoi"
    tracepoint: ClassVar[str | None] = "kvm_pv_eoi"
    apicid: int
    vector: int


@dataclass(frozen=True, slots=True)
class KvmInjVirq(Event):
    kind: ClassVar[str] = "kvm_inj_virq"
    tracepoint: ClassVar[str | None] = "kvm_inj_virq"
    vector: int
    soft: bool = False
    reinjected: bool = False


@dataclass(frozen=True, slots=True)
class KvmInjException(Event):
    kind: ClassVar[str] = "kvm_inj_exception"
    tracepoint: ClassVar[str | None] = "kvm_inj_exception"
    exception: int
    error_code: int | None
    reinjected: bool = False


@dataclass(frozen=True, slots=True)
class KvmMsr(Event):
    kind: ClassVar[str] = "kvm_msr"
    tracepoint: ClassVar[str | None] = "kvm_msr"
    write: bool
    ecx: int
    data: int
    exception: bool = False


@dataclass(frozen=True, slots=True)
class KvmApic(Event):
    kind: ClassVar[str] = "kvm_apic"
    tracepoint: ClassVar[str | None] = "kvm_apic"
    write: bool
    reg: int
    val: int


@dataclass(frozen=True, slots=True)
class KvmMsiSetIrq(Event):
    kind: ClassVar[str] = "kvm_msi_set_irq"
    tracepoint: ClassVar[str | None] = "kvm_msi_set_irq"
    address: int
    data: int


@dataclass(frozen=True, slots=True)
class KvmSetIrq(Event):
    kind: ClassVar[str] = "kvm_set_irq"
    tracepoint: ClassVar[str | None] = "kvm_set_irq"
    gsi: int
    level: int
    irq_source_id: int


@dataclass(frozen=True, slots=True)
class KvmIoapicSetIrq(Event):
    kind: ClassVar[str] = "kvm_ioapic_set_irq"
    tracepoint: ClassVar[str | None] = "kvm_ioapic_set_irq"
    e: int  # the redirection entry
    pin: int
    coalesced: bool


@dataclass(frozen=True, slots=True)
class KvmPicSetIrq(Event):
    kind: ClassVar[str] = "kvm_pic_set_irq"
    tracepoint: ClassVar[str | None] = "kvm_pic_set_irq"
    chip: int
    pin: int
    elcr: int
    imr: int
    coalesced: bool


@dataclass(frozen=True, slots=True)
class KvmAckIrq(Event):
    kind: ClassVar[str] = "kvm_ack_irq"
    tracepoint: ClassVar[str | None] = "kvm_ack_irq"
    irqchip: str
    pin: int


@dataclass(frozen=True, slots=True)
class KvmMmio(Event):
    kind: ClassVar[str] = "kvm_mmio"
    tracepoint: ClassVar[str | None] = "kvm_mmio"
    write: bool
    gpa: int
    val: int


@dataclass(frozen=True, slots=True)
class KvmVcpuWakeup(Event):
    kind: ClassVar[str] = "kvm_vcpu_wakeup"
    tracepoint: ClassVar[str | None] = "kvm_vcpu_wakeup"
    ns: int
    waited: bool
    valid: bool


@dataclass(frozen=True, slots=True)
class KvmHaltPollNs(Event):
    kind: ClassVar[str] = "kvm_halt_poll_ns"
    tracepoint: ClassVar[str | None] = "kvm_halt_poll_ns"
    grow: bool
    vcpu_id: int
    new: int
    old: int


@dataclass(frozen=True, slots=True)
class KvmPio(Event):
    kind: ClassVar[str] = "kvm_pio"
    tracepoint: ClassVar[str | None] = "kvm_pio"
    port: int
    val: int
    size: int
    write: bool


@dataclass(frozen=True, slots=True)
class KvmUserspaceExit(Event):
    kind: ClassVar[str] = "kvm_userspace_exit"
    tracepoint: ClassVar[str | None] = "kvm_userspace_exit"
    reason: str
    number: int


@dataclass(frozen=True, slots=True)
class KvmApicvInhibitChanged(Event):
    kind: ClassVar[str] = "kvm_apicv_inhibit_changed"
    tracepoint: ClassVar[str | None] = "kvm_apicv_inhibit_changed"
    reason: int
    name: str
    set: bool
    inhibits: int


# ---- what another CPU can see --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SetIrr(Event):
    kind: ClassVar[str] = "set_irr"
    vcpu_id: int
    vector: int


@dataclass(frozen=True, slots=True)
class IoapicMessage(Event):
    """The IOAPIC sends a pin's message."""

    kind: ClassVar[str] = "ioapic_message"
    pin: int
    e: int  # the redirection entry


@dataclass(frozen=True, slots=True)
class PicOutput(Event):
    """The 8259s' output rises or falls; a vCPU's event pass looks at it."""

    kind: ClassVar[str] = "pic_output"
    level: bool


@dataclass(frozen=True, slots=True)
class PicAck(Event):
    """The 8259s are acknowledged and give a vector."""

    kind: ClassVar[str] = "pic_ack"
    vector: int


@dataclass(frozen=True, slots=True)
class Ack(Event):
    """The vector moves from IRR to ISR."""

    kind: ClassVar[str] = "ack"
    vcpu_id: int
    vector: int


@dataclass(frozen=True, slots=True)
class ClearIsr(Event):
    kind: ClassVar[str] = "clear_isr"
    vcpu_id: int
    vector: int


@dataclass(frozen=True, slots=True)
class UpdatePpr(Event):
    kind: ClassVar[str] = "update_ppr"
    vcpu_id: int
    old: int
    new: int


@dataclass(frozen=True, slots=True)
class Barrier(Event):
    kind: ClassVar[str] = "barrier"
    name: str


@dataclass(frozen=True, slots=True)
class ReadMode(Event):
    kind: ClassVar[str] = "read_mode"
    vcpu_id: int
    mode: str
    apicv_active: bool


@dataclass(frozen=True, slots=True)
class SetMode(Event):
    kind: ClassVar[str] = "set_mode"
    vcpu_id: int
    old: str
    mode: str


@dataclass(frozen=True, slots=True)
class MakeRequest(Event):
    kind: ClassVar[str] = "request"
    vcpu_id: int
    request: str


@dataclass(frozen=True, slots=True)
class CheckRequest(Event):
    """The vCPU found the request and cleared it."""

    kind: ClassVar[str] = "check_request"
    vcpu_id: int
    request: str


@dataclass(frozen=True, slots=True)
class Kick(Event):
    """What kvm_vcpu_kick found: woken, itself, ipi or nothing."""

    kind: ClassVar[str] = "kick"
    vcpu_id: int
    outcome: str


@dataclass(frozen=True, slots=True)
class CheckBlock(Event):
    kind: ClassVar[str] = "check_block"
    vcpu_id: int
    wakes: bool


@dataclass(frozen=True, slots=True)
class KvmWaitLapicExpire(Event):
    kind: ClassVar[str] = "kvm_wait_lapic_expire"
    tracepoint: ClassVar[str | None] = "kvm_wait_lapic_expire"
    vcpu_id: int
    delta: int  # guest TSC ticks after the deadline; negative: before it


@dataclass(frozen=True, slots=True)
class KvmSmmTransition(Event):
    kind: ClassVar[str] = "kvm_smm_transition"
    tracepoint: ClassVar[str | None] = "kvm_smm_transition"
    vcpu_id: int
    smbase: int
    entering: bool


@dataclass(frozen=True, slots=True)
class SetGif(Event):
    """KVM changes the guest's GIF; what the processor does with vGIF on its own, it does not tell."""

    kind: ClassVar[str] = "set_gif"
    vcpu_id: int
    value: bool


@dataclass(frozen=True, slots=True)
class NestedVmEnter(Event):
    kind: ClassVar[str] = "nested_vmenter"
    vcpu_id: int


@dataclass(frozen=True, slots=True)
class NestedVmExit(Event):
    """L2 ends, and L1 goes on behind its VMRUN."""

    kind: ClassVar[str] = "nested_vmexit"
    vcpu_id: int
    reason: str


@dataclass(frozen=True, slots=True)
class TimerArmed(Event):
    kind: ClassVar[str] = "timer_armed"
    vcpu_id: int
    expires: int  # virtual ns


@dataclass(frozen=True, slots=True)
class TimerPending(Event):
    kind: ClassVar[str] = "timer_pending"
    vcpu_id: int


@dataclass(frozen=True, slots=True)
class Cr8Intercept(Event):
    kind: ClassVar[str] = "cr8_intercept"
    vcpu_id: int
    on: bool


@dataclass(frozen=True, slots=True)
class TprSync(Event):
    """V_TPR and the APIC page's TPR brought in step; ``to`` is "V_TPR" or "APIC"."""

    kind: ClassVar[str] = "tpr_sync"
    vcpu_id: int
    to: str
    tpr: int


@dataclass(frozen=True, slots=True)
class PvEoiArm(Event):
    kind: ClassVar[str] = "pv_eoi_arm"
    vcpu_id: int
    vector: int


@dataclass(frozen=True, slots=True)
class PvEoiDisarm(Event):
    """KVM found the bit still set: the guest has not signalled its EOI, it will exit for it."""

    kind: ClassVar[str] = "pv_eoi_disarm"
    vcpu_id: int


@dataclass(frozen=True, slots=True)
class IrqWindow(Event):
    kind: ClassVar[str] = "irq_window"
    vcpu_id: int
    open: bool


@dataclass(frozen=True, slots=True)
class VcpuReset(Event):
    kind: ClassVar[str] = "reset"
    vcpu_id: int
    init: bool


# ---- the host kernel around KVM ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Block(Event):
    kind: ClassVar[str] = "block"
    lane: ClassVar[str] = "sched"
    vcpu_id: int


@dataclass(frozen=True, slots=True)
class WakeUp(Event):
    kind: ClassVar[str] = "wake"
    lane: ClassVar[str] = "sched"
    task: str
    vcpu_id: int | None
    cpu: int


@dataclass(frozen=True, slots=True)
class HostIpi(Event):
    """A host IPI leaves for another CPU; ``name`` is reschedule or call_function_single."""

    kind: ClassVar[str] = "host_ipi"
    lane: ClassVar[str] = "sched"
    name: str
    target_cpu: int


@dataclass(frozen=True, slots=True)
class HostIrq(Event):
    """A host interrupt is taken on this CPU; ``name`` is reschedule, call_function_single, timer or tick."""

    kind: ClassVar[str] = "host_irq"
    lane: ClassVar[str] = "sched"
    name: str


@dataclass(frozen=True, slots=True)
class SchedOut(Event):
    kind: ClassVar[str] = "sched_out"
    lane: ClassVar[str] = "sched"
    task: str
    preempted: bool


@dataclass(frozen=True, slots=True)
class SchedIn(Event):
    kind: ClassVar[str] = "sched_in"
    lane: ClassVar[str] = "sched"
    task: str


# ---- processor and guest -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class VmExit(Event):
    kind: ClassVar[str] = "exit"
    lane: ClassVar[str] = "hw"
    vcpu_id: int
    reason: str
    code: int


@dataclass(frozen=True, slots=True)
class VmRun(Event):
    kind: ClassVar[str] = "vmrun"
    lane: ClassVar[str] = "hw"
    vcpu_id: int
    event_inj: int


@dataclass(frozen=True, slots=True)
class Instruction(Event):
    kind: ClassVar[str] = "instruction"
    lane: ClassVar[str] = "guest"
    vcpu_id: int
    text: str


@dataclass(frozen=True, slots=True)
class HandlerEnter(Event):
    kind: ClassVar[str] = "handler"
    lane: ClassVar[str] = "guest"
    vcpu_id: int
    vector: int


@dataclass(frozen=True, slots=True)
class HandlerLeave(Event):
    kind: ClassVar[str] = "iret"
    lane: ClassVar[str] = "guest"
    vcpu_id: int
    vector: int


@dataclass(frozen=True, slots=True)
class PvEoiByGuest(Event):
    """The guest found its PV EOI bit set, cleared it, and is done: no exit."""

    kind: ClassVar[str] = "guest_pv_eoi"
    lane: ClassVar[str] = "guest"
    vcpu_id: int


@dataclass(frozen=True, slots=True)
class Fault(Event):
    kind: ClassVar[str] = "fault"
    lane: ClassVar[str] = "guest"
    vcpu_id: int
    vector: int
    error_code: int | None
