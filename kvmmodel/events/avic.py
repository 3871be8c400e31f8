"""What the AVIC unit does by itself, which no trace of a host shows; and KVM's tracepoints about AVIC."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from kvmmodel.events.base import Event


@dataclass(frozen=True, slots=True)
class AvicSetIrr(Event):
    """An IPI sets an IRR bit in a backing page; ``apic_id`` is the target's."""

    kind: ClassVar[str] = "avic_set_irr"
    lane: ClassVar[str] = "hw"
    apic_id: int
    vector: int


@dataclass(frozen=True, slots=True)
class AvicLookup(Event):
    """The sender's processor reads IsRunning of a target in the physical table."""

    kind: ClassVar[str] = "avic_lookup"
    lane: ClassVar[str] = "hw"
    apic_id: int
    running: bool


@dataclass(frozen=True, slots=True)
class AvicRing(Event):
    """The sender's processor rings the core that the table names."""

    kind: ClassVar[str] = "avic_ring"
    lane: ClassVar[str] = "hw"
    apic_id: int
    host_apic_id: int


@dataclass(frozen=True, slots=True)
class AvicDoorbell(Event):
    """A doorbell arrives at a core; ``heard``: it runs a guest with AVIC, which looks into its IRR now."""

    kind: ClassVar[str] = "avic_doorbell"
    lane: ClassVar[str] = "hw"
    cpu: int
    heard: bool


@dataclass(frozen=True, slots=True)
class AvicTake(Event):
    """The processor takes a vector from the IRR into service."""

    kind: ClassVar[str] = "avic_take"
    lane: ClassVar[str] = "hw"
    apic_id: int
    vector: int


@dataclass(frozen=True, slots=True)
class AvicClearIsr(Event):
    """An EOI that needs no exit."""

    kind: ClassVar[str] = "avic_clear_isr"
    lane: ClassVar[str] = "hw"
    apic_id: int
    vector: int


@dataclass(frozen=True, slots=True)
class AvicTpr(Event):
    """A TPR or CR8 that needs no exit; the processor keeps the page's PPR as well."""

    kind: ClassVar[str] = "avic_tpr"
    lane: ClassVar[str] = "hw"
    apic_id: int
    tpr: int
    ppr: int


@dataclass(frozen=True, slots=True)
class HostApicAccess(Event):
    """An x2APIC MSR that nobody intercepts, while x2AVIC is off: the access reaches the core's own local APIC."""

    kind: ClassVar[str] = "host_apic"
    lane: ClassVar[str] = "hw"
    vcpu_id: int
    msr: int
    write: bool


@dataclass(frozen=True, slots=True)
class AvicIsRunning(Event):
    """KVM writes IsRunning of a vCPU: in its own copy, and in the table that the processor reads."""

    kind: ClassVar[str] = "avic_is_running"
    vcpu_id: int
    running: bool
    table: bool


@dataclass(frozen=True, slots=True)
class AvicMode(Event):
    """A vCPU's VMCB gets another mode: off, xavic, x2avic or hybrid."""

    kind: ClassVar[str] = "avic_mode"
    vcpu_id: int
    mode: str


@dataclass(frozen=True, slots=True)
class RingDoorbell(Event):
    """KVM writes the doorbell MSR. Later releases have a tracepoint there, kvm_avic_doorbell."""

    kind: ClassVar[str] = "ring_doorbell"
    vcpu_id: int
    host_apic_id: int


@dataclass(frozen=True, slots=True)
class KvmApicvAcceptIrq(Event):
    kind: ClassVar[str] = "kvm_apicv_accept_irq"
    tracepoint: ClassVar[str | None] = "kvm_apicv_accept_irq"
    apicid: int
    delivery_mode: int
    trig_mode: int
    vector: int


@dataclass(frozen=True, slots=True)
class KvmAvicDoorbell(Event):
    kind: ClassVar[str] = "kvm_avic_doorbell"
    tracepoint: ClassVar[str | None] = "kvm_avic_doorbell"
    vcpuid: int
    apicid: int


@dataclass(frozen=True, slots=True)
class KvmAvicIncompleteIpi(Event):
    kind: ClassVar[str] = "kvm_avic_incomplete_ipi"
    tracepoint: ClassVar[str | None] = "kvm_avic_incomplete_ipi"
    vcpu: int
    icrh: int
    icrl: int
    id: int
    index: int


@dataclass(frozen=True, slots=True)
class KvmAvicKickVcpuSlowpath(Event):
    kind: ClassVar[str] = "kvm_avic_kick_vcpu_slowpath"
    tracepoint: ClassVar[str | None] = "kvm_avic_kick_vcpu_slowpath"
    icrh: int
    icrl: int
    index: int


@dataclass(frozen=True, slots=True)
class KvmAvicUnacceleratedAccess(Event):
    kind: ClassVar[str] = "kvm_avic_unaccelerated_access"
    tracepoint: ClassVar[str | None] = "kvm_avic_unaccelerated_access"
    vcpu: int
    offset: int
    trap: bool
    write: bool
    vec: int


@dataclass(frozen=True, slots=True)
class KvmAvicGaLog(Event):
    kind: ClassVar[str] = "kvm_avic_ga_log"
    tracepoint: ClassVar[str | None] = "kvm_avic_ga_log"
    vmid: int
    vcpuid: int


@dataclass(frozen=True, slots=True)
class KvmApicvUpdateRequest(Event):
    """Up to 5.15, where later releases have kvm_apicv_inhibit_changed."""

    kind: ClassVar[str] = "kvm_apicv_update_request"
    tracepoint: ClassVar[str | None] = "kvm_apicv_update_request"
    activate: bool
    bit: int


@dataclass(frozen=True, slots=True)
class DeviceMsi(Event):
    """A device sends its message; ``irq`` is the host's number of that interrupt."""

    kind: ClassVar[str] = "device_msi"
    lane: ClassVar[str] = "hw"
    irq: int
    gsi: int


@dataclass(frozen=True, slots=True)
class IommuPost(Event):
    """The IOMMU sets an IRR bit for a device; ``running``: it rings the core that its entry names."""

    kind: ClassVar[str] = "iommu_post"
    lane: ClassVar[str] = "hw"
    vector: int
    running: bool
    ga_tag: int


@dataclass(frozen=True, slots=True)
class IommuGaLog(Event):
    """The IOMMU writes into the guest APIC log, and interrupts the host."""

    kind: ClassVar[str] = "iommu_ga_log"
    lane: ClassVar[str] = "hw"
    ga_tag: int


@dataclass(frozen=True, slots=True)
class IommuMode(Event):
    """A remapping entry is written; ``mode``: posted, remapped. ``lo`` and ``hi``: its two words afterwards."""

    kind: ClassVar[str] = "iommu_mode"
    irq: int
    mode: str
    is_run: bool
    ga_log_intr: bool
    lo: int
    hi: int


@dataclass(frozen=True, slots=True)
class KvmPiIrteUpdate(Event):
    kind: ClassVar[str] = "kvm_pi_irte_update"
    tracepoint: ClassVar[str | None] = "kvm_pi_irte_update"
    host_irq: int
    vcpu_id: int | None
    gsi: int
    gvec: int
    pi_desc_addr: int  # up to 6.12: the backing page
    set: bool
