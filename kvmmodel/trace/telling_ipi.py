"""An IPI told closer: the emulator, by which way its target is found, and how the sender gets back into the guest.

Not told: the ways of a message to further targets. A story follows one.
"""

from __future__ import annotations

from typing import Any

from kvmmodel import events as ev
from kvmmodel.kvm.names import KernelFunction
from kvmmodel.machine.record import Record
from kvmmodel.trace.cast import Cast
from kvmmodel.trace.telling import TELLERS, Teller, Told, in_kvm, vmrun

SENDS = (0x830, 0x83F)  # the x2APIC's ICR and SELF_IPI
FAST_PATH = "handle_fastpath_wrmsr"
MAP = "kvm_irq_delivery_to_apic_fast"


def under(stack: tuple[KernelFunction, ...], function: str) -> bool:
    """Whether a function is in progress, by the name that the model has for it."""
    return any(frame.name == function for frame in stack)


def _mmio(cast: Cast, record: Record, e: Any) -> Told | None:
    if not e.write:
        return None
    why = "The exit names the address but no value, so KVM's emulator decodes the instruction."
    return in_kvm(cast, record, "table", f"emulate: `{e.gpa & 0xFFF:#x}` := `{e.val:#x}`", "in the APIC page", why)


def _accept(cast: Cast, record: Record, e: Any) -> Told | None:
    """The tracepoint's apicid is the vcpu_id."""
    if e.apicid != cast.target:
        why = f"vCPU {e.apicid} is meant as well, and goes through the same steps, which are not shown."
        return in_kvm(cast, record, "table", f"the same for vCPU {e.apicid}", "not shown", why)
    if cast.sender == cast.target:
        why = "The message is for the sender's own APIC, and `__apic_accept_irq` takes it there."
        return in_kvm(cast, record, "table", f"vCPU {e.apicid} itself accepts", "sender and target", why)
    if under(record.stack, MAP):
        why = f"The APIC map has an entry for the destination: `__apic_accept_irq` of vCPU {e.apicid} takes it."
        return in_kvm(cast, record, "table", f"the map finds vCPU {e.apicid}", "and it accepts", why)
    why = f"The map cannot resolve this destination, so KVM compares it with every vCPU: vCPU {e.apicid} matches."
    return in_kvm(cast, record, "table", f"the loop finds vCPU {e.apicid}", "and it accepts", why)


def _msr(cast: Cast, record: Record, e: Any) -> Told | None:
    if record.vcpu != cast.sender or not e.write or e.ecx not in SENDS:
        return None
    if under(record.stack, FAST_PATH):
        why = "The host's interrupts are still off, and KVM moves RIP behind `WRMSR`: no exit handler is needed."
        return in_kvm(cast, record, "dot", "fast path: `WRMSR` is done", "interrupts still off", why)
    why = "The ordinary handler of MSR exits has done the write, with the host's interrupts on."
    return in_kvm(cast, record, "dot", "handler: `WRMSR` is done", "interrupts are on", why)


def _set_mode(cast: Cast, record: Record, e: Any) -> Told | None:
    if e.vcpu_id != cast.sender or e.mode != "OUTSIDE_GUEST_MODE" or _in_service(cast, record):
        return TELLERS[ev.SetMode](cast, record, e)
    why = "KVM leaves the entry loop: `mode` says outside guest, and the host's interrupts come on."
    return in_kvm(cast, record, "dot", "out of the entry loop", "mode := outside guest", why)


def _in_service(cast: Cast, record: Record) -> bool:
    return any(s.vcpu == cast.target and s.isr >> cast.vector & 1 for s in record.states)


def _vmrun(cast: Cast, record: Record, e: Any) -> Told:
    told = vmrun(cast, record, e)
    if e.vcpu_id != cast.sender or e.event_inj:
        return told
    if cast.left:
        label, why = "`VMRUN`, after a full round", "went all the way round: requests, `mode`, barrier, a last look."
    else:
        label, why = "`VMRUN`, at once", "enters again at once: it never left the loop, and `mode` stayed as it was."
    return Told(told.kind, told.at, told.to, label, told.detail, told.who, f"vCPU {e.vcpu_id} {why}")


IPI_TELLERS: dict[type[ev.Event], Teller] = TELLERS | {
    ev.KvmMmio: _mmio,
    ev.KvmApicAcceptIrq: _accept,
    ev.KvmMsr: _msr,
    ev.SetMode: _set_mode,
    ev.VmRun: _vmrun,
}
