"""The scenario file that the delivery lab's choices stand for: source, its target's state, the APIC's mode, an inhibit.

The text is what a reader edits and may save for ``kvmmodel run``. One vector, one cause; what else a scenario can hold,
such as handlers that send more, readers add themselves.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

SOURCES = (
    ("IPI to one vCPU", "ipi"),
    ("IPI, logical", "logical"),
    ("IPI to all others", "others"),
    ("IPI to itself", "self"),
    ("PV IPI", "pv"),
    ("NMI by IPI", "nmi"),
    ("MSI", "msi"),
    ("MSI by irqfd", "irqfd"),
    ("passed-through device", "device"),
    ("SMI", "smi"),
    ("TSC-deadline timer", "deadline"),
    ("one-shot timer", "oneshot"),
    ("periodic timer", "periodic"),
    ("IOAPIC pin, edge", "edge"),
    ("IOAPIC pin, level", "level"),
    ("8259, ExtINT", "extint"),
)
STATES = (
    ("in guest", "in-guest"),
    ("IF clear", "masked"),
    ("halted", "halted"),
    ("in host", "in-host"),
    ("preempted", "preempted"),
)
APICS = (("x2APIC", "x2apic"), ("xAPIC", "xapic"))
INHIBITS = (
    ("none", "none"),
    ("PIT that reinjects", "pit"),
    ("APIC ID changed", "id"),
    ("APIC base moved", "base"),
)
EXIT = "vmmcall 1 0 0 0 0"  # exits whatever the APIC's mode and AVIC, and asks for nothing
HYPERCALL = "kvm_hypercall"
TICKS = {"deadline": "TSC-deadline timer", "oneshot": "one-shot APIC timer", "periodic": "periodic APIC timer"}
PIN = ("mmio_write 0xfec00000 0x39", "mmio_write 0xfec00010 0", "mmio_write 0xfec00000 0x38")
CHIP = ("outb 0x20 0x11", "outb 0x21 0x30", "outb 0x21 4", "outb 0x21 1", "outb 0x4d0 0x20", "outb 0x21 0xdf")
WHERE = {
    "in-guest": "in guest mode",
    "masked": "with IF clear",
    "halted": "that is halted",
    "in-host": "that KVM handles an exit for",
    "preempted": "whose thread is preempted",
}
PREEMPTED = "# Another thread of the host wants CPU 5 and keeps it for a while."
SENDERS = ("ipi", "logical", "others", "pv", "nmi")


class Nonsense(ValueError):
    """Choices that make no sense together: why, in one line."""


@dataclass(slots=True)
class File:
    """A scenario while it is put together. ``programs`` by vCPU; ``rest``: the tables after them, as text."""

    title: str
    vcpus: int
    pcpus: tuple[int, ...]
    programs: dict[int, list[str]]
    idt: str = ""
    handlers: dict[str, list[str]] = field(default_factory=dict)
    rest: list[str] = field(default_factory=list)


def scenario_text(source: str, state: str, apic: str, inhibit: str) -> str:
    """The file. All four are values of the choices above. Errors: Nonsense."""
    x2apic = apic == "x2apic"
    if source in SENDERS:
        made = _sent(source, state, x2apic)
    elif source == "self":
        made = _to_itself(state, x2apic)
    elif source in TICKS:
        made = _timer(source, state, x2apic)
    else:
        made = _from_outside(source, state)
    made.programs[0] = [*_reason(inhibit, x2apic), *made.programs[0]]
    text = _toml(made, x2apic, inhibit == "pit")
    return _readdressed(text) if inhibit == "id" else text


def _reason(inhibit: str, x2apic: bool) -> list[str]:
    """What the guest does so that AVIC is inhibited; it then goes on as before."""
    if inhibit == "id" and x2apic:
        raise Nonsense("An x2APIC's ID is read-only, so it cannot change: choose xAPIC, or another inhibit.")
    return {
        "id": ["mmio_write 0xfee00020 0x7000000"],
        "base": [f"wrmsr APIC_BASE {base | (0xD00 if x2apic else 0x900):#x}" for base in (0xFEE01000, 0xFEE00000)],
    }.get(inhibit, [])


def _readdressed(text: str) -> str:
    """What comes from outside is for APIC ID 7 then."""
    for command in ("signal_msi", "route_msi 24"):
        text = text.replace(f"{command} 0xfee00000", f"{command} 0xfee07000")
    return text.replace('"mmio_write 0xfec00010 0"', '"mmio_write 0xfec00010 0x7000000"')


# -- sources -----------------------------------------------------------------------------------------------------------


def _sent(source: str, state: str, x2apic: bool) -> File:
    """By vCPU 0 to vCPU 1."""
    low = {"ipi": 0x43, "logical": 0x843, "others": 0xC0043, "nmi": 0x4400}.get(source, 0)
    to = 0 if source == "others" else 2 if source == "logical" else 1
    if source == "pv":
        send = ["pv_send_ipi 0b10 0x43"]
    elif x2apic:
        send = [f"wrmsr ICR {f'{to:#x}_{low:08x}' if to else hex(low)}"]
    else:
        send = [*([f"mmio_write 0xfee00310 {to << 24:#x}"] if to else []), f"mmio_write 0xfee00300 {low:#x}"]
    what = {
        "ipi": "An IPI",
        "logical": "An IPI by logical destination",
        "others": "An IPI to all others, one of them",
        "pv": "A PV IPI",
        "nmi": "An NMI",
    }[source]
    waits = {"in-guest": 2000, "masked": 5000, "halted": 20000, "in-host": 2000, "preempted": 8000}[state]
    title = f"{what} {'' if source == 'others' else 'to a vCPU '}{WHERE[state]}"
    vcpus, pcpus = (3, (2, 5, 6)) if source == "others" else (2, (2, 5))
    target = _program(state, 0x43, [], nmi=source == "nmi")
    made = File(title, vcpus, pcpus, {0: [f"spin {waits}", *send], 1: target})
    if source == "logical" and not x2apic:  # an x2APIC's logical ID comes of its ID, an xAPIC's guest writes it
        for vcpu, program in made.programs.items():
            program.insert(0, f"mmio_write 0xfee000d0 {1 << 24 + vcpu:#x}")
    if state == "preempted":
        made.rest = [PREEMPTED, _rule("start = true", "burn 5 20000")]
    if state == "in-host":
        made.rest = [
            "# KVM handles a hypercall of vCPU 1; before that goes on, vCPU 0 sends and is done.",
            _race(1, "0", "instruction"),
        ]
    return made


def _to_itself(state: str, x2apic: bool) -> File:
    if state not in ("in-guest", "masked"):
        raise Nonsense("A vCPU that sends an IPI to itself is in the guest: choose “in guest” or “IF clear”.")
    send = "wrmsr SELF_IPI 0x41" if x2apic else "mmio_write 0xfee00300 0x40041"
    program = [send, "nop"] if state == "in-guest" else ["cli", send, "nop", "sti", "nop"]
    return File(f"An IPI to itself, {'IF set' if state == 'in-guest' else 'IF clear'}", 1, (5,), {0: program})


def _timer(source: str, state: str, x2apic: bool) -> File:
    vector = 0xE1 if source == "deadline" else 0xE2

    def register(name: str, offset: int, value: int) -> str:
        return f"wrmsr {name} {value:#x}" if x2apic else f"mmio_write {0xFEE00000 | offset:#x} {value:#x}"

    if source == "deadline":
        arm = [register("LVTT", 0x320, 0x40000 | vector), f"deadline {30000 if state != 'in-host' else 20000}"]
    else:
        mode, count = (0x20000, 300_000) if source == "periodic" else (0, 20_000)
        arm = [
            register("TDCR", 0x3E0, 0xB),
            register("LVTT", 0x320, mode | vector),
            register("TMICT", 0x380, count),
        ]
    early = {"deadline": 17_500, "oneshot": 19_300, "periodic": 299_300}[source]
    long = 320_000 if source == "periodic" else 60_000
    program = {
        "in-guest": [*arm, f"busy {vector:#x} 1"],
        "halted": [*arm, f"wait {vector:#x} 1"],
        "masked": ["cli", *arm, f"spin {long}", "sti", f"busy {vector:#x} 1"],
        "in-host": [*arm, f"spin {early}", EXIT, f"busy {vector:#x} 1"],
        "preempted": [*arm, f"busy {vector:#x} 1"],
    }[state]
    if source == "periodic":
        program += [register("LVTT", 0x320, 0x10000), register("TMICT", 0x380, 0)]
    made = File(f"The {TICKS[source]}, for a vCPU {WHERE[state]}", 1, (5,), {0: program})
    if state == "preempted":
        burn = 1_000_000 if source == "periodic" else 60_000
        made.rest = [PREEMPTED, _rule('vcpu = 0, event = "timer_armed"', f"burn 5 {burn}")]
    return made


@dataclass(frozen=True, slots=True)
class Outside:
    """What comes from outside the guest. ``until``: the event by which it has reached KVM. ``ready``: what the guest
    does first. ``start``: what userspace does first."""

    title: str
    vector: int
    do: tuple[str, ...]
    until: str = "set_irr"
    ready: tuple[str, ...] = ()
    start: tuple[str, ...] = ()


OUTSIDE = {
    "msi": Outside("An MSI", 0x63, ("signal_msi 0xfee00000 0x63",)),
    "irqfd": Outside("An MSI by irqfd", 0x63, ("eventfd 24",), start=("route_msi 24 0xfee00000 0x63",)),
    "smi": Outside("An SMI", 0x20, ("signal_msi 0xfee00000 0x200",), "request"),
    "device": Outside("A device's MSI", 0x63, ("device_interrupt 24",), "set_irr", ("mark MSI on",)),
    "edge": Outside(
        "An edge at a pin of the IOAPIC", 0x62, ("irq_line 20 1", "irq_line 20 0"), "set_irr",
        (*PIN, "mmio_write 0xfec00010 0x62"),
    ),
    "level": Outside(
        "A level line of the IOAPIC", 0x62, ("irq_line 20 1",), "set_irr", (*PIN, "mmio_write 0xfec00010 0x8062")
    ),
    "extint": Outside("A line of the 8259", 0x35, ("irq_line 5 1",), "pic_line", CHIP),
}  # fmt: skip


def _from_outside(source: str, state: str) -> File:
    """To vCPU 0, which has set up what it needs."""
    come = OUTSIDE[source]
    program = [*come.ready, *_program(state, come.vector, ["nop"], nmi=source == "smi")]
    made = File(f"{come.title}, for a vCPU {WHERE[state]}", 1, (5,), {0: program})
    if come.start:
        made.rest.append(_rule("start = true", *come.start))
    if source == "device":
        made.rest += [
            "# The guest's driver sets the message up, and userspace hands the device's interrupt over to KVM.",
            _rule('mark = "MSI on"', "route_msi 24 0xfee00000 0x63", "assign_device 24"),
        ]
    if source in ("level", "extint"):
        line = 20 if source == "level" else 5
        end = "eoi" if source == "level" else "outb 0x20 0x20"
        made.handlers, made.idt = {"serve": ["mark served", end]}, f'{{ "{come.vector:#x}" = "serve" }}'
        made.rest += [
            "# The device is the VMM's: the handler's write to its port takes the line down.",
            _rule('mark = "served"', f"irq_line {line} 0"),
        ]
    made.rest += _when(source, state, come)
    return made


def _when(source: str, state: str, come: Outside) -> list[str]:
    """When it comes."""
    nop = 'event = "instruction", text = "NOP"'
    if state == "halted":
        return [_rule("vcpu = 0, halted = true", *come.do)]
    if state == "preempted":
        return [
            "# Another thread takes CPU 5; once the vCPU's thread is off it, it comes.",
            _rule(nop, "burn 5 20000"),
            _rule('vcpu = 0, event = "sched_out"', *come.do),
        ]
    if state == "in-host":
        return [
            "# KVM handles a hypercall of the vCPU; before that goes on, the other side has done its part.",
            _rule(f'vcpu = 0, event = "{HYPERCALL}"', *come.do),
            _race(0, '"userspace"', come.until),
        ]
    return [_rule(nop, *come.do)]


def _program(state: str, vector: int, first: list[str], *, nmi: bool = False) -> list[str]:
    """The target's. An NMI or SMI is not counted by its vector, and asks for no IF."""
    until = ["spin 20000"] if nmi else [f"busy {vector:#x} 1"]
    return {
        "in-guest": [*first, *until],
        "masked": ["cli", *first, "spin 20000", "sti", *([] if nmi else until)],
        "halted": ["hlt" if nmi else f"wait {vector:#x} 1"],
        "in-host": ["spin 1000", EXIT, *until],
        "preempted": [*first, *until],
    }[state]


# -- as text -----------------------------------------------------------------------------------------------------------


def _rule(when: str, *do: str) -> str:
    return f"[[userspace]]\nwhen = {{ {when} }}\ndo = {_array(do)}"


def _race(vcpu: int, run: str, until: str) -> str:
    return f'[[race]]\nat = {{ vcpu = {vcpu}, event = "{HYPERCALL}" }}\nrun = {run}\nuntil = "{until}"'


def _array(rows: Iterable[str]) -> str:
    """On one line if it is short, else two to a line."""
    items = [f'"{row}"' for row in rows]
    line = f"[{', '.join(items)}]"
    if len(line) <= 68:
        return line
    pairs = [", ".join(items[i : i + 2]) for i in range(0, len(items), 2)]
    return "[\n" + "".join(f"  {pair},\n" for pair in pairs) + "]"


def _toml(made: File, x2apic: bool, pit: bool) -> str:
    vm = [f"vcpus = {made.vcpus}", f"pcpus = {list(made.pcpus)}", "boot = true"]
    vm += [] if x2apic else ["x2apic = false"]
    vm += ['pit = "reinject"'] if pit else []
    blocks = [f'title = "{made.title}"', "\n".join(["[vm]", *vm])]
    for vcpu, program in made.programs.items():
        rows = [f"[vcpu.{vcpu}]", f"program = {_array(program)}"]
        blocks.append("\n".join([*rows, *([f"idt = {made.idt}"] if made.idt and vcpu == 0 else [])]))
    if made.handlers:
        blocks.append("\n".join(["[handlers]", *(f"{name} = {_array(body)}" for name, body in made.handlers.items())]))
    text = "\n\n".join([*blocks, *made.rest])
    return re.sub(r"^(# .*)\n\n", r"\1\n", text, flags=re.MULTILINE) + "\n"
