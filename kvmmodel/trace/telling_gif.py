"""A program's steps where GIF, NMIs and SMIs have a part: who keeps the flag, what waits, and how KVM hears of its end.

Not told: the IRET intercept that goes with SMM, and NMIs that L1 and L2 have to do with.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from kvmmodel import events as ev
from kvmmodel.guest.cpu import NMI_VECTOR
from kvmmodel.machine.record import Record
from kvmmodel.trace.cast import Cast
from kvmmodel.trace.telling import Teller, Told, handler, in_kvm, vmexit, who_on
from kvmmodel.trace.telling_program import PROGRAM_TELLERS

MODES = {2: "SMI", 4: "NMI"}  # delivery modes of a message
SENT = {
    "CLGI": ("executes `CLGI`: nothing may come in between until its `STGI`", "GIF to 0"),
    "STGI": ("executes `STGI`: what waited for GIF may come now", "GIF to 1"),
    "WRMSR 0x830": ("sends itself an NMI through the x2APIC ICR", "an NMI to itself"),
    "OUT 0xe1": ("writes a port, which its VMM will answer with two NMIs at once", "asks for two NMIs"),
    "OUT 0xb2": ("writes port `0xb2`, as a system does to get into its firmware's SMI handler", "asks for an SMI"),
}
WHY = {
    "clgi": "Without vGIF it is KVM that keeps the guest's GIF, so `CLGI` must exit.",
    "iret": "The NMI handler is about to return, and its `IRET` is intercepted: the processor leaves the guest.",
    "DB excp": "The single step ends in `#DB` right behind the `IRET`, and KVM intercepts that.",
    "rsm": "The SMI handler returns by `RSM`, which always exits: SMM is KVM's emulation.",
    "io": "The port is not one that KVM knows: the processor leaves the guest, and userspace gets it.",
}
WATCHED = {
    "iret": ("intercept `IRET`", "KVM must know when the NMI handler returns: its `IRET` shall exit."),
    "stgi": ("intercept `STGI`", "GIF is 0, and KVM must hear when that ends: this time `STGI` shall exit."),
    "step": ("single-step the guest", "NMIs stay blocked until `IRET` is done: KVM sets `TF`, for a `#DB` behind it."),
}
HEARD = {
    "iret": ("no `IRET` intercept", "KVM has heard of the `IRET`, and lets it be executed next."),
    "stgi": ("no `STGI` intercept", "KVM has heard of the `STGI`; with vGIF the next one need not exit."),
    "step": ("no single step", "The `IRET` is done, so KVM ends the single step and looks at its events."),
}


def _instruction(cast: Cast, record: Record, e: Any) -> Told | None:
    said = SENT.get(e.text.split(" = ")[0])
    if said is None:
        return PROGRAM_TELLERS[ev.Instruction](cast, record, e)
    sentence, detail = said
    return Told("write", "t.guest", None, f"`{e.text}`", detail, who_on("Guest", record), f"The guest {sentence}.")


def _vmexit(cast: Cast, record: Record, e: Any) -> Told:
    told = vmexit(cast, record, e)
    if e.reason != "stgi":
        return replace(told, sentence=WHY.get(e.reason, told.sentence))
    if "stgi" in cast.watched:
        return replace(told, sentence="KVM waits for this very `STGI`, so it exits in spite of vGIF.")
    return replace(told, sentence=WHY["clgi"].replace("CLGI", "STGI"))


def _virtual_gif(cast: Cast, record: Record, e: Any) -> Told:
    why = "vGIF: the processor writes `V_GIF` in the VMCB, and KVM does not hear of it."
    label = f"`V_GIF` := {int(e.value)}, no exit"
    return Told("table", "t.hw", None, label, "in the VMCB", f"Processor, CPU {record.cpu}", why)


def _set_gif(cast: Cast, record: Record, e: Any) -> Told | None:
    why = f"KVM does what the instruction would have done: the guest's GIF is {int(e.value)} from now on."
    return in_kvm(cast, record, "table", f"GIF := {int(e.value)}", "`svm_set_gif`", why)


def _request(cast: Cast, record: Record, e: Any) -> Told | None:
    if e.request == "NMI":
        why = "KVM counts one more NMI, and asks the vCPU to look at it before the next entry."
        return in_kvm(cast, record, "request", "request `NMI`", "`nmi_queued` + 1", why)
    if e.request == "SMI":
        why = "KVM asks the vCPU to take an SMI before its next entry."
        return in_kvm(cast, record, "request", "request `SMI`", f"of vCPU {e.vcpu_id}", why)
    return PROGRAM_TELLERS[ev.MakeRequest](cast, record, e)


def _message(cast: Cast, record: Record, e: Any) -> Told | None:
    name = MODES.get(e.data >> 8 & 7, "interrupt")
    why = f"The VMM answers the port: a message with delivery mode {name}, by `KVM_SIGNAL_MSI`."
    return in_kvm(cast, record, "msi", f"the VMM sends an {name}", "`KVM_SIGNAL_MSI`", why)


def _inject_nmi(cast: Cast, record: Record, e: Any) -> Told | None:
    why = "KVM writes the NMI to `EVENTINJ`; once it is in, NMIs are blocked until the handler's `IRET`."
    return in_kvm(cast, record, "inject", "NMI to `EVENTINJ`", "in the VMCB", why)


def _vnmi_pending(cast: Cast, record: Record, e: Any) -> Told | None:
    why = "vNMI: KVM sets one bit in the VMCB, and leaves the rest to the processor."
    return in_kvm(cast, record, "nmi", "set `V_NMI_PENDING`", "in the VMCB", why)


def _take_vnmi(cast: Cast, record: Record, e: Any) -> Told:
    why = "GIF is 1 and NMIs are not blocked: the processor delivers the virtual NMI, and blocks further ones."
    return Told("nmi", "t.hw", "t.guest", "delivers the virtual NMI", "no exit", f"Processor, CPU {record.cpu}", why)


def _nmi_window(cast: Cast, record: Record, e: Any) -> Told | None:
    if any(f.name in ("enter_smm", "emulator_leave_smm") for f in record.stack):
        return None
    label, why = (WATCHED if e.open else HEARD)[e.by]
    kind, detail = ("window", "to hear of it") if e.open else ("no", "it has been heard")
    return in_kvm(cast, record, kind, label, detail, why)


def _smm(cast: Cast, record: Record, e: Any) -> Told | None:
    if e.entering:
        why = "KVM saves the guest's state and points it to the SMI handler, with IF clear and NMIs blocked."
        return in_kvm(cast, record, "table", "enter SMM", "state into SMRAM", why)
    why = "KVM takes the guest's state back from SMRAM: it goes on where the SMI came."
    return in_kvm(cast, record, "table", "leave SMM", "state from SMRAM", why)


def _handler(cast: Cast, record: Record, e: Any) -> Told:
    told = handler(cast, record, e)
    if e.vector != NMI_VECTOR:
        return told
    return replace(told, label="NMI handler runs", sentence=f"The NMI handler runs on vCPU {e.vcpu_id}.")


def _iret(cast: Cast, record: Record, e: Any) -> Told | None:
    if e.vector != NMI_VECTOR:
        return PROGRAM_TELLERS[ev.HandlerLeave](cast, record, e)
    blocked = any(s.vcpu == e.vcpu_id and s.nmi_blocked for s in record.states)
    if not blocked:
        why, detail = "The NMI handler returns, and the processor allows NMIs again by itself.", "NMIs are allowed"
    elif cast.heard:
        why, detail = "The NMI handler returns. KVM sees at the next exit that it has.", "NMIs are allowed"
    else:
        why, detail = "The NMI handler returns, and KVM does not hear of it.", "unheard"
    return Told("resume", "t.guest", None, "`IRET`", detail, who_on("Guest", record), why)


GIF_TELLERS: dict[type[ev.Event], Teller] = PROGRAM_TELLERS | {
    ev.Instruction: _instruction,
    ev.VmExit: _vmexit,
    ev.VirtualGif: _virtual_gif,
    ev.SetGif: _set_gif,
    ev.MakeRequest: _request,
    ev.KvmMsiSetIrq: _message,
    ev.InjectNmi: _inject_nmi,
    ev.VnmiPending: _vnmi_pending,
    ev.TakeVnmi: _take_vnmi,
    ev.NmiWindow: _nmi_window,
    ev.KvmSmmTransition: _smm,
    ev.HandlerEnter: _handler,
    ev.HandlerLeave: _iret,
}
