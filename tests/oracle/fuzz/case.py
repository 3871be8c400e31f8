"""A case: a VM, and what is done to it, one operation after the other. Plain data, so that a found one is a test.

Operations are tuples, a name and its arguments; ``v`` is the index of a vCPU.

    ("msi", address, data)                KVM_SIGNAL_MSI
    ("line", gsi, level)                  KVM_IRQ_LINE_STATUS
    ("routing", ((gsi, route, ...), ...)) KVM_SET_GSI_ROUTING
    ("wrmsr", v, index, value)            KVM_SET_MSRS of one
                                          value "far": a TSC some minutes from now
    ("rdmsr", v, index)                   KVM_GET_MSRS of one
    ("lapic", v, ((offset, value), ...))  KVM_SET_LAPIC of what KVM_GET_LAPIC gives, with these 32-bit words changed
    ("ack", v)                            KVM_SET_LAPIC, the highest vector of IRR moved to ISR
    ("pic", chip, state)                  KVM_SET_IRQCHIP of an 8259: 16 bytes in hexadecimal
    ("ioapic", ((index, value), ...))     KVM_SET_IRQCHIP of the IOAPIC as it is, with these fields changed: 0 to 23
                                          the entries, else "irr", "id", "ioregsel"
    ("pit", state)                        KVM_SET_PIT2: 112 bytes in hexadecimal
    ("reinject", flag)                    KVM_REINJECT_CONTROL
    ("mp", v, state)                      KVM_SET_MP_STATE, a number
    ("nmi", v)                            KVM_NMI
    ("interrupt", v, vector)              KVM_INTERRUPT
    ("api", flags)                        KVM_ENABLE_CAP of KVM_CAP_X2APIC_API
    ("guest", v, instruction, ...)        the vCPU executes one instruction, with IF=0, and leaves to userspace:
        "write", address, value  "read", address  "wrmsr", index, value  "rdmsr", index  "out", port, value  "in", port
        "ipi", icr, icr2: the two writes of an xAPIC  "nop"  "open": interrupts are let in for two instructions
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

Op = tuple[Any, ...]


@dataclass(frozen=True)
class Case:
    """``watch``: mp_state is read after each operation. That accepts INIT and SIPI, so some cases only look at the end.

    ``api``: flags of KVM_CAP_X2APIC_API before there are vCPUs.
    """

    ops: tuple[Op, ...]
    vcpus: int = 1
    split: bool = False
    pit: bool = False
    api: int = 0
    watch: bool = True

    def __str__(self) -> str:
        options = f"vcpus={self.vcpus}, split={self.split}, pit={self.pit}, api={self.api}, watch={self.watch}"
        lines = [f"    {op!r},  # {i}" for i, op in enumerate(self.ops)]
        return "\n".join(["Case((", *lines, f"), {options})"])


@dataclass(frozen=True)
class State:
    """What is compared. ``lapics``: pages; ``chips``: the two 8259s, then the IOAPIC, as KVM_GET_IRQCHIP has them."""

    lapics: tuple[bytes, ...]
    chips: tuple[bytes, ...]
    pit: bytes
    mp: tuple[int, ...]


NMI = 2


def in_order(happened: Iterable[object]) -> tuple[object, ...]:
    """What came to a guest in a step, NMIs first: see NOT_COMPARED."""
    return tuple(sorted(happened, key=lambda what: what != NMI))


class Difference(AssertionError):
    """The model and the kernel differ."""
