"""What a guest asks of KVM by hypercall, told closer: PV IPI, and PV kick with the waiter that it wakes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from kvmmodel import events as ev
from kvmmodel.kvm.x86.hypercall import KVM_HC_KICK_CPU, KVM_HC_SEND_IPI
from kvmmodel.machine.record import Record
from kvmmodel.trace.cast import Cast
from kvmmodel.trace.telling import TELLERS, Teller, Told, in_kvm, who_on
from kvmmodel.trace.telling_ipi import IPI_TELLERS, under

NAMES = {KVM_HC_SEND_IPI: "KVM_HC_SEND_IPI", KVM_HC_KICK_CPU: "KVM_HC_KICK_CPU"}
REMRD = 0x300


def _instruction(cast: Cast, record: Record, e: Any) -> Told | None:
    told = TELLERS[ev.Instruction](cast, record, e)
    vcpu = f"vCPU {e.vcpu_id}"
    if e.text.startswith("VMMCALL"):
        kick = e.text.startswith(f"VMMCALL {KVM_HC_KICK_CPU:#x}")
        name = NAMES[KVM_HC_KICK_CPU if kick else KVM_HC_SEND_IPI]
        what = "has released the lock, and asks KVM to wake the waiter" if kick else "asks KVM to send the IPI for it"
        return Told(
            "write",
            "s.guest",
            None,
            f"`VMMCALL`: `{name}`",
            vcpu,
            who_on("Guest", record),
            f"{vcpu} {what}: `VMMCALL`.",
        )
    if told is not None and cast.kick and told.kind == "halt":
        why = f"The lock is still taken, so {vcpu} executes `HLT`. Its interrupts are off, and stay off."
        return replace(told, detail="IF is clear", sentence=why)
    return told


def _hypercall(cast: Cast, record: Record, e: Any) -> Told | None:
    if e.nr == KVM_HC_KICK_CPU:
        why = f"KVM reads RAX and RCX: APIC ID {e.a1} is to be woken. There is no vector."
        return in_kvm(cast, record, "read", "KVM reads the arguments", f"kick APIC ID {e.a1}", why)
    count = (e.a0 | e.a1 << 64).bit_count()
    why = f"KVM reads a bitmap with {count} of 128 bits set, which begins at APIC ID {e.a2}, and an ICR."
    return in_kvm(
        cast, record, "read", "KVM reads the arguments", f"{count} APIC ID{'s' * (count > 1)}, one vector", why
    )


def _accept(cast: Cast, record: Record, e: Any) -> Told | None:
    if e.delivery_mode == REMRD:
        why = f"The message for vCPU {e.apicid} has the mode remote read, which KVM itself uses for kicks only."
        return in_kvm(cast, record, "table", f"the map finds vCPU {e.apicid}", "mode `Res3` in traces", why)
    if e.apicid != cast.target or not under(record.stack, "kvm_pv_send_ipi"):
        return IPI_TELLERS[ev.KvmApicAcceptIrq](cast, record, e)
    why = f"The bitmap has a bit for vCPU {e.apicid}, and the APIC map has that vCPU: `__apic_accept_irq` takes it."
    return in_kvm(cast, record, "table", f"bit and map give vCPU {e.apicid}", "and it accepts", why)


def _unhalted(cast: Cast, record: Record, e: Any) -> Told | None:
    if e.on:
        why = f"KVM sets `pv_unhalted` of vCPU {e.vcpu_id}: a reason to run that no IF can hold back."
        return in_kvm(cast, record, "set_irr", "set `pv_unhalted`", f"of vCPU {e.vcpu_id}, no IRR bit", why)
    why = f"vCPU {e.vcpu_id} becomes runnable, and KVM clears `pv_unhalted`: one kick ends one `HLT`."
    return in_kvm(cast, record, "dot", "runnable; clear `pv_unhalted`", "the kick is used up", why)


def _check_block(cast: Cast, record: Record, e: Any) -> Told | None:
    if not cast.kick or cast.place.get(e.vcpu_id) == "blocked":
        return None
    if e.wakes:
        why = f"`pv_unhalted` is set: vCPU {e.vcpu_id} need not sleep, though its IF is clear and its IRR is empty."
        return in_kvm(cast, record, "read", "`check_block`: kicked", "IF does not matter", why)
    why = f"The IRR is empty and `pv_unhalted` is clear: nothing that vCPU {e.vcpu_id} could run for."
    return in_kvm(cast, record, "read", "`check_block`: nothing", "no reason to run", why)


def _host_ipi(cast: Cast, record: Record, e: Any) -> Told | None:
    told = TELLERS[ev.HostIpi](cast, record, e)
    if told is None or cast.place.get(cast.target) != "kvm" or e.name != "reschedule":
        return told
    why = f"`mode` of vCPU {cast.target} still says in guest, so the kick sends an IPI. It finds the guest left."
    return replace(told, to="t.kvm", sentence=why)


PV_TELLERS: dict[type[ev.Event], Teller] = IPI_TELLERS | {
    ev.Instruction: _instruction,
    ev.KvmHypercall: _hypercall,
    ev.KvmApicAcceptIrq: _accept,
    ev.PvUnhalted: _unhalted,
    ev.CheckBlock: _check_block,
    ev.HostIpi: _host_ipi,
}
