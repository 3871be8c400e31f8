"""The two ways to end an interrupt told closer: the guest's PV EOI bit, and its EOI register."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kvmmodel import events as ev
from kvmmodel.machine.record import Record
from kvmmodel.trace.cast import Cast
from kvmmodel.trace.telling import TELLERS, Teller, Told, clear_isr, in_kvm, who_on

EOI = "WRMSR 0x80b"


def tellers(base: Mapping[type[ev.Event], Teller], paravirtual: bool) -> dict[type[ev.Event], Teller]:
    """``base`` with these; ``paravirtual``: the guest looks at its bit before it writes the register."""

    def instruction(cast: Cast, record: Record, e: Any) -> Told | None:
        guest, who = "t.guest", who_on("Guest", record)
        if e.text.startswith("BTR"):
            why = "`kvm_guest_apic_eoi_write` tests the PV EOI bit and clears it, in one instruction."
            return Told("read", guest, None, "tests and clears its bit", "in its own memory", who, why)
        if e.text.startswith(EOI):
            why = "The guest writes the EOI register."
            if paravirtual:
                why = "The bit was clear, so nothing is done yet: the guest writes the EOI register, too."
            return Told("write", guest, None, f"`{e.text}`", "the EOI", who, why)
        if e.text.startswith("VMMCALL"):
            why = "The guest exits for a reason of its own, here a hypercall that asks for nothing."
            return Told("write", guest, None, "`VMMCALL`", "asks for nothing", who, why)
        return base[ev.Instruction](cast, record, e)

    return {
        **base,
        ev.Instruction: instruction,
        ev.PvEoiArm: TELLERS[ev.PvEoiArm],
        ev.PvEoiByGuest: TELLERS[ev.PvEoiByGuest],
        ev.PvEoiDisarm: _taken_back,
        ev.ClearIsr: _clear_isr,
    }


def _taken_back(cast: Cast, record: Record, e: Any) -> Told | None:
    why = "An exit before the EOI: KVM finds the bit still set, and takes it back."
    return in_kvm(cast, record, "no", "PV EOI taken back", "the bit was still set", why)


def _clear_isr(cast: Cast, record: Record, e: Any) -> Told | None:
    """Carried out late, if it was the bit's."""
    if all(function.name != "kvm_lapic_sync_from_vapic" for function in record.stack):
        return clear_isr(cast, record, e)
    why = f"An exit, whatever its reason: KVM finds the bit clear, so the guest has ended `{e.vector:#x}`."
    return in_kvm(cast, record, "eoi", f"bit clear: clears ISR `{e.vector:#x}`", "`kvm_lapic_sync_from_vapic`", why)
