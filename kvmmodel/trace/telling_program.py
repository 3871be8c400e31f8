"""What one vCPU's program does: more instructions, the priority and the windows; less of how KVM is told."""

from __future__ import annotations

from typing import Any

from kvmmodel import events as ev
from kvmmodel.machine.record import Record
from kvmmodel.trace.cast import Cast
from kvmmodel.trace.telling import (
    Teller,
    Told,
    clear_isr,
    handler,
    in_kvm,
    inject,
    request,
    set_irr,
    vmexit,
    vmrun,
    who_on,
)


def _said(text: str) -> tuple[str, str] | None:
    """What an instruction does, where its name does not say it: in the sentence, and as a second line."""
    name, _, value = text.partition(" = ")
    return {
        "MOV CR8": (f"sets its task priority by `{text}`", "its task priority"),
        "WRMSR 0x808": (f"writes `{value}` to its TPR", "the TPR"),
        "RDMSR 0x808": ("reads its TPR back", "the TPR"),
        "WRMSR 0x80b": ("signals the EOI by `WRMSR 0x80b`", "the EOI"),
        "WRMSR 0x83f": (f"sends itself vector `{value}`", "an IPI to itself"),
        "CLI": ("clears IF by `CLI`, and takes no interrupts from now on", "IF is clear"),
        "STI": ("sets IF by `STI`, and takes interrupts after one more instruction", "IF is set"),
    }.get(name)


def _program_instruction(cast: Cast, record: Record, e: Any) -> Told | None:
    said = _said(e.text)
    if said is None:
        return None
    sentence, detail = said
    return Told("write", "t.guest", None, f"`{e.text}`", detail, who_on("Guest", record), f"The guest {sentence}.")


def _event_pass(cast: Cast, record: Record, e: Any) -> Told | None:
    if e.request != "EVENT" or cast.asked:
        return None
    cast.asked = True
    return request(cast, record, e)


def _event_pass_begins(cast: Cast, record: Record, e: Any) -> Told | None:
    cast.asked = cast.asked and e.request != "EVENT"
    return None


def _iret(cast: Cast, record: Record, e: Any) -> Told | None:
    if not cast.window:
        return None
    why = "The handler returns, and its `IRET` sets IF again."
    return Told("resume", "t.guest", None, "`IRET`", "IF is set again", who_on("Guest", record), why)


def _cr8_intercept(cast: Cast, record: Record, e: Any) -> Told | None:
    if e.on:
        why = "The highest waiting vector is not above the TPR's class, so CR8 writes must exit from now on."
        return in_kvm(cast, record, "tpr", "intercept CR8 writes", "until TPR is lower", why)
    why = "The TPR holds no waiting vector back any more, so CR8 writes need not exit."
    return in_kvm(cast, record, "no", "no CR8 intercept", "CR8 writes do not exit", why)


def tpr_sync(cast: Cast, record: Record, e: Any) -> Told | None:
    if e.to == "APIC":
        why = f"CR8 writes do not exit, so after each exit KVM copies `V_TPR` back: TPR is `{e.tpr << 4:#04x}`."
        return in_kvm(cast, record, "table", f"`V_TPR` to TPR: `{e.tpr << 4:#04x}`", "after the exit", why)
    why = f"Before `VMRUN` KVM copies the TPR's class to `V_TPR`: the guest's CR8 is `{e.tpr:#x}`."
    return in_kvm(cast, record, "table", f"TPR to `V_TPR`: `{e.tpr:#x}`", "before the entry", why)


def update_ppr(cast: Cast, record: Record, e: Any) -> Told | None:
    if all(f.name != "apic_set_tpr" for f in record.stack):
        return None  # the PPR that follows an injection or an EOI is part of that step
    label = f"PPR `{e.old:#04x}` to `{e.new:#04x}`"
    if e.new < e.old:
        return in_kvm(
            cast, record, "tpr", label, "lower", "PPR falls with the TPR: KVM looks whether a vector waits above it."
        )
    return in_kvm(cast, record, "tpr", label, "higher", "PPR rises with the TPR: vectors up to its class must wait.")


def _irq_window(cast: Cast, record: Record, e: Any) -> Told | None:
    if e.open == cast.window:
        return None
    cast.window = e.open
    if e.open:
        why = "A vector waits and the guest cannot take it: KVM sets `V_IRQ` and intercepts VINTR."
        return in_kvm(cast, record, "window", "ask for an IRQ window", "`V_IRQ`, VINTR intercept", why)
    why = "The window has served: KVM takes `V_IRQ` and the VINTR intercept back."
    return in_kvm(cast, record, "no", "window taken back", "`svm_clear_vintr`", why)


PROGRAM_TELLERS: dict[type[ev.Event], Teller] = {
    ev.Instruction: _program_instruction,
    ev.VmExit: vmexit,
    ev.VmRun: vmrun,
    ev.SetIrr: set_irr,
    ev.MakeRequest: _event_pass,
    ev.CheckRequest: _event_pass_begins,
    ev.Cr8Intercept: _cr8_intercept,
    ev.TprSync: tpr_sync,
    ev.UpdatePpr: update_ppr,
    ev.IrqWindow: _irq_window,
    ev.KvmInjVirq: inject,
    ev.HandlerEnter: handler,
    ev.HandlerLeave: _iret,
    ev.ClearIsr: clear_isr,
}
