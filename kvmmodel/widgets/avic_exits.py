"""The explorer of the page on AVIC's exits: a board of the registers for a mode and a release, and one access run."""

from __future__ import annotations

from dataclasses import replace

from kvmmodel.events import Instruction
from kvmmodel.machine.vm import Vm
from kvmmodel.silicon import apic as hw
from kvmmodel.silicon.avic_access import ACCELERATED, ALLOWED, FAULT, GP, TRAP
from kvmmodel.trace.access import access
from kvmmodel.trace.steps import access_story, story
from kvmmodel.trace.story import BROKEN, Badge, Story
from kvmmodel.trace.telling_ipi import IPI_TELLERS
from kvmmodel.widgets.avic_accesses import (
    IPI,
    LEVEL,
    MSR,
    NO_EXIT,
    REGISTERS,
    SELF,
    Register,
    accessed,
    outcome,
    prepared,
)
from kvmmodel.widgets.glyphs import icon
from kvmmodel.widgets.stepper import Choice, Stepper, stepper
from kvmmodel.widgets.svg import el, esc

APICS = (("xAPIC", "x"), ("x2APIC", "x2"))
KERNELS = (("5.10", "5.10"), ("6.1", "6.1"), ("6.12", "6.12"), ("7.3", "7.3"))
DOES = (("write", "write"), ("read", "read"))
CHOSEN = (
    "id", "tpr", "apr", "ppr", "eoi", "eoi-level", "rrr", "ldr", "irr", "icr", "icr2", "lvtt", "tmict", "tmcct", "self",
)  # fmt: skip
ACCESSES = tuple((REGISTERS[key].label, key) for key in CHOSEN)
MODES = {"off": "AVIC off", "xavic": "xAVIC", "x2avic": "x2AVIC"}
RULE = "the handlers of exits 401h and 402h return without doing anything"
KNOWN = (Badge("manual", "AMD APM table 15-22, 15.29.10"), Badge("source", "5.10 to 7.3"))
LEGEND = (
    ("allowed", "the page, and nothing else"),
    ("accelerated", "the page, and what the register does"),
    ("trap", "402h, after the write"),
    ("fault", "402h, before the access"),
    ("MSR", "7Ch: KVM intercepts it"),
    ("#GP", "no such register, or it cannot be written"),
)
VERDICTS = {
    (ALLOWED, "read"): "No exit. The processor reads the vCPU's register page.",
    (ALLOWED, "write"): "No exit. The processor writes the vCPU's register page, and nothing follows from it.",
    (ACCELERATED, "write"): "No exit. The processor writes the page and does what the register does.",
    (TRAP, "write"): "A trap. The write was in the page before KVM ran, which does what follows from it, if anything.",
    (FAULT, "read"): "A fault. The page was not read: KVM decodes the instruction and",
    (FAULT, "write"): "A fault. The page was not written: KVM decodes the instruction and",
    (GP, "read"): "`#GP`, without an exit. In this mode there is no such register to read.",
    (GP, "write"): "`#GP`, without an exit. In this mode there is no such register, or it can only be read.",
    (MSR, "read"): "Exit 7Ch. KVM intercepts this MSR's reads, so AVIC was not asked.",
    (MSR, "write"): "Exit 7Ch. KVM intercepts this MSR's writes, so AVIC was not asked.",
}
NOT_DONE = {
    "eoi-level": f"ISR `{LEVEL:#x}` stays set. Nothing of its class or below reaches the guest any more.",
    "tmict": "The count is in the page. No timer runs, and the guest waits for an interrupt that never comes.",
    "rrr": "Nothing lost. KVM ignores this write anyway.",
}


def exit_story(
    apic: str = "x", kernel: str = "7.3", register: str = "eoi-level", does: str = "write", broken: bool = False
) -> Story:
    """One access, told. All are values of the choices."""
    row, x2apic, write = REGISTERS[register], apic == "x2", does == "write"
    vm = prepared(kernel, x2apic, row)
    if broken:
        vm.leave_out("no-avic-exits")
    where = setup(vm, apic)
    records = accessed(vm, x2apic, row, write)
    title, known = f"A {does} of {_named(row, x2apic)}", (BROKEN,) if broken else KNOWN
    to = IPI if row.offset == hw.APIC_ICR else SELF if row.offset == hw.APIC_SELF_IPI and x2apic else None
    if write and to is not None:
        target = 1 if to == IPI else 0
        told = story(
            records, vm.host.kernel, "ipi", to, target, title=title, setup=where, badges=known, tellers=IPI_TELLERS
        )
    else:
        first = next(r.event.text for r in records if isinstance(r.event, Instruction) and r.vcpu == 0)
        found = access(records, 0, first)
        told = access_story(found.records, vm.host.kernel, title=title, setup=where, badges=known)
    how = outcome(kernel, x2apic, row, write)
    if not broken:
        end = "" if how != FAULT else " drops the write." if write else " answers."
        return replace(told, verdict=VERDICTS[how, does] + end)
    return replace(told, broken=RULE, verdict=_not_done(how, register))


def _named(row: Register, x2apic: bool) -> str:
    place = f"MSR `{hw.APIC_BASE_MSR + (row.offset >> 4):#x}`" if x2apic else f"offset `{row.offset:#x}`"
    return f"{_label(row, x2apic)}, {place}"


def _label(row: Register, x2apic: bool) -> str:
    """The xAPIC has no SELF_IPI: there the page has a gap."""
    return row.label if x2apic or row.offset != hw.APIC_SELF_IPI else "no register"


def setup(vm: Vm, apic: str) -> str:
    mode = vm.vcpus[0].avic_mode
    reasons = f" by {', '.join(f'`{name}`' for name in sorted(vm.inhibits))}" if mode == "off" else ""
    guest = "x2APIC" if apic == "x2" else "xAPIC"
    return (
        f"Kernel {vm.host.kernel.release}, {vm.host.processor.title}, `avic=1`, {guest} guest: {MODES[mode]}{reasons}"
    )


def _not_done(how: str, register: str) -> str:
    if how == TRAP:
        return NOT_DONE.get(register, "The value is in the page. What KVM does at such a write is not done.")
    if how == FAULT:
        return "The guest executes the instruction again, and exits again, for ever. Nobody has moved RIP."
    return "Nothing to leave out. This access does not take exit 402h."


def board(apic: str, kernel: str, register: str, does: str) -> str:
    """All registers, in two tables; the access that is chosen has the mark of now."""
    rows = list(REGISTERS.items())
    half = (len(rows) + 1) // 2
    tables = (_table(part, apic == "x2", kernel, (register, does)) for part in (rows[:half], rows[half:]))
    keys = (el("span", el("i", _word(name)), f": {esc(text)}") for name, text in LEGEND)
    return el(
        "div", el("div", *tables, class_="km-regs"), el("p", *keys, class_="km-regs-key"), class_="km km-regboard"
    )


def _table(rows: list[tuple[str, Register]], x2apic: bool, kernel: str, now: tuple[str, str]) -> str:
    head = el("tr", *(el("th", text, scope="col") for text in ("MSR" if x2apic else "offset", "register", *_DOES)))
    body = []
    for key, row in rows:
        cells = []
        for does in _DOES:
            word = _word(outcome(kernel, x2apic, row, does == "write"))
            cells.append(el("td", el("mark", word) if (key, does) == now else word))
        name = esc(_label(row, x2apic))
        body.append(el("tr", el("td", el("code", _place(row, x2apic))), el("th", name, scope="row"), *cells))
    return el("table", el("thead", head), el("tbody", *body))


_DOES = ("read", "write")


def _place(row: Register, x2apic: bool) -> str:
    first, last = row.offset & ~0x70 if row.offset in range(0x100, 0x280) else row.offset, row.last
    if row.label.startswith("LVT, others"):
        first = hw.APIC_LVTTHMR
    if x2apic:
        first, last = hw.APIC_BASE_MSR + (first >> 4), hw.APIC_BASE_MSR + (last >> 4) if last else 0
    return f"{first:03x}-{last & 0xFF:02x}" if last else f"{first:03x}"


def _word(how: str) -> str:
    """An exit has its glyph and is bold."""
    if how == GP:
        how = "#GP"
    return esc(how) if how in NO_EXIT or how == "#GP" else icon("exit", css="km-mut", size=13) + el("b", esc(how))


def exit_explorer(kernel: str = "7.3") -> Stepper:
    """The widget."""
    choices = (
        Choice("apic", "Guest's APIC", APICS),
        Choice("kernel", "Kernel", KERNELS, kernel),
        Choice("register", "Register", ACCESSES, "eoi-level"),
        Choice("does", "vCPU 0", DOES),
    )
    return stepper(exit_story, choices, break_it="KVM ignores both exits", above=board)
