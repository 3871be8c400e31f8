"""KVM's own tracepoints, with the kernel's field names."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from kvmmodel.events.base import Event


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
class KvmHypercall(Event):
    kind: ClassVar[str] = "kvm_hypercall"
    tracepoint: ClassVar[str | None] = "kvm_hypercall"
    nr: int
    a0: int
    a1: int
    a2: int
    a3: int


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
class KvmIoapicDelayedEoiInj(Event):
    kind: ClassVar[str] = "kvm_ioapic_delayed_eoi_inj"
    tracepoint: ClassVar[str | None] = "kvm_ioapic_delayed_eoi_inj"
    e: int


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


@dataclass(frozen=True, slots=True)
class KvmWaitLapicExpire(Event):
    kind: ClassVar[str] = "kvm_wait_lapic_expire"
    tracepoint: ClassVar[str | None] = "kvm_wait_lapic_expire"
    vcpu_id: int
    delta: int  # guest TSC ticks after the deadline; negative: before it


@dataclass(frozen=True, slots=True)
class KvmSmmTransition(Event):
    """Older releases call it kvm_enter_smm (recalled)."""

    kind: ClassVar[str] = "kvm_smm_transition"
    tracepoint: ClassVar[str | None] = "kvm_smm_transition"
    vcpu_id: int
    smbase: int
    entering: bool


@dataclass(frozen=True, slots=True)
class KvmHvSynicSetIrq(Event):
    kind: ClassVar[str] = "kvm_hv_synic_set_irq"
    tracepoint: ClassVar[str | None] = "kvm_hv_synic_set_irq"
    vcpu_id: int
    sint: int
    vector: int
    ret: int


@dataclass(frozen=True, slots=True)
class KvmHvSynicSendEoi(Event):
    kind: ClassVar[str] = "kvm_hv_synic_send_eoi"
    tracepoint: ClassVar[str | None] = "kvm_hv_synic_send_eoi"
    vcpu_id: int
    vector: int


@dataclass(frozen=True, slots=True)
class KvmHvNotifyAckedSint(Event):
    kind: ClassVar[str] = "kvm_hv_notify_acked_sint"
    tracepoint: ClassVar[str | None] = "kvm_hv_notify_acked_sint"
    vcpu_id: int
    sint: int


@dataclass(frozen=True, slots=True)
class KvmHvStimerCallback(Event):
    kind: ClassVar[str] = "kvm_hv_stimer_callback"
    tracepoint: ClassVar[str | None] = "kvm_hv_stimer_callback"
    vcpu_id: int
    timer_index: int


@dataclass(frozen=True, slots=True)
class KvmHvStimerExpiration(Event):
    kind: ClassVar[str] = "kvm_hv_stimer_expiration"
    tracepoint: ClassVar[str | None] = "kvm_hv_stimer_expiration"
    vcpu_id: int
    timer_index: int
    direct: bool
    msg_send_result: int
