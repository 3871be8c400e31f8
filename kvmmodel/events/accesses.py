"""What another CPU can see: reads, writes, requests and signals in KVM, and what decides an entry."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from kvmmodel.events.base import Event


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
class IoapicLine(Event):
    """A source of a pin's line has changed its level. ``sources``: those that assert it now; none: it is down."""

    kind: ClassVar[str] = "ioapic_line"
    pin: int
    sources: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class PicLine(Event):
    """A source of a line of the 8259s changes its level. ``sources``: those that assert it now; none: it is down."""

    kind: ClassVar[str] = "pic_line"
    line: int
    sources: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class IoapicEntry(Event):
    """A redirection entry has changed: the guest or userspace wrote it, or remote IRR was set or cleared."""

    kind: ClassVar[str] = "ioapic_entry"
    pin: int
    e: int
    old: int


@dataclass(frozen=True, slots=True)
class ResampleSignal(Event):
    """The resample eventfd of an irqfd is signalled: its owner is to say anew whether the device asserts the line."""

    kind: ClassVar[str] = "resample"
    gsi: int


@dataclass(frozen=True, slots=True)
class PicOutput(Event):
    """The 8259s' output rises or falls; a vCPU's event pass looks at it."""

    kind: ClassVar[str] = "pic_output"
    level: bool


@dataclass(frozen=True, slots=True)
class PitTick(Event):
    """The PIT's timer expires; ``pending``: ticks that the guest has not had yet, with reinjection."""

    kind: ClassVar[str] = "pit_tick"
    pending: int


@dataclass(frozen=True, slots=True)
class PitWaits(Event):
    """The PIT's thread leaves GSI 0 alone, as the tick before is not acknowledged. ``pending``: ticks owed."""

    kind: ClassVar[str] = "pit_waits"
    pending: int


@dataclass(frozen=True, slots=True)
class PicAck(Event):
    """The 8259s are acknowledged and give a vector; ``spurious``: nothing asks any more, so it is a chip's line 7."""

    kind: ClassVar[str] = "pic_ack"
    vector: int
    spurious: bool


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
class PvUnhalted(Event):
    """A PV kick sets pv_unhalted, the kicked vCPU clears it: a reason to run that no IF holds back."""

    kind: ClassVar[str] = "pv_unhalted"
    vcpu_id: int
    on: bool


@dataclass(frozen=True, slots=True)
class UpdatePpr(Event):
    kind: ClassVar[str] = "update_ppr"
    vcpu_id: int
    old: int
    new: int


@dataclass(frozen=True, slots=True)
class ApicUpdatePpr(Event):
    """apic_update_ppr has run, whether the PPR changed or not; ``scan``: it had to search the ISR, uncached."""

    kind: ClassVar[str] = "apic_update_ppr"
    vcpu_id: int
    old: int
    new: int
    scan: bool


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
class SetGif(Event):
    """KVM changes the guest's GIF; what the processor does with vGIF on its own, it does not tell."""

    kind: ClassVar[str] = "set_gif"
    vcpu_id: int
    value: bool


@dataclass(frozen=True, slots=True)
class InjectNmi(Event):
    """KVM writes an NMI to EVENTINJ."""

    kind: ClassVar[str] = "inject_nmi"
    vcpu_id: int


@dataclass(frozen=True, slots=True)
class VnmiPending(Event):
    """KVM leaves an NMI to the processor: V_NMI_PENDING is set."""

    kind: ClassVar[str] = "vnmi_pending"
    vcpu_id: int


@dataclass(frozen=True, slots=True)
class NmiWindow(Event):
    """KVM starts or stops to watch for an NMI's (or SMI's) moment; ``by`` is iret, stgi or step, a single step."""

    kind: ClassVar[str] = "nmi_window"
    vcpu_id: int
    by: str
    open: bool


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
