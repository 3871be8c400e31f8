"""How often each operation had each outcome. A class is a kind of operation and what came of it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from tests.oracle.fuzz.case import NMI, Op

LEAST = 0.01
ERRORS = {-22: "-EINVAL", -6: "-ENXIO", -17: "-EEXIST", -1: "-1"}
CHIPS = {"pic": "KVM_SET_IRQCHIP 8259", "ioapic": "KVM_SET_IRQCHIP IOAPIC"}
NAMES = CHIPS | {
    "msi": "KVM_SIGNAL_MSI",
    "line": "KVM_IRQ_LINE_STATUS",
    "routing": "KVM_SET_GSI_ROUTING",
    "lapic": "KVM_SET_LAPIC",
    "ack": "KVM_SET_LAPIC, IRR to ISR",
    "pit": "KVM_SET_PIT2",
    "reinject": "KVM_REINJECT_CONTROL",
    "mp": "KVM_SET_MP_STATE",
    "nmi": "KVM_NMI",
    "interrupt": "KVM_INTERRUPT",
    "api": "KVM_CAP_X2APIC_API",
    "wrmsr": "KVM_SET_MSRS",
    "rdmsr": "KVM_GET_MSRS",
}


@dataclass
class Histogram:
    counts: Counter[tuple[str, str]] = field(default_factory=Counter)

    @property
    def operations(self) -> int:
        return self.counts.total()

    def add(self, op: Op, result: object) -> None:
        self.counts[classify(op, result)] += 1

    def rare(self) -> list[str]:
        """Classes that are fewer than one in a hundred."""
        least = LEAST * self.operations
        return [f"{name}: {outcome}" for (name, outcome), n in sorted(self.counts.items()) if n < least]

    def __str__(self) -> str:
        total = self.operations
        rows = [f"  {n:7}  {n / total:6.2%}  {name}: {outcome}" for (name, outcome), n in sorted(self.counts.items())]
        return "\n".join([f"{total} operations in {len(rows)} classes:", *rows])


def classify(op: Op, result: object) -> tuple[str, str]:
    name = op[0]
    if name in ("guest", "settled"):
        return _guest(op, result)
    if name in ("wrmsr", "rdmsr"):
        taken = result is not None if name == "rdmsr" else result == 1
        return f"{NAMES[name]} {_msr(op[2])}", "taken" if taken else "refused"
    assert isinstance(result, int)
    if name in ("msi", "line"):
        return NAMES[name], "2 and more" if result > 1 else ERRORS.get(result, str(result))
    if name in CHIPS and result:
        return "KVM_SET_IRQCHIP", ERRORS[result]
    return NAMES[name], ERRORS.get(result, str(result))


def _msr(index: int) -> str:
    return "x2APIC" if 0x800 <= index < 0x900 else "other"


def _guest(op: Op, result: object) -> tuple[str, str]:
    """What comes to the guest in a step is a class of its own, whatever the step's instruction; else that is."""
    instruction, args = op[2], op[3:]
    _, happened = result  # type: ignore[misc]
    if any(isinstance(what, tuple) for what in happened):
        return "guest", "KVM_EXIT_IOAPIC_EOI"
    if NMI in happened:
        return "guest", "an NMI comes"
    if any(isinstance(what, int) for what in happened):
        return "guest", "an ExtINT comes"
    where = ""
    if instruction in ("read", "write", "ipi"):
        where = " IOAPIC" if args[0] >> 12 == 0xFEC00 else " local APIC"
    elif instruction in ("in", "out"):
        where = " 8259" if args[0] in (0x20, 0x21, 0xA0, 0xA1, 0x4D0, 0x4D1) else " PIT"
    elif instruction in ("rdmsr", "wrmsr"):
        where = " MSR"
    return f"guest {instruction}{where}", "#GP" if happened else "done"
