"""A guest that sees Hyper-V, as QEMU's options show it, run on a kernel: what inhibits AVIC then, and what work costs.

QEMU decides what the guest is told (CPUID 0x40000004), the guest does as it was told, KVM does the rest. QEMU's part is
after its target/i386/kvm/kvm.c since hv-avic exists (6.2); the guest's after mails, published counts, the specification
and inference: no Windows was recorded or read. A guest with a SynIC has two sources: one for timers, whose interrupts
it ends as any other (published counts), and one with AutoEOI unless it is told not to (mails), which nothing uses here.
Vectors and the number of ticks are the model's.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from kvmmodel import events as ev
from kvmmodel.facts.inhibits import reasons
from kvmmodel.facts.releases import kernel as release
from kvmmodel.guest.program import parse
from kvmmodel.guest.windows import STIMER0_CONFIG
from kvmmodel.kvm.hv_cpuid import (
    HV_DEPRECATING_AEOI_RECOMMENDED,
    HV_X64_APIC_ACCESS_RECOMMENDED,
    kvm_get_hv_cpuid,
)
from kvmmodel.machine.boot import boot_guest
from kvmmodel.machine.host import Host
from kvmmodel.machine.record import Record
from kvmmodel.machine.vm import Vm
from kvmmodel.widgets.inhibit_run import Board, Moment, creation, own_reasons, step

COUNT = 10
PERIOD_NS, APART_NS = 100_000, 20_000
IPI, RTC = 0x41, 0x61
TICK = {"message": 0xD1, "direct": 0xE1, "off": RTC}  # by what ticks
SIMP, ASSIST = 0x9000, 0x8000
SINT, OTHER_SINT, OTHER_VECTOR = 3, 2, 0xD2
AUTO_EOI, AUTO_ENABLE, DIRECT = 1 << 17, 1 << 3, 1 << 12
RTC_PIN, RTC_INDEX, RTC_DATA, REG_C = 8, 0x70, 0x71, 0xC
PIC_MASKS = (0x21, 0xA1)
IOREGSEL, IOWIN = 0xFEC00000, 0xFEC00010
RULE = "no-autoeoi-inhibit"


@dataclass(frozen=True, slots=True)
class Options:
    """What a VM is given. ``stimer``: off, message or direct; ``obeys``: the guest does without AutoEOI if told to."""

    kernel: str = "6.18"
    synic: bool = True
    stimer: str = "message"
    avic: bool = False
    vapic: bool = True
    pit: str = "delay"
    x2apic: bool = True
    svm: bool = True
    obeys: bool = True


@dataclass(frozen=True, slots=True)
class Cost:
    """Of one piece of work: how many of COUNT arrived, and what it took."""

    handled: int
    exits: Counter[str]
    userspace: int
    host_ipis: int
    doorbells: int
    injected: int  # by KVM
    taken: int  # by AVIC
    traced: Counter[str]  # how often each tracepoint


@dataclass(frozen=True, slots=True)
class Result:
    """``asked``: the options as they were; ``given``: without what QEMU ``refused``, each with its words.

    ``recommended``: CPUID 0x40000004 EAX; ``auto_eoi``, ``by_msr``: what the guest made of it.
    """

    asked: Options
    given: Options
    refused: tuple[str, ...]
    recommended: int
    auto_eoi: bool
    by_msr: bool
    broken: bool
    board: Board
    active: tuple[bool, ...]
    ipis: Cost
    ticks: Cost
    stuck: bool


def allowed(options: Options) -> tuple[Options, tuple[str, ...]]:
    """What QEMU starts a VM with, and what it says of the rest: it does not start then."""
    given, refused = options, list[str]()
    if options.stimer != "off" and not options.synic:
        given = replace(given, stimer="off")
        refused.append("`hv-stimer` requires `hv-synic`")
    if options.avic and not kvm_get_hv_cpuid(release(options.kernel)) & HV_DEPRECATING_AEOI_RECOMMENDED:
        given = replace(given, avic=False)
        refused.append("`hv-avic` is not supported by this kernel")
    return given, tuple(refused)


def recommended(options: Options) -> int:
    """CPUID 0x40000004 EAX as QEMU fills it: hv-avic takes back what hv-vapic recommends."""
    bits = HV_DEPRECATING_AEOI_RECOMMENDED if options.avic else 0
    return bits | (HV_X64_APIC_ACCESS_RECOMMENDED if options.vapic and not options.avic else 0)


def set_up(options: Options, broken: bool = False) -> tuple[Vm, list[Moment]]:
    """The VM, its guest up and its SynIC configured; and how its inhibits came about."""
    host = Host("zen4", options.kernel, avic=True, halt_poll_ns=0)
    rules = (RULE,) if broken else ()
    vm = host.create_vm(
        2, x2apic=options.x2apic, svm=options.svm, hyperv=True, hyperv_synic=options.synic, broken=rules
    )
    moments = creation(vm)
    moments.append(step(vm, "create PIT", lambda made: made.create_pit2()))
    if options.pit == "discard":
        moments.append(step(vm, "PIT discards", lambda made: made.reinject_control(False)))
    moments.append(step(vm, "guest boots", _boot))
    start = _start(options, broken)
    if start:
        moments.append(step(vm, "guest sets up Hyper-V", lambda made: _everywhere(made, start)))
    return vm, moments


def _boot(vm: Vm) -> None:
    """With all lines of the 8259s masked, as an OS that uses the IOAPIC leaves them."""
    for port in PIC_MASKS:
        vm.vcpus[0].guest.outb(port, 0xFF)
    boot_guest(vm)


def uses_auto_eoi(options: Options) -> bool:
    told = recommended(options) & HV_DEPRECATING_AEOI_RECOMMENDED
    return options.synic and not (told and options.obeys)


def uses_msrs(options: Options) -> bool:
    return recommended(options) & HV_X64_APIC_ACCESS_RECOMMENDED != 0


def _start(options: Options, broken: bool) -> tuple[str, ...]:
    """What each vCPU of the guest writes first. ``broken``: the timers' source has AutoEOI, too, so that it is used."""
    lines = []
    if options.synic:
        auto = AUTO_EOI if uses_auto_eoi(options) else 0
        timers = TICK["message"] | (auto if broken else 0)
        lines += [f"wrmsr HV_SIMP {SIMP:#x} + vCPU", f"wrmsr HV_SINT{SINT} {timers:#x}"]
        lines.append(f"wrmsr HV_SINT{OTHER_SINT} {OTHER_VECTOR | auto:#x}")
    if uses_msrs(options):
        lines.append(f"hv_assist_on {ASSIST:#x} + vCPU")
    return tuple(lines)


def _everywhere(vm: Vm, lines: Sequence[str]) -> None:
    """On each vCPU, which has pages of its own."""
    for number in range(len(vm.vcpus)):
        own = []
        for line in lines:
            words, _, mine = line.partition(" + ")
            *head, last = words.split()
            own.append(" ".join([*head, hex(int(last, 0) + number * 0x10000 + ("SIMP" in line))]) if mine else line)
        vm.execute(number, tuple(own))
    vm.run()


def run(options: Options, broken: bool = False) -> Result:
    """Make the VM, then 10 IPIs to a vCPU that is busy, then 10 ticks of the guest's clock while it is idle."""
    given, refused = allowed(options)
    vm, moments = set_up(given, broken)
    _handlers(vm, given, broken)
    _clock(vm, given)
    vm.trace.stacks = False
    ipis = _measure(vm, _send_ipis, given, 1, IPI)
    ticks = _measure(vm, _rtc_ticks if given.stimer == "off" else _stimer_ticks, given, 0, TICK[given.stimer])
    board = Board(vm.host, reasons(vm.host.kernel), vm.inhibits, own_reasons(vm), tuple(moments))
    active = tuple(vcpu.apicv_active for vcpu in vm.vcpus)
    stuck = ipis.handled < COUNT or ticks.handled < COUNT
    auto_eoi, by_msr, told = uses_auto_eoi(given), uses_msrs(given), recommended(given)
    return Result(options, given, refused, told, auto_eoi, by_msr, broken, board, active, ipis, ticks, stuck)


def _handlers(vm: Vm, options: Options, broken: bool) -> None:
    end = "hv_eoi" if uses_msrs(options) else "eoi"
    tick = () if broken and uses_auto_eoi(options) and options.stimer == "message" else (end,)
    message = (f"hv_message {SIMP:#x} {SINT}",) if options.stimer == "message" else ()
    clock = (f"outb {RTC_INDEX:#x} {REG_C:#x}", f"inb {RTC_DATA:#x}", end)
    bodies = {"ipi": (end,), "tick": (*message, *tick), "rtc": clock}
    vm.world.bodies |= {name: tuple(map(parse, lines)) for name, lines in bodies.items()}
    for vcpu in vm.vcpus:
        vm.world.idt[vcpu.id] = {IPI: "ipi", RTC: "rtc"} | {TICK[kind]: "tick" for kind in ("message", "direct")}


def _send_ipis(vm: Vm, options: Options) -> None:
    """With time between them, so that each is over before the next."""
    icr = (1 << 32 if options.x2apic else 1 << 56) | IPI
    send: tuple[str, ...] = ("mmio_write 0xfee00310 0x1000000", f"mmio_write 0xfee00300 {IPI:#x}")
    if uses_msrs(options) or options.x2apic:
        send = (f"wrmsr {'HV_ICR' if uses_msrs(options) else 'ICR'} {icr:#x}",)
    vm.execute(1, (f"spin {COUNT * APART_NS}",))
    vm.execute(0, (*send, f"spin {APART_NS}") * COUNT)
    vm.run()


def _stimer_ticks(vm: Vm, options: Options) -> None:
    ticks = (
        line for n in range(COUNT) for line in (f"hv_deadline 0 {PERIOD_NS}", f"wait {TICK[options.stimer]:#x} {n + 1}")
    )
    vm.execute(0, ("nop", *ticks))  # the first instruction is fetched at once, a deadline needs the time of its own
    vm.run()


def _rtc_ticks(vm: Vm, options: Options) -> None:
    """Userspace has the RTC: it moves the line of IRQ 8, and answers the reads that the handler makes to go on."""
    for n in range(COUNT):
        vm.execute(0, (f"wait {RTC:#x} {n + 1}",))
        vm.run()
        for level in (True, False):
            vm.irq_line(RTC_PIN, level)
        vm.run()


def _clock(vm: Vm, options: Options) -> None:
    """Set up what will tick: a timer of Hyper-V's, or the IOAPIC's pin of the RTC, edge-triggered."""
    guest = vm.vcpus[0].guest
    if options.stimer != "off":
        to = DIRECT | TICK["direct"] << 4 if options.stimer == "direct" else SINT << 16
        guest.wrmsr(STIMER0_CONFIG, AUTO_ENABLE | to)
        return
    entry = 0x10 + 2 * RTC_PIN
    for register, value in ((entry + 1, 0), (entry, RTC)):
        guest.mmio_write(IOREGSEL, register)
        guest.mmio_write(IOWIN, value)


def _measure(vm: Vm, work: Callable[[Vm, Options], None], options: Options, who: int, vector: int) -> Cost:
    start = len(vm.trace.records)
    work(vm, options)
    return cost(vm.trace.records[start:], who, vector)


def cost(records: Sequence[Record], who: int, vector: int) -> Cost:
    """Of these events; ``who`` takes ``vector``."""
    events = [record.event for record in records]
    exits = Counter(event.reason for event in events if isinstance(event, ev.KvmExit))

    def count(*kinds: type[ev.Event]) -> int:
        return sum(isinstance(event, kinds) for event in events)

    handled = sum(isinstance(e, ev.HandlerEnter) and e.vcpu_id == who and e.vector == vector for e in events)
    doorbells = count(ev.RingDoorbell, ev.AvicRing)
    return Cost(
        handled,
        exits,
        count(ev.KvmUserspaceExit),
        count(ev.HostIpi),
        doorbells,
        count(ev.KvmInjVirq),
        count(ev.AvicTake),
        Counter(event.tracepoint for event in events if event.tracepoint),
    )
