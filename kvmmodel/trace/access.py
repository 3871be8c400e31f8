"""One instruction of a guest, found in a run: whether it exits, on which path KVM handles it, and what KVM answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from kvmmodel import events as ev
from kvmmodel.machine.record import Record

FAST, SLOW = "fast path", "handler"


@dataclass(frozen=True, slots=True)
class Access:
    """``exit`` is the exit's reason as kvm_exit prints it, None if the guest stays in. ``path``: None without an exit,
    FAST where KVM handles it before host interrupts are on again, else SLOW. ``effects``: what came of it, in words."""

    records: tuple[Record, ...]
    exit: str | None
    path: str | None
    effects: tuple[str, ...]

    @property
    def refused(self) -> bool:
        return any(isinstance(record.event, ev.KvmInjException) for record in self.records)


def access(records: Sequence[Record], vcpu: int, text: str) -> Access:
    """The first instruction of the vCPU that starts with ``text``, up to the VMRUN after its exit.

    ValueError if it executes none.
    """
    ours = [r for r in sorted(records, key=lambda r: r.t) if r.vcpu == vcpu]
    first = next((i for i, r in enumerate(ours) if isinstance(r.event, ev.Instruction) and _is(r.event, text)), None)
    if first is None:
        raise ValueError(f"vCPU {vcpu} executes no instruction that starts with {text!r}")
    found = [ours[first]]
    for record in ours[first + 1 :]:
        if isinstance(record.event, ev.Instruction | ev.HandlerLeave):
            break
        found.append(record)
        if isinstance(record.event, ev.VmRun):
            break
    exits = [r.event.reason for r in found if isinstance(r.event, ev.VmExit)]
    exit_ = exits[0] if exits else None
    return Access(tuple(found), exit_, _path(found) if exit_ else None, _effects(found))


def _is(event: ev.Instruction, text: str) -> bool:
    return event.text.startswith(text)


def _path(records: Sequence[Record]) -> str:
    called = {function.name for record in records for function in record.stack}
    return SLOW if "svm_invoke_exit_handler" in called else FAST


def _effects(records: Sequence[Record]) -> tuple[str, ...]:
    """Deliveries, ends of interrupt, timers and refusals; an access that only stores or reads has none."""
    words = []
    for record in records:
        match record.event:
            case ev.SetIrr(vcpu, vector):
                words.append(f"sets IRR `{vector:#x}` of vCPU {vcpu}")
            case ev.ClearIsr(_, vector):
                words.append(f"clears ISR `{vector:#x}`")
            case ev.TimerArmed():
                words.append("arms an hrtimer")
            case ev.KvmInjException(13):
                words.append("`#GP`")
            case ev.PvEoiByGuest():
                words.append("KVM hears of it at the next exit")
    return tuple(words)
