"""What an interrupt costs: exits, host IPIs, doorbells, wake-ups and kernel functions, from its cause to its EOI.

The cause is the guest's write, the call of userspace or the device's message that it comes from; for the APIC timer
the write that armed it, or the hrtimer if that write served an earlier interrupt already. Counted is what the sender
does until it goes on, and what the target does until its EOI. Interrupts that never go through an IRR (NMI, SMI,
ExtINT) have no bill. Two at once on one vCPU may share an exit: then both bills have it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from kvmmodel import events as ev
from kvmmodel.facts.releases import Kernel
from kvmmodel.machine.record import Record
from kvmmodel.silicon.apic import APIC_DEFAULT_PHYS_BASE
from kvmmodel.trace.bill_words import instruction_before, last, named, text_of
from kvmmodel.trace.stacks import names

ROWS = (("exits", "exits"), ("host IPIs", "host_ipis"), ("doorbells", "doorbells"), ("wake-ups", "wake_ups"))
ARMS = ("WRMSR 0x6e0", "WRMSR 0x838", f"MOV [{APIC_DEFAULT_PHYS_BASE | 0x380:#x}]")
TIMER = ("kvm_inject_apic_timer_irqs", "kvm_apic_inject_pending_timer_irqs")
DEVICE = "vfio_msihandler"
ICR2 = f"MOV [{APIC_DEFAULT_PHYS_BASE | 0x310:#x}]"
NEXT = ev.VmRun | ev.Instruction | ev.HandlerEnter | ev.KvmMsiSetIrq | ev.KvmSetIrq | ev.PitTick | ev.HostIrq
SIGNALS = ev.HostIpi | ev.WakeUp | ev.AvicRing | ev.RingDoorbell | ev.IommuPost


@dataclass(frozen=True, slots=True)
class Bill:
    """One interrupt's costs, each event by what it was. ``targets``: vCPUs that it was requested from; ``delivered``:
    how many handlers ran. ``functions``: kernel functions on the stacks of its events, none if no kernel code ran.
    """

    cause: str
    vector: int
    targets: tuple[int, ...]
    delivered: int
    exits: tuple[str, ...] = ()
    host_ipis: tuple[str, ...] = ()
    doorbells: tuple[str, ...] = ()
    wake_ups: tuple[str, ...] = ()
    functions: tuple[str, ...] = ()


def bills(records: Iterable[Record], kernel: Kernel) -> list[Bill]:
    """Of all interrupts of a run, in the order of their causes."""
    ordered = sorted(records, key=lambda record: record.t)  # stable: one CPU's events stay in their order
    return [bill_at(ordered, cause, vector, targets, kernel) for cause, vector, targets in causes(ordered)]


def causes(ordered: Sequence[Record]) -> list[tuple[int, int, list[tuple[int, int]]]]:
    """Of records in order of time: each interrupt's (index of its cause, vector, targets), in the order of the causes.

    ``targets`` are (index of the event that sets the IRR bit, vCPU).
    """
    found: dict[int, dict[int, list[tuple[int, int]]]] = {}
    armed: set[int] = set()
    for i, record in enumerate(ordered):
        for vcpu, vector in _requested(record):
            cause = _cause(ordered, i, vcpu, armed)
            found.setdefault(cause, {}).setdefault(vector, []).append((i, vcpu))
    return [(cause, vector, found[cause][vector]) for cause in sorted(found) for vector in found[cause]]


def bill(records: Iterable[Record], kernel: Kernel, vector: int, target: int) -> Bill:
    """Of the first interrupt with this vector for this vCPU. ValueError if the run has none."""
    for one in bills(records, kernel):
        if one.vector == vector and target in one.targets:
            return one
    raise ValueError(f"nothing in this run requests vector {vector:#x} of vCPU {target}")


def total(made: Sequence[Bill]) -> dict[str, int]:
    """Sums over bills: delivered, then the rows; functions: how many different ones."""
    sums = {"delivered": sum(one.delivered for one in made)}
    sums |= {key: sum(len(getattr(one, key)) for one in made) for _, key in ROWS}
    return sums | {"functions": len({name for one in made for name in one.functions})}


def render(records: Iterable[Record], kernel: Kernel) -> str:
    """Every interrupt's bill as text, and the sums. Zero is printed as 0."""
    made = bills(records, kernel)
    lines = []
    for one in made:
        whom = ", ".join(f"vCPU {vcpu}" for vcpu in one.targets)
        lines.append(f"{one.vector:#04x} for {whom}, by {one.cause}: {one.delivered} of {len(one.targets)} delivered")
        for label, key in ROWS:
            words = getattr(one, key)
            lines.append(f"  {label + ':':11}{len(words)}  {', '.join(words)}".rstrip())
        lines.append(f"  functions: {len(one.functions)}")
    sums = total(made)
    heads = ", ".join(f"{label} {sums[key]}" for label, key in ROWS)
    lines.append(f"{sums['delivered']} delivered: {heads}, kernel functions {sums['functions']}")
    return "\n".join(lines) + "\n"


def _requested(record: Record) -> list[tuple[int, int]]:
    """(vCPU, vector) whose IRR bit this event sets."""
    match record.event:
        case ev.SetIrr(vcpu, vector):
            return [(vcpu, vector)]
        case ev.AvicSetIrr(ident, vector):
            return [(ident, vector)]
        case ev.IommuPost(vector=vector):
            return [(s.vcpu, vector) for s in record.states if s.irr >> vector & 1][:1]
    return []


def _cause(records: Sequence[Record], at: int, vcpu: int, armed: set[int]) -> int:
    """The index of what an IRR bit was set for. ``armed``: timer writes that have had their interrupt."""
    record = records[at]
    if isinstance(record.event, ev.IommuPost) or any(frame.name == DEVICE for frame in record.stack):
        sent = last(records, at, lambda r: isinstance(r.event, ev.DeviceMsi))
        return at if sent is None else sent
    if any(frame.name in TIMER for frame in record.stack):
        return _timer_cause(records, at, vcpu, armed)
    for i in range(at - 1, -1, -1):
        event, same = records[i].event, (records[i].task, records[i].cpu) == (record.task, record.cpu)
        if not same:
            continue
        if isinstance(event, ev.KvmMsiSetIrq | ev.KvmSetIrq | ev.PitTick):
            return i
        if isinstance(event, ev.Instruction):
            before = instruction_before(records, i, event.vcpu_id)
            return before if before is not None and text_of(records[before]).startswith(ICR2) else i
    return at


def _timer_cause(records: Sequence[Record], at: int, vcpu: int, armed: set[int]) -> int:
    """The write that armed the timer; if it has served, as with a periodic timer, the host's interrupt, or its exit."""
    expired = last(records, at, lambda r: isinstance(r.event, ev.TimerPending) and r.event.vcpu_id == vcpu)
    wrote = last(records, at, lambda r: r.vcpu == vcpu and text_of(r).startswith(ARMS))
    if wrote is not None and wrote not in armed:
        armed.add(wrote)
        return wrote
    if expired is None:
        return at
    cpu = records[expired].cpu
    fired = last(records, expired, lambda r: r.cpu == cpu and isinstance(r.event, ev.HostIrq))
    if fired is None:
        return expired
    left = last(records, fired, lambda r: r.cpu == cpu and isinstance(r.event, ev.VmExit | ev.VmRun | ev.Block))
    return left if left is not None and isinstance(records[left].event, ev.VmExit) else fired


def bill_at(
    records: Sequence[Record], cause: int, vector: int, targets: Sequence[tuple[int, int]], kernel: Kernel
) -> Bill:
    """Of one interrupt that ``causes`` found."""
    ours: dict[int, Record] = {}
    requested = targets[-1][0]
    sender = (records[requested].task, records[requested].cpu)
    for i in range(cause, len(records)):  # the sender, until it goes on
        record = records[i]
        if (record.task, record.cpu) == sender:
            if i > requested and isinstance(record.event, NEXT):
                break
            ours[i] = record
    delivered = 0
    for begin, vcpu in targets:
        for i in range(cause, len(records)):
            record = records[i]
            own = record.vcpu == vcpu and (i >= begin or vcpu == records[cause].vcpu)
            if own or _signals(record, vcpu, begin, i, records[cause]):
                ours[i] = record
            if i > begin and own and isinstance(record.event, ev.HandlerEnter) and record.event.vector == vector:
                delivered += 1
            if i > begin and own and _ends(record, vcpu, vector):
                break
    kept = [ours[i] for i in sorted(ours)]
    called = sorted({name for record in kept for name in names(record.stack, kernel)})
    lists = {key: named(records, ours, key) for _, key in ROWS}
    text = text_of(records[cause]) or records[cause].event.kind
    return Bill(text, vector, tuple(vcpu for _, vcpu in targets), delivered, **lists, functions=tuple(called))


def _signals(record: Record, vcpu: int, begin: int, at: int, cause: Record) -> bool:
    """A signal to the target by somebody else: up to the request; of a posted interrupt, later, too."""
    posted = isinstance(cause.event, ev.DeviceMsi | ev.IommuPost)
    if not isinstance(record.event, SIGNALS) or (at > begin and not posted):
        return False
    match record.event:
        case ev.WakeUp(vcpu_id=whom):
            return whom == vcpu
        case ev.HostIpi(target_cpu=cpu):
            return any(s.vcpu == vcpu and s.cpu == cpu for s in record.states)
    return isinstance(record.event, ev.IommuPost)


def _ends(record: Record, vcpu: int, vector: int) -> bool:
    """The EOI: by KVM, by AVIC, or by the guest's PV EOI bit."""
    match record.event:
        case ev.ClearIsr(whom, which) | ev.AvicClearIsr(whom, which):
            return whom == vcpu and which == vector
        case ev.PvEoiByGuest(whom):
            isr = next((s.isr for s in record.states if s.vcpu == vcpu), 0)
            return whom == vcpu and isr.bit_length() - 1 == vector
    return False
