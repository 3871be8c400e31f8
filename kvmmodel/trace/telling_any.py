"""The tellers for a run of which nothing is known beforehand: those of all the stories, put together.

Of the 8259s, the IOAPIC's pins and a device's remapping entry, their own stories tell (telling_extint, _line, _device).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from kvmmodel import events as ev
from kvmmodel.guest.program import PORT_HOST, PORT_MARK
from kvmmodel.kvm.x86.hypercall import KVM_HC_KICK_CPU, KVM_HC_SEND_IPI
from kvmmodel.machine.record import Record
from kvmmodel.silicon.apic import APIC_DEFAULT_PHYS_BASE
from kvmmodel.trace import telling_pv_eoi
from kvmmodel.trace.cast import Cast
from kvmmodel.trace.telling import TELLERS, Teller, Told, column, in_kvm, who_on
from kvmmodel.trace.telling_gif import GIF_TELLERS, MODES
from kvmmodel.trace.telling_program import PROGRAM_TELLERS
from kvmmodel.trace.telling_pv import PV_TELLERS
from kvmmodel.trace.telling_timer import TIMER_TELLERS

OWN_FLAGS = ("CLGI", "STGI", "CLI", "STI", "MOV CR8")  # what the other stories tell of a vCPU's own flags
HYPERCALLS = {KVM_HC_SEND_IPI: "KVM_HC_SEND_IPI", KVM_HC_KICK_CPU: "KVM_HC_KICK_CPU"}
PV_EOI = telling_pv_eoi.tellers(TELLERS, False)


def _instruction(cast: Cast, record: Record, e: Any) -> Told | None:
    name = e.text.split(" = ")[0]
    told = None
    if name.startswith(OWN_FLAGS):
        told = GIF_TELLERS[ev.Instruction](cast, record, e)
    elif name.startswith("BTR"):
        told = PV_EOI[ev.Instruction](cast, record, e)
    elif e.text.startswith(("WRMSR", "HLT", "MOV [")):
        told = TELLERS[ev.Instruction](cast, record, e)
    elif (said := _said(e.text)) is not None:
        kind, sentence = said
        told = Told(kind, "", None, f"`{name}`", f"vCPU {e.vcpu_id}", who_on("Guest", record), sentence)
    return None if told is None else replace(told, at=column(cast, e.vcpu_id, "guest"))


def _said(text: str) -> tuple[str, str] | None:
    """The glyph and the sentence of an instruction that no other story has."""
    words = text.replace(",", "").split()
    if text.startswith("VMMCALL"):
        name = HYPERCALLS.get(int(words[1], 16))
        return "write", f"The guest asks KVM by a hypercall{f', `{name}`' if name else ''}."
    if text.startswith("OUT"):
        port = int(words[1], 16)
        note = {PORT_MARK: ", by which the scenario makes a mark", PORT_HOST: ", by which its VMM is asked"}
        return "write", f"The guest writes port `{port:#x}`{note.get(port, '')}."
    if text.startswith(("RDMSR", "MOV r,", "IN ")):
        return "read", f"The guest reads: `{text}`."
    return None


def _vmexit(cast: Cast, record: Record, e: Any) -> Told | None:
    told = GIF_TELLERS[ev.VmExit](cast, record, e)
    why = {
        "io": "Accesses to ports are intercepted: the processor leaves the guest.",
        "npf": "No memory is mapped at this address: the access leaves the guest.",
    }.get(e.reason)
    return told if told is None or why is None else replace(told, sentence=why)


def _mmio(cast: Cast, record: Record, e: Any) -> Told | None:
    told = PV_TELLERS[ev.KvmMmio](cast, record, e)
    apic = e.gpa & ~0xFFF == APIC_DEFAULT_PHYS_BASE
    return told if told is None or apic else replace(told, label=f"emulate: `{e.gpa:#x}` := `{e.val:#x}`", detail="")


def _message(cast: Cast, record: Record, e: Any) -> Told | None:
    """Userspace's message, or one that a route stands for."""
    mode = MODES.get(e.data >> 8 & 7)
    through = any(frame.name == "irqfd_wakeup" for frame in record.stack)
    if mode is not None and not through:
        why = f"Userspace hands KVM a message with delivery mode {mode}, by `KVM_SIGNAL_MSI`."
        return in_kvm(cast, record, "msi", f"a message: {mode}", "`KVM_SIGNAL_MSI`", why)
    if through:
        why = "The eventfd of an irqfd is signalled: its GSI's route says which message that is."
        return in_kvm(cast, record, "msi", f"irqfd: vec `{e.data & 255:#x}`", "`irqfd_wakeup`", why)
    if cast.source == "msi":
        return TELLERS[ev.KvmMsiSetIrq](cast, record, e)
    why = "Userspace hands KVM a message by `KVM_SIGNAL_MSI`."
    return in_kvm(cast, record, "msi", f"`KVM_SIGNAL_MSI` `{e.data & 255:#x}`", "from userspace", why)


def _accept(cast: Cast, record: Record, e: Any) -> Told | None:
    """A message that came by its destination; the local APIC's own, such as the timer's, need none."""
    if all("kvm_irq_delivery_to_apic" not in frame.name for frame in record.stack):
        return None
    if cast.source == "program" and e.apicid != cast.target:
        why = f"The message is for vCPU {e.apicid}: `__apic_accept_irq` takes it there."
        return in_kvm(cast, record, "table", f"vCPU {e.apicid} accepts", "whose steps are not shown", why)
    return PV_TELLERS[ev.KvmApicAcceptIrq](cast, record, e)


def _hypercall(cast: Cast, record: Record, e: Any) -> Told | None:
    return PV_TELLERS[ev.KvmHypercall](cast, record, e) if e.nr in HYPERCALLS else None


def _check_block(cast: Cast, record: Record, e: Any) -> Told | None:
    return (PV_TELLERS if cast.kick else TIMER_TELLERS)[ev.CheckBlock](cast, record, e)


def _request(cast: Cast, record: Record, e: Any) -> Told | None:
    return (GIF_TELLERS if e.request in ("NMI", "SMI") else TELLERS)[ev.MakeRequest](cast, record, e)


def _handler(cast: Cast, record: Record, e: Any) -> Told | None:
    told = GIF_TELLERS[ev.HandlerEnter](cast, record, e)
    return None if told is None else replace(told, at=column(cast, e.vcpu_id, "guest"))


def _leave(cast: Cast, record: Record, e: Any) -> Told | None:
    told = GIF_TELLERS[ev.HandlerLeave](cast, record, e)
    return None if told is None else replace(told, at=column(cast, e.vcpu_id, "guest"))


def _fault(cast: Cast, record: Record, e: Any) -> Told:
    name = {6: "#UD", 13: "#GP"}.get(e.vector, f"exception {e.vector}")
    at = column(cast, e.vcpu_id, "guest")
    why = f"The instruction is refused: vCPU {e.vcpu_id} takes `{name}`, and the program goes on behind it."
    return Told("no", at, None, f"`{name}`: refused", f"vCPU {e.vcpu_id}", who_on("Guest", record), why)


def _reset(cast: Cast, record: Record, e: Any) -> Told | None:
    why = f"INIT: vCPU {e.vcpu_id} and its APIC go back to their reset state, and it waits for a SIPI."
    return in_kvm(cast, record, "table", f"INIT resets vCPU {e.vcpu_id}", "", why) if e.init else None


ANY_TELLERS: dict[type[ev.Event], Teller] = (
    PV_TELLERS
    | TIMER_TELLERS
    | {kind: PROGRAM_TELLERS[kind] for kind in (ev.Cr8Intercept, ev.TprSync, ev.UpdatePpr, ev.IrqWindow)}
    | {kind: GIF_TELLERS[kind] for kind in (ev.VirtualGif, ev.SetGif, ev.InjectNmi, ev.VnmiPending, ev.TakeVnmi)}
    | {kind: GIF_TELLERS[kind] for kind in (ev.NmiWindow, ev.KvmSmmTransition)}
    | {kind: PV_EOI[kind] for kind in (ev.PvEoiDisarm, ev.ClearIsr)}
    | {
        ev.Instruction: _instruction,
        ev.VmExit: _vmexit,
        ev.KvmMmio: _mmio,
        ev.KvmMsiSetIrq: _message,
        ev.KvmApicAcceptIrq: _accept,
        ev.KvmHypercall: _hypercall,
        ev.CheckBlock: _check_block,
        ev.MakeRequest: _request,
        ev.HandlerEnter: _handler,
        ev.HandlerLeave: _leave,
        ev.Fault: _fault,
        ev.VcpuReset: _reset,
    }
)
