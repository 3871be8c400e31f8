"""Who plays in a story, in which lanes, and what each of them is doing at any moment."""

from __future__ import annotations

from dataclasses import dataclass, field

from kvmmodel import events as ev
from kvmmodel.machine.record import Record, VcpuState
from kvmmodel.trace.story import ApicState, Column, Group

HOST = "host"  # the heading of the scheduler's lane, where that lane stands alone
HOST_TIMER = "asm_sysvec_apic_timer_interrupt"
PIT_THREAD = "kvm-pit"
RAISERS = {"vmm": "VMM thread", PIT_THREAD: "PIT thread"}
CALLER = {"msi": "u.kvm", "extint": "u.kvm", "line": "ioapic"}  # where KVM's code runs for the raiser's thread
TARGET_COLUMNS = (("t.kvm", "kvm", "KVM"), ("t.hw", "hw", "hardware"), ("t.guest", "guest", "guest"))


@dataclass(slots=True)
class Cast:
    """``source``: ipi, timer, msi, line, extint, device, or program for all that one vCPU does. ``sender``: the vCPU
    that sends, if one does. ``raiser``: else the thread that brings the interrupt to KVM. ``also``: more vectors to
    follow. ``place``: where each vCPU is now."""

    source: str
    vector: int
    target: int
    target_cpu: int
    sender: int | None = None
    sender_cpu: int | None = None
    raiser: str = "vmm"
    also: frozenset[int] = frozenset()
    place: dict[int, str] = field(default_factory=dict)
    waker: bool = False  # the scheduler is about to run the target
    other: bool = False  # another thread has the target's CPU
    caller: bool = False  # the raiser is in the kernel
    acting: str | None = None  # with a device: the column where it, the IOMMU, the host's CPU or AVIC acts
    window: bool = False  # KVM has asked for an IRQ window
    asked: bool = False  # an event pass is requested
    timer_irq: bool = False  # the target's CPU is in the host timer's interrupt, on top of whatever it ran
    entering: bool = False  # the target has said that it is in the guest, VMRUN is still to come
    pending: bool = False  # the APIC timer has expired, and nobody has delivered it yet
    kick: bool = False  # a PV kick and its waiter are told: there is no vector
    left: bool = False  # the sender has left the entry loop since its last exit
    watched: set[str] = field(default_factory=set)  # what shall exit so that KVM hears of an NMI's or SMI's moment
    heard: bool = False  # the IRET of the NMI handler that was injected last has exited
    delivering: int | None = None  # the vCPU whose IRR was set last
    unit: int | None = None  # the vCPU whose processor's AVIC unit is at work
    unit_begins: bool = False  # it has just begun
    inhibits: int | None = None  # the mask that was traced last
    avic: bool = False  # a sender has found AVIC active on the target

    def prefix(self, vcpu: int) -> str:
        return "s" if vcpu == self.sender else "t"

    def follows(self, vector: int) -> bool:
        return vector == self.vector or vector in self.also

    def shown(self, vcpu: int | None) -> bool:
        return vcpu is not None and vcpu in (self.sender, self.target)


def groups(cast: Cast) -> tuple[Group, ...]:
    """Lanes, left to right: where the interrupt comes from, the host's scheduler, the target."""
    host = Group(HOST, (Column("sched", "sched", "scheduler"),))
    target = Group(f"vCPU {cast.target} · CPU {cast.target_cpu}", tuple(Column(*c) for c in TARGET_COLUMNS))
    if cast.source == "ipi" and cast.sender != cast.target:
        columns = tuple(Column("s" + name[1:], lane, label) for name, lane, label in reversed(TARGET_COLUMNS))
        return Group(f"vCPU {cast.sender} · CPU {cast.sender_cpu}", columns), host, target
    if cast.source == "msi":
        columns = (Column("dev", "dev", "device"), Column("u.kvm", "kvm", "KVM"))
        return Group(f"VMM thread · CPU {cast.sender_cpu}", columns), host, target
    if cast.source == "device":
        bus = Group("device", (Column("dev", "dev", "device"), Column("iommu", "dev", "IOMMU")))
        return bus, Group(f"CPU {cast.sender_cpu}", (Column("h.kvm", "kvm", "KVM"),)), host, target
    if cast.source == "line":
        return Group("line", (Column("dev", "dev", "device"), Column("ioapic", "kvm", "I/O APIC"))), target
    if cast.source == "extint":
        device = "PIT" if cast.raiser == PIT_THREAD else "device"
        columns = (Column("dev", "dev", device), Column("u.kvm", "kvm", "KVM"))
        return Group(f"{RAISERS[cast.raiser]} · CPU {cast.sender_cpu}", columns), target
    if cast.source == "timer":
        columns = (Column("dev", "dev", "host timer"), *host.columns)
        return Group(f"host · CPU {cast.target_cpu}", columns), target
    return (target,) if cast.source == "program" else (host, target)


def lane(cast: Cast, record: Record) -> str | None:
    """The column in which kernel code of a record runs, None for somebody who is not shown."""
    if cast.source == "timer" and cast.timer_irq and record.cpu == cast.target_cpu:
        return "dev"  # the hrtimer's callback is nobody's thread
    if cast.shown(record.vcpu):
        assert record.vcpu is not None
        return cast.prefix(record.vcpu) + ".kvm"
    if cast.source == "device" and record.cpu == cast.sender_cpu:
        return "h.kvm"
    if record.task == cast.raiser:
        return CALLER.get(cast.source)
    return "t.kvm" if record.cpu == cast.target_cpu else None


def begin(cast: Cast, states: tuple[VcpuState, ...]) -> None:
    """Where everybody is before the first step."""
    for state in states:
        running = "guest" if state.in_guest else "kvm"
        cast.place[state.vcpu] = running if state.thread == "running" else state.thread
    cast.other = cast.place.get(cast.target) == "runnable"


def follow(cast: Cast, record: Record) -> None:
    """Keep track of who runs where."""
    event = record.event
    _follow_unit(cast, record)
    match event:
        case ev.VmExit():
            cast.place[event.vcpu_id] = "kvm"
            cast.left = cast.left and event.vcpu_id != cast.sender
        case ev.SetMode(mode="OUTSIDE_GUEST_MODE") if event.vcpu_id == cast.sender:
            cast.left = True
        case ev.SetIrr():
            cast.delivering = event.vcpu_id
            cast.pending = cast.pending and event.vector != cast.vector
        case ev.VmRun():
            cast.place[event.vcpu_id] = "guest"
            cast.entering = False
        case ev.Block():
            cast.place[event.vcpu_id] = "blocked"
        case ev.SchedOut(preempted=True) if record.vcpu is not None:
            cast.place[record.vcpu] = "runnable"
            cast.other = record.vcpu == cast.target
        case ev.SchedIn() if record.vcpu is not None:
            cast.place[record.vcpu] = "kvm"
            if record.vcpu == cast.target:
                cast.waker = cast.other = False
        case ev.WakeUp() if event.vcpu_id == cast.target:
            cast.waker = True
        case ev.NmiWindow() if event.vcpu_id == cast.target:
            (cast.watched.add if event.open else cast.watched.discard)(event.by)
            cast.heard = cast.heard or (event.by == "iret" and not event.open)
        case ev.InjectNmi() if event.vcpu_id == cast.target:
            cast.heard = False
        case ev.ReadMode() if event.vcpu_id == cast.target:
            cast.avic = event.apicv_active
        case ev.AvicLookup() if event.apic_id == cast.target:
            cast.avic = True
        case ev.TimerPending() if event.vcpu_id == cast.target:
            cast.pending = True
    cast.caller = record.task == cast.raiser
    if cast.source == "device":
        cast.acting = _acting(cast, record)
    if record.cpu == cast.target_cpu:
        cast.timer_irq = any(f.name == HOST_TIMER for f in record.stack)


def _follow_unit(cast: Cast, record: Record) -> None:
    """The AVIC unit that was rung is at work until its CPU does something else; the sender's until it is done."""
    before, event = cast.unit, record.event
    match event:
        case ev.AvicSetIrr() | ev.AvicLookup() | ev.AvicDoorbell() | ev.AvicTake() | ev.AvicClearIsr() | ev.AvicTpr():
            cast.unit = record.vcpu
        case ev.AvicRing() if event.apic_id == cast.target:
            cast.unit = event.apic_id
        case ev.RingDoorbell() if event.vcpu_id == cast.target:
            cast.unit = event.vcpu_id
        case _ if cast.unit is not None and record.vcpu in (None, cast.unit):
            cast.unit = None
    cast.unit_begins = cast.unit != before


def bars(cast: Cast) -> tuple[tuple[str, str], ...]:
    """The column that each CPU runs in. A thread that sleeps, or waits for its CPU, is "blocked" in KVM."""
    found = []
    interrupted = cast.timer_irq and cast.source == "timer"
    for vcpu in dict.fromkeys((cast.sender, cast.target)):
        place = cast.place.get(vcpu) if vcpu is not None else None
        if vcpu is None or place is None:
            continue
        prefix = cast.prefix(vcpu) if cast.sender != cast.target else "t"
        running = place in ("guest", "kvm") and not interrupted
        found.append((f"{prefix}.{place if running else 'kvm'}", "runs" if running else "blocked"))
    if cast.unit is not None and cast.shown(cast.unit):
        prefix = cast.prefix(cast.unit) if cast.sender != cast.target else "t"
        found.append((f"{prefix}.hw", "runs"))
    if interrupted:
        found.append(("dev", "runs"))
    elif cast.waker or cast.other:
        found.append(("sched", "runs"))
    if cast.caller and cast.source in CALLER:
        found.append((CALLER[cast.source], "runs"))
    if cast.acting is not None and (cast.acting, "runs") not in found:
        found.append((cast.acting, "runs"))
    return tuple(found)


def _acting(cast: Cast, record: Record) -> str | None:
    """In a device's story: who acts beside the target's own thread and guest."""
    match record.event:
        case ev.DeviceMsi():
            return "dev"
        case ev.IommuPost() | ev.IommuGaLog():
            return "iommu"
        case ev.AvicDoorbell() | ev.AvicTake() | ev.AvicClearIsr():
            return "t.hw"
    if record.cpu != cast.sender_cpu:
        return None
    return "sched" if record.event.lane == "sched" else "h.kvm"


def states(cast: Cast, record: Record) -> tuple[ApicState, ...]:
    """The APICs shown: the sender's, if another vCPU sends, and the target's."""
    wanted = [v for v in dict.fromkeys((cast.sender, cast.target)) if v is not None]
    return tuple(_state(s) for v in wanted for s in record.states if s.vcpu == v)


def _state(s: VcpuState) -> ApicState:
    apic = (s.irr, s.isr, s.tmr, s.tpr, s.ppr)
    return ApicState(s.vcpu, s.cpu, *apic, s.mode, s.requests, s.thread, s.gif, s.nmi_blocked, s.nmis, s.smm)
