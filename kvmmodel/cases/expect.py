"""The keys of a checkpoint: a table from key to a small function that reads it off the bench."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kvmmodel.cases import guest, nested
from kvmmodel.cases.bench import Bench
from kvmmodel.events import (
    IoapicMessage,
    KvmAckIrq,
    KvmApicAcceptIrq,
    KvmApicIpi,
    KvmEoi,
    KvmMsiSetIrq,
    MakeRequest,
    SetIrr,
)
from kvmmodel.kvm.ack import KVM_IRQCHIP_IOAPIC
from kvmmodel.kvm.ack import NAMES as CHIP_NAMES
from kvmmodel.kvm.i8259 import KvmKpicState
from kvmmodel.kvm.ioapic_registers import entries_of, lines_of
from kvmmodel.kvm.lapic.access import kvm_lapic_reg_read
from kvmmodel.kvm.lapic.priority import apic_find_highest_irr
from kvmmodel.kvm.runnable import kvm_arch_vcpu_runnable
from kvmmodel.kvm.types import KVM_MP_STATE_HALTED, KvmLapic, KvmVcpu
from kvmmodel.kvm.x86.inject import waits_for_sipi
from kvmmodel.silicon import apic as hw
from kvmmodel.silicon import vmcb as exits

Checkpoint = dict[str, Any]
SELECTORS = ("after", "cpu", "pin", "pic")
DELIVERY = ("fixed", "lowest", "smi", "reserved", "nmi", "init", "startup", "extint")
PICS = ("primary", "secondary")
PIC_FLAGS = {
    "auto_eoi": "auto_eoi",
    "sfnm": "special_fully_nested_mode",
    "rotate": "rotate_on_auto_eoi",
    "special_mask": "special_mask",
    "poll": "poll",
    "read_isr": "read_reg_select",
}
SHORTHAND = ("none", "self", "all", "all_but_self")


def _vcpu(bench: Bench, point: Checkpoint) -> KvmVcpu:
    return bench.vm.vcpus[point.get("cpu", 0)].kvm_vcpu


def _apic(bench: Bench, point: Checkpoint) -> KvmLapic:
    return _vcpu(bench, point).apic


def _register(offset: int) -> Callable[[Bench, Checkpoint], int | None]:
    return lambda bench, point: kvm_lapic_reg_read(_apic(bench, point), offset)


def _highest_irr(bench: Bench, point: Checkpoint) -> int | None:
    found = apic_find_highest_irr(_apic(bench, point))
    return None if found == -1 else found


def _delivered(bench: Bench, point: Checkpoint) -> list[int]:
    """An APIC that accepts a message sets an IRR bit or makes a request; one that refuses it does neither."""
    accepted, asked = set[int](), -1
    for event in bench.events:
        if isinstance(event, KvmApicAcceptIrq):
            asked = event.apicid
        elif isinstance(event, SetIrr) or (isinstance(event, MakeRequest) and event.request in ("EVENT", "NMI", "SMI")):
            accepted |= {asked} & {event.vcpu_id}
    return [i for i, vcpu in enumerate(bench.vm.vcpus) if vcpu.id in accepted]


def _message(bench: Bench, point: Checkpoint) -> list[Any] | None:
    """The last one that the step sent: an IPI as the ICR says, or a pin's."""
    for event in reversed(bench.events):
        if isinstance(event, KvmApicIpi):
            low = event.icr_low
            trigger, level = low >> 15 & 1, low >> 14 & 1
            return _fields(low, low >> 11 & 1, trigger, level, low >> 18 & 3, event.dest_id)
        if isinstance(event, KvmMsiSetIrq):
            address, data = event.address, event.data
            return _fields(data, address >> 2 & 1, data >> 15 & 1, 1, 0, address >> 12 & 0xFF)
        if isinstance(event, IoapicMessage):
            return _fields(event.e, event.e >> 11 & 1, event.e >> 15 & 1, 1, 0, event.e >> 56 & 0xFF)
    return None


def _fields(low: int, logical: int, trigger: int, level: int, shorthand: int, dest: int) -> list[Any]:
    return [
        low & hw.APIC_VECTOR_MASK,
        DELIVERY[low >> 8 & 7],
        "logical" if logical else "physical",
        "level" if trigger else "edge",
        "assert" if level else "deassert",
        SHORTHAND[shorthand],
        dest,
    ]


def _eoi_sent(bench: Bench, point: Checkpoint) -> int | None:
    vector, sent = None, None
    for event in bench.events:
        if isinstance(event, KvmEoi):
            vector = event.vector
        elif isinstance(event, KvmAckIrq) and event.irqchip == CHIP_NAMES[KVM_IRQCHIP_IOAPIC] and vector is not None:
            sent = vector
    return sent


def _state(bench: Bench, point: Checkpoint) -> str:
    """A halted vCPU that has a reason to run was woken: its thread will find that out."""
    vcpu = _vcpu(bench, point)
    if waits_for_sipi(vcpu):
        return "wait_sipi"
    asleep = vcpu.mp_state == KVM_MP_STATE_HALTED and not kvm_arch_vcpu_runnable(vcpu)
    return "halted" if asleep else "runnable"


def _nmis(bench: Bench, point: Checkpoint) -> int:
    """With vNMI, one of them may wait in the VMCB."""
    vcpu = _vcpu(bench, point)
    return vcpu.nmi_pending + vcpu.nmi_queued + vcpu.vmcb.v_nmi_pending


def _sipi(bench: Bench, point: Checkpoint) -> int | None:
    apic = _apic(bench, point)
    return apic.sipi_vector if apic.pending_sipi else None


def _handler_at(bench: Bench, point: Checkpoint) -> str | None:
    return bench.taken_at


def _rte(bench: Bench, point: Checkpoint) -> int:
    return entries_of(bench.vm.get_irqchip(KVM_IRQCHIP_IOAPIC))[point.get("pin", 0)]


def _pic(bench: Bench, point: Checkpoint) -> KvmKpicState:
    chip: KvmKpicState = bench.vm.machine.kvm.pic.pics[PICS.index(point.get("pic", "primary"))]
    return chip


def _pic_flags(bench: Bench, point: Checkpoint) -> list[str]:
    return [flag for flag, name in PIC_FLAGS.items() if getattr(_pic(bench, point), name)]


KEYS: dict[str, Callable[[Bench, Checkpoint], Any]] = {
    "returns": lambda bench, point: bench.result,
    "gp": lambda bench, point: bench.gp,
    "IRR": lambda bench, point: hw.vectors(_apic(bench, point).irr),
    "ISR": lambda bench, point: hw.vectors(_apic(bench, point).isr),
    "TMR": lambda bench, point: hw.vectors(_apic(bench, point).tmr),
    "highest_irr": _highest_irr,
    "PPR": _register(hw.APIC_PROCPRI),
    "TPR": _register(hw.APIC_TASKPRI),
    "CR8": lambda bench, point: guest.read_cr8(bench, bench.vm.vcpus[point.get("cpu", 0)]),
    "TMCCT": _register(hw.APIC_TMCCT),
    "TMCCT_range": _register(hw.APIC_TMCCT),
    "delivered": _delivered,
    "message": _message,
    "eoi_sent": _eoi_sent,
    "taken": lambda bench, point: bench.taken,
    "taken_nmis": lambda bench, point: bench.taken_nmis,
    "window": lambda bench, point: exits.SVM_EXIT_VINTR in _vcpu(bench, point).vmcb.intercepts,
    "nmis": _nmis,
    "init": lambda bench, point: _apic(bench, point).pending_init,
    "sipi": _sipi,
    "handled": lambda bench, point: list(bench.handled[point.get("cpu", 0)]),
    "state": _state,
    "rte": _rte,
    "remote_irr": lambda bench, point: _rte(bench, point) >> 14 & 1,
    "fired": lambda bench, point: bench.fired[point.get("pin", 0)],
    "lines": lambda bench, point: hw.vectors(lines_of(bench.vm.get_irqchip(KVM_IRQCHIP_IOAPIC))),
    "pic_irr": lambda bench, point: hw.vectors(_pic(bench, point).irr),
    "pic_isr": lambda bench, point: hw.vectors(_pic(bench, point).isr),
    "pic_imr": lambda bench, point: hw.vectors(_pic(bench, point).imr),
    "elcr": lambda bench, point: hw.vectors(_pic(bench, point).elcr),
    "priority_add": lambda bench, point: _pic(bench, point).priority_add,
    "irq_base": lambda bench, point: _pic(bench, point).irq_base,
    "pic_flags": _pic_flags,
    "ready": lambda bench, point: bool(bench.vm.machine.kvm.pic.output),
    "resampled": lambda bench, point: bench.resampled,
    "handler_at": _handler_at,
    "exit": lambda bench, point: nested.last_exit(bench, point.get("cpu", 0)),
    "exits": lambda bench, point: bench.exits,
    "inhibits": lambda bench, point: sorted(bench.vm.inhibits - {"DISABLED"}),
}


def compare(bench: Bench, point: Checkpoint) -> tuple[Checkpoint, Checkpoint] | None:
    """What was expected and what is, of the keys that differ; with the selectors. None if nothing does."""
    expected, got = Checkpoint(), Checkpoint()
    for key, value in point.items():
        if key in SELECTORS:
            continue
        found = KEYS[key](bench, point)
        if not _same(key, value, found):
            expected[key], got[key] = value, found
    if not expected:
        return None
    where = {key: point[key] for key in SELECTORS if key in point}
    return where | expected, where | got


def _same(key: str, value: Any, found: Any) -> bool:
    if key == "TMCCT_range":
        return found is not None and bool(value[0] <= found <= value[1])
    return bool(value == found and (type(value) is type(found) or key != "returns" or isinstance(found, bool)))
