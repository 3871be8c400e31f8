"""Programs as text: one step a line, each a machine instruction or a short loop of them. Also handlers.

``COMMANDS`` is the whole language; docs and error messages are made from it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache

from kvmmodel.guest import linux, windows
from kvmmodel.guest.cpu import GuestCpu
from kvmmodel.guest.insn import Code, Insn
from kvmmodel.silicon import apic as hw

PORT_MARK, PORT_HOST = 0xE0, 0xE1
# Steps that something else has to end; a worker may well stay in sleep.
WAITING = ("busy", "wait", "seen", "until", "pv_wait")

# Registers by the names that people use; x2APIC registers are MSRs 0x800 + offset / 16.
MSR_NAMES = {
    name.removeprefix("APIC_"): hw.APIC_BASE_MSR + (offset >> 4) for offset, name in hw.REGISTER_NAMES.items()
} | {
    "TPR": 0x808,
    "PPR": 0x80A,
    "SVR": 0x80F,
    "APIC_BASE": hw.MSR_IA32_APICBASE,
    "TSC_DEADLINE": hw.MSR_IA32_TSC_DEADLINE,
    "PV_EOI_EN": hw.MSR_KVM_PV_EOI_EN,
    "EFER": 0xC0000080,
    **windows.MSR_NAMES,
}


@dataclass(slots=True)
class World:
    """What the programs of one VM share: named counters, marks as numbers, and each vCPU's handlers."""

    counters: dict[str, int] = field(default_factory=dict)
    marks: list[str] = field(default_factory=list)
    bodies: dict[str, tuple[Step, ...]] = field(default_factory=dict)
    idt: dict[int, dict[int, str]] = field(default_factory=dict)  # vCPU -> vector -> name of a body
    guests: list[GuestCpu] = field(default_factory=list)
    log: list[tuple[str, int]] = field(default_factory=list)  # what guests noted, in order
    waits: dict[tuple[int, int], Step] = field(default_factory=dict)  # (vCPU, level) -> what it waits in
    pv_eoi: dict[int, int] = field(default_factory=dict)  # vCPU -> address of its PV EOI cell, or VP assist page


@dataclass(frozen=True, slots=True)
class Step:
    """A parsed line: a command and its operands."""

    command: str
    args: tuple[int | str, ...] = ()

    def __str__(self) -> str:
        return " ".join(map(str, (self.command, *self.args)))


@dataclass(frozen=True, slots=True)
class Command:
    """``args``: what each operand is: msr, n (number), mask (a number of any length), name, vectors, text."""

    args: tuple[str, ...]
    does: str
    run: Callable[..., Code]


def number(text: str) -> int:
    """Decimal or 0x hexadecimal, underscores allowed. ValueError otherwise."""
    return int(text, 0)


@cache
def parse(line: str) -> Step:
    """One line of a program. ValueError, in words, if it is not in the language."""
    command, *words = line.split() or [""]
    spec = COMMANDS.get(command)
    if spec is None:
        raise ValueError(f"unknown instruction {command!r}: expected one of {', '.join(COMMANDS)}")
    if spec.args and spec.args[-1] == "text":
        words = [*words[: len(spec.args) - 1], " ".join(words[len(spec.args) - 1 :])]
    if len(words) != len(spec.args):
        raise ValueError(
            f"{command!r} takes {' '.join(spec.args).upper() or 'nothing'}, got {' '.join(words) or 'nothing'!r}"
        )
    return Step(command, tuple(_operand(kind, word) for kind, word in zip(spec.args, words, strict=True)))


def _operand(kind: str, word: str) -> int | str:
    if kind == "msr" and word in MSR_NAMES:
        return MSR_NAMES[word]
    if kind in ("msr", "n"):
        try:
            value = number(word)
            if not 0 <= value < 1 << 64:
                raise ValueError
            return value
        except ValueError:
            names = f" or one of {', '.join(MSR_NAMES)}" if kind == "msr" else ""
            raise ValueError(f"expected a number{names}, got {word!r}") from None
    if kind == "mask":
        try:
            return max(number(word), 0)
        except ValueError:
            raise ValueError(f"expected a bitmap as a number, got {word!r}") from None
    if kind == "vectors":
        vectors(word)
    return word


def vectors(text: str) -> range:
    """ "0x40" or "0x40-0x4f" as a range. ValueError outside 0 to 255."""
    first, _, last = text.partition("-")
    found = range(number(first), number(last or first) + 1)
    if not found or found[0] < 0 or found[-1] > 255:
        raise ValueError(f"expected a vector or a range of vectors, got {text!r}")
    return found


def program(guest: GuestCpu, world: World, steps: tuple[Step, ...]) -> Code:
    """The instructions of a program."""
    level = len(guest.levels)
    for step in steps:
        if step.command in WAITING:
            world.waits[guest.ident, level] = step
        yield from COMMANDS[step.command].run(guest, world, *step.args)
        world.waits.pop((guest.ident, level), None)


def handler(guest: GuestCpu, world: World, vector: int) -> Code:
    """The instructions of a vector's handler: by default, EOI and return."""
    name = world.idt.get(guest.ident, {}).get(vector, "none" if vector == 2 else "eoi")
    yield from program(guest, world, world.bodies[name])


def smi_handler(guest: GuestCpu, world: World) -> Code:
    """What runs in SMM: the body "smi"; KVM's emulation of RSM follows it."""
    yield from program(guest, world, world.bodies["smi"])


def _one(op: str) -> Callable[..., Code]:
    def run(guest: GuestCpu, world: World, a: int = 0, b: int = 0) -> Code:
        yield Insn(op, a, b)

    return run


def _driver(act: Callable[..., Code]) -> Callable[..., Code]:
    """A function of the guest's APIC driver as a command."""

    def run(guest: GuestCpu, world: World, *args: int) -> Code:
        yield from act(guest, *args)

    return run


def _pv_eoi(guest: GuestCpu, world: World) -> Code:
    yield from linux.kvm_guest_apic_eoi_write(guest, world.pv_eoi.get(guest.ident))


def _pv_eoi_on(guest: GuestCpu, world: World, address: int) -> Code:
    world.pv_eoi[guest.ident] = address
    yield Insn("wrmsr", hw.MSR_KVM_PV_EOI_EN, address | 1)


def _pv_eoi_off(guest: GuestCpu, world: World) -> Code:
    world.pv_eoi.pop(guest.ident, None)
    yield Insn("wrmsr", hw.MSR_KVM_PV_EOI_EN, 0)


def _pv_eoi_forget(guest: GuestCpu, world: World) -> Code:
    """The guest's own note only; the MSR stays as it is."""
    world.pv_eoi.pop(guest.ident, None)
    yield Insn("nop", show=False)


def _hv_eoi(guest: GuestCpu, world: World) -> Code:
    yield from windows.eoi(guest, world.pv_eoi.get(guest.ident))


def _hv_assist_on(guest: GuestCpu, world: World, page: int) -> Code:
    world.pv_eoi[guest.ident] = page
    yield Insn("wrmsr", windows.VP_ASSIST_PAGE, page | 1)


def _spin(guest: GuestCpu, world: World, ns: int) -> Code:
    yield Insn("pause", end=guest.now() + ns, show=False)


def _busy(guest: GuestCpu, world: World, vector: int, count: int) -> Code:
    yield Insn("pause", test=lambda: guest.handled[vector] >= count, show=False)


def _seen(guest: GuestCpu, world: World, vector: int, count: int) -> Code:
    yield Insn("pause", test=lambda: sum(g.handled[vector] for g in world.guests) >= count, show=False)


def _sleep(guest: GuestCpu, world: World, name: str, value: int) -> Code:
    while True:
        yield Insn("cli", show=False)
        if world.counters.get(name, 0) == value:
            break
        yield Insn("sti", show=False)
        yield Insn("hlt")
    yield Insn("sti", show=False)


def _wait(guest: GuestCpu, world: World, vector: int, count: int) -> Code:
    """Sleep until it was handled; CLI before the test and STI right before HLT, so that no interrupt slips between."""
    while True:
        yield Insn("cli", show=False)
        if guest.handled[vector] >= count:
            break
        yield Insn("sti", show=False)
        yield Insn("hlt")
    yield Insn("sti", show=False)


def _vmmcall(guest: GuestCpu, world: World, nr: int, *args: int) -> Code:
    yield Insn("vmmcall", nr, args=args)


def _pv_wait(guest: GuestCpu, world: World, name: str, value: int) -> Code:
    """As the waiter for a lock does it: what it was woken by may have been something else."""
    while world.counters.get(name, 0) == value:
        yield from linux.kvm_wait(guest, lambda: world.counters.get(name, 0), value)


def _set(guest: GuestCpu, world: World, name: str, value: int) -> Code:
    world.counters[name] = value
    yield Insn("nop", show=False)


def _until_set(guest: GuestCpu, world: World, name: str, value: int) -> Code:
    yield Insn("pause", test=lambda: world.counters.get(name, 0) == value, show=False)


def _deadline(guest: GuestCpu, world: World, ns: int) -> Code:
    yield Insn("wrmsr", hw.MSR_IA32_TSC_DEADLINE, guest.now() + ns)


def _mark(guest: GuestCpu, world: World, text: str) -> Code:
    if text not in world.marks:
        world.marks.append(text)
    yield Insn("out", PORT_MARK, world.marks.index(text))


def _log(guest: GuestCpu, world: World, name: str) -> Code:
    """Note the vector of the handler that runs, 0 outside one."""
    world.log.append((name, guest.levels[-1].vector or 0))
    yield Insn("nop", show=False)


def _log_result(guest: GuestCpu, world: World, name: str) -> Code:
    world.log.append((name, guest.levels[-1].result))
    yield Insn("nop", show=False)


def _handler(guest: GuestCpu, world: World, which: str, name: str) -> Code:
    if name not in world.bodies:
        raise ValueError(f"no handler {name!r}: expected one of {', '.join(world.bodies)}")
    world.idt.setdefault(guest.ident, {}).update(dict.fromkeys(vectors(which), name))
    yield Insn("nop", show=False)


COMMANDS: dict[str, Command] = {
    "wrmsr": Command(("msr", "n"), "WRMSR", _one("wrmsr")),
    "rdmsr": Command(("msr",), "RDMSR", _one("rdmsr")),
    "mmio_write": Command(("n", "n"), "a 32-bit store to an address", _one("mmio_write")),
    "mmio_read": Command(("n",), "a 32-bit load from an address", _one("mmio_read")),
    "write_cr8": Command(("n",), "MOV to CR8", _one("write_cr8")),
    "read_cr8": Command((), "MOV from CR8", _one("read_cr8")),
    "hlt": Command((), "HLT", _one("hlt")),
    "vmmcall": Command(("n",) * 5, "VMMCALL, a hypercall: number, a0, a1, a2, a3", _vmmcall),
    "sti": Command((), "STI", _one("sti")),
    "cli": Command((), "CLI", _one("cli")),
    "stgi": Command((), "STGI: set GIF; #UD unless EFER.SVME is set", _one("stgi")),
    "clgi": Command((), "CLGI: clear GIF", _one("clgi")),
    "nop": Command((), "NOP", _one("nop")),
    "out": Command(("n", "n"), "OUT of 32 bits to a port: userspace is told", _one("out")),
    "outb": Command(("n", "n"), "OUT of a byte: the 8259s' ports take no other size", _one("outb")),
    "inb": Command(("n",), "IN of a byte", _one("inb")),
    "mark": Command(("text",), "OUT to port 0xe0: userspace sees this mark", _mark),
    "eoi": Command((), "EOI by MSR or by MMIO, as the APIC's mode wants", _driver(linux.apic_native_eoi)),
    "pv_eoi": Command((), "EOI by the paravirtual bit, else the native one, as Linux does", _pv_eoi),
    "send_ipi": Command(("n", "n"), "an IPI as Linux sends it: APIC ID, vector", _driver(linux.send_ipi)),
    "send_ipi_self": Command(("n",), "the same to itself: vector", _driver(linux.send_ipi_self)),
    "send_ipi_allbutself": Command(("n",), "the same to all others: vector", _driver(linux.send_ipi_allbutself)),
    "send_ipi_mask": Command(("mask", "n"), "the same to several, one by one: vector", _driver(linux.send_ipi_mask)),
    "send_ipi_mask_cluster": Command(
        ("mask", "n"), "the same, one logical IPI for each 16 APIC IDs", _driver(linux.send_ipi_mask_cluster)
    ),
    "pv_send_ipi": Command(("mask", "n"), "the same by hypercall, as in a PV guest", _driver(linux.kvm_send_ipi_mask)),
    "pv_kick": Command(("n",), "the hypercall that wakes a PV lock's waiter: APIC ID", _driver(linux.kvm_kick_cpu)),
    "pv_yield": Command(("n",), "the hypercall that yields to a vCPU: APIC ID", _driver(linux.kvm_sched_yield)),
    "pv_wait": Command(("name", "n"), "HLT with IF as it is, while a named cell holds a number", _pv_wait),
    "pv_eoi_on": Command(("n",), "WRMSR MSR_KVM_PV_EOI_EN: address | 1", _pv_eoi_on),
    "pv_eoi_off": Command((), "WRMSR MSR_KVM_PV_EOI_EN: 0", _pv_eoi_off),
    "pv_eoi_forget": Command((), "handlers stop using PV EOI; the MSR stays", _pv_eoi_forget),
    "hv_eoi": Command((), "EOI by the bit in the VP assist page, else by Hyper-V's MSR", _hv_eoi),
    "hv_assist_on": Command(("n",), "WRMSR HV_VP_ASSIST_PAGE: address | 1", _hv_assist_on),
    "hv_message": Command(("n", "n"), "free a slot of the page of HV_SIMP, source n", _driver(windows.take_message)),
    "hv_deadline": Command(("n", "n"), "WRMSR HV_STIMERn_COUNT: now plus so many ns", _driver(windows.arm)),
    "deadline": Command(("n",), "WRMSR TSC_DEADLINE: now plus so many ns", _deadline),
    "spin": Command(("n",), "loop on RDTSC and PAUSE for so many ns", _spin),
    "busy": Command(("n", "n"), "loop on PAUSE until a vector was handled so often", _busy),
    "wait": Command(("n", "n"), "STI and HLT until a vector was handled so often", _wait),
    "seen": Command(("n", "n"), "loop on PAUSE until a vector was handled so often on any vCPU", _seen),
    "sleep": Command(("name", "n"), "STI and HLT until a named cell holds a number", _sleep),
    "set": Command(("name", "n"), "store a number in a named cell of memory", _set),
    "until": Command(("name", "n"), "loop on PAUSE until a named cell holds a number", _until_set),
    "log": Command(("name",), "note a name and the vector of the running handler", _log),
    "log_result": Command(("name",), "note a name and what the last read returned", _log_result),
    "handler": Command(("vectors", "name"), "from now on these vectors have that handler", _handler),
}

BUILT_IN_BODIES = {
    "none": (),
    "smi": (),
    "eoi": (Step("eoi"),),
    "pv_eoi": (Step("pv_eoi"),),
}
