"""What the processor and the guest do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from kvmmodel.events.base import Event


@dataclass(frozen=True, slots=True)
class VmExit(Event):
    kind: ClassVar[str] = "exit"
    lane: ClassVar[str] = "hw"
    vcpu_id: int
    reason: str
    code: int


@dataclass(frozen=True, slots=True)
class VmRun(Event):
    kind: ClassVar[str] = "vmrun"
    lane: ClassVar[str] = "hw"
    vcpu_id: int
    event_inj: int


@dataclass(frozen=True, slots=True)
class Instruction(Event):
    kind: ClassVar[str] = "instruction"
    lane: ClassVar[str] = "guest"
    vcpu_id: int
    text: str


@dataclass(frozen=True, slots=True)
class HandlerEnter(Event):
    kind: ClassVar[str] = "handler"
    lane: ClassVar[str] = "guest"
    vcpu_id: int
    vector: int


@dataclass(frozen=True, slots=True)
class HandlerLeave(Event):
    kind: ClassVar[str] = "iret"
    lane: ClassVar[str] = "guest"
    vcpu_id: int
    vector: int


@dataclass(frozen=True, slots=True)
class PvEoiByGuest(Event):
    """The guest found its PV EOI bit set, cleared it, and is done: no exit."""

    kind: ClassVar[str] = "guest_pv_eoi"
    lane: ClassVar[str] = "guest"
    vcpu_id: int


@dataclass(frozen=True, slots=True)
class VirtualGif(Event):
    """STGI or CLGI with vGIF and without an exit: the processor writes V_GIF."""

    kind: ClassVar[str] = "virtual_gif"
    lane: ClassVar[str] = "hw"
    vcpu_id: int
    value: bool


@dataclass(frozen=True, slots=True)
class TakeVnmi(Event):
    """The processor delivers a virtual NMI: V_NMI_PENDING falls, V_NMI_BLOCKING rises."""

    kind: ClassVar[str] = "take_vnmi"
    lane: ClassVar[str] = "hw"
    vcpu_id: int


@dataclass(frozen=True, slots=True)
class Fault(Event):
    kind: ClassVar[str] = "fault"
    lane: ClassVar[str] = "guest"
    vcpu_id: int
    vector: int
    error_code: int | None
