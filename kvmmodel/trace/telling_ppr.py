"""What KVM does about the priority after each exit, told even where nothing changes by it."""

from __future__ import annotations

from typing import Any

from kvmmodel import events as ev
from kvmmodel.machine.record import Record
from kvmmodel.trace.cast import Cast
from kvmmodel.trace.telling import Teller, Told, in_kvm, who_on
from kvmmodel.trace.telling_program import PROGRAM_TELLERS

AFTER_EXIT = "sync_cr8_to_lapic"


def after_exit(record: Record) -> bool:
    """Whether KVM's copy of V_TPR after an exit does it."""
    return any(function.name == AFTER_EXIT for function in record.stack)


def _instruction(cast: Cast, record: Record, e: Any) -> Told | None:
    if not e.text.startswith("VMMCALL"):
        return PROGRAM_TELLERS[ev.Instruction](cast, record, e)
    why = "The guest exits, here by a hypercall that asks for nothing. The TPR has no part in it."
    return Told("write", "t.guest", None, "`VMMCALL`", "asks for nothing", who_on("Guest", record), why)


def _computed(cast: Cast, record: Record, e: Any) -> Told | None:
    """A change has its own step."""
    if e.old != e.new or not after_exit(record):
        return None
    cost = "searches the ISR" if e.scan else "need not search the ISR"
    why = f"The exit is over: KVM copies `V_TPR` to the TPR, and computes the PPR anew. It stays `{e.new:#04x}`."
    return in_kvm(cast, record, "tpr", f"PPR stays `{e.new:#04x}`", cost, why)


def _kept(cast: Cast, record: Record, e: Any) -> Told | None:
    why = f"AVIC: hardware writes the TPR into the page, and computes the PPR itself: `{e.ppr:#04x}`."
    label = f"TPR `{e.tpr:#04x}`, PPR `{e.ppr:#04x}`"
    return Told("tpr", "t.guest", "t.hw", label, "in the page, no exit", who_on("Hardware", record), why)


def _idle_pass(cast: Cast, record: Record, e: Any) -> Told | None:
    cast.asked = cast.asked and e.request != "EVENT"
    if e.request != "EVENT":
        return None
    why = "AVIC is active, so this event pass injects none of the APIC's vectors: hardware takes them."
    return in_kvm(cast, record, "no", "event pass: injects nothing", "needless", why)


PPR_TELLERS: dict[type[ev.Event], Teller] = {
    **PROGRAM_TELLERS,
    ev.Instruction: _instruction,
    ev.ApicUpdatePpr: _computed,
}
PPR_AVIC_TELLERS: dict[type[ev.Event], Teller] = PPR_TELLERS | {
    ev.AvicTpr: _kept,
    ev.CheckRequest: _idle_pass,
}
