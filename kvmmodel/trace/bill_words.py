"""What the events of a bill are called: exits by what the guest did, signals by who sent them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from kvmmodel import events as ev
from kvmmodel.machine.record import Record
from kvmmodel.silicon.apic import APIC_BASE_MSR, REGISTER_NAMES

EXITS = {"hlt": "HLT", "vintr": "IRQ window", "write_cr8": "CR8 write", "io": "port", "hypercall": "hypercall",
         "avic_incomplete_ipi": "incomplete IPI", "invalid_guest_state": "VMRUN refused"}  # fmt: skip
IRQS = {"tick": "host tick"}  # others by their own names
IPIS = ("reschedule", "call_function", "call_function_single")


def text_of(record: Record) -> str:
    return record.event.text if isinstance(record.event, ev.Instruction) else ""


def instruction_before(records: Sequence[Record], at: int, vcpu: int) -> int | None:
    return last(records, at, lambda r: isinstance(r.event, ev.Instruction) and r.event.vcpu_id == vcpu)


def last(records: Sequence[Record], at: int, test: Callable[[Record], bool]) -> int | None:
    """The index of the last record before ``at`` that passes."""
    return next((i for i in range(at - 1, -1, -1) if test(records[i])), None)


def named(records: Sequence[Record], ours: Iterable[int], row: str) -> tuple[str, ...]:
    """The events of one row of the bill, each by what it was."""
    found = []
    for i in sorted(ours):
        event = records[i].event
        match row, event:
            case "exits", ev.VmExit():
                found.append(_exit(records, i, event))
            case "host_ipis", ev.HostIpi(target_cpu=cpu):
                found.append(f"{_ipi(records[i], event.name)} to CPU {cpu}")
            case "doorbells", ev.AvicRing(apic_id=ident) if ident != records[i].vcpu:
                found.append("by hardware")
            case "doorbells", ev.RingDoorbell():
                found.append("by KVM")
            case "doorbells", ev.IommuPost(running=True):
                found.append("by the IOMMU")
            case "wake_ups", ev.WakeUp():
                found.append(f"thread {event.task}")
    return tuple(found)


def _ipi(record: Record, name: str) -> str:
    """Who sent a host IPI: a kick, KVM for a request, the scheduler to an idle core or to reschedule."""
    called = {frame.name for frame in record.stack}
    if name != "reschedule":
        return "scheduler" if "try_to_wake_up" in called else "request"
    return "kick" if "kvm_vcpu_kick" in called else "reschedule"


def _exit(records: Sequence[Record], at: int, event: ev.VmExit) -> str:
    """What left the guest: by the reason, or the instruction, or the host interrupt that follows."""
    if event.reason in EXITS:
        return EXITS[event.reason]
    if event.reason == "interrupt":
        return _host_irq(records, at)
    before = instruction_before(records, at, event.vcpu_id)
    return event.reason if before is None else access(text_of(records[before]))


def _host_irq(records: Sequence[Record], at: int) -> str:
    """The host interrupt that an exit was for; an IPI by who sent it."""
    cpu = records[at].cpu
    for record in records[at + 1 :]:
        if record.cpu == cpu and isinstance(record.event, ev.HostIrq):
            name = record.event.name
            if name not in IPIS:
                return IRQS.get(name, name)
            sent = last(records, at, lambda r: isinstance(r.event, ev.HostIpi) and r.event.target_cpu == cpu)
            return name if sent is None else _ipi(records[sent], name)
    return "host interrupt"


def access(text: str) -> str:
    """An instruction by the register that it accesses: "ICR write", "EOI", "PPR read"."""
    name, read = text.partition(" = ")[0], text.startswith(("RDMSR", "MOV r,"))
    digits = name.rpartition(" ")[2].strip("[]")
    number = int(digits, 16) if digits.startswith("0x") else -1
    offset = number - APIC_BASE_MSR << 4 if "MSR" in name else number & 0xFFF
    if number == 0x6E0:
        register = "TSC deadline"
    elif number < 0 or ("MSR" in name and not 0 <= offset < 0x1000):
        return name
    else:
        register = REGISTER_NAMES.get(offset, f"{offset:#x}").removeprefix("APIC_")
    register = {"TASKPRI": "TPR", "PROCPRI": "PPR"}.get(register, register)
    return "EOI" if register == "EOI" else f"{register} {'read' if read else 'write'}"
