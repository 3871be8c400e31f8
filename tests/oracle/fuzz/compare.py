"""What of two states is compared, and how it is told. What is not is in ``NOT_COMPARED``, and nowhere else."""

from __future__ import annotations

import struct

from tests.oracle.fuzz.case import State

# What, and why. TMCCT is the comparison's; the others are not generated, or the engine keeps them from happening.
NOT_COMPARED = {
    "TMCCT of a running timer": "two clocks: equal within CLOCKS of 2**32, and 0 in both or in neither",
    "a count that ends while a case runs": "two clocks. Counts are 0 or last for seconds; deadlines are past or far; "
    "channel 0 of the PIT has a mode that counts only while the HPET has its lines, which keeps its timer off",
    "the PIT's latched counts and what IN gives of a count": "they are the time since count_load_time, host's clock",
    "when an expiry becomes an interrupt": "in vcpu_run, which the vendor's module goes back to when it likes. If one "
    "waits, a step has a loop before and after its instruction, and exits in the model",
    "the local APIC's vectors in a guest with IF=1": "with each injection, an 8259's too, the vendor's module "
    "ends the highest vector in service. A guest is opened only if its APIC has none in service and none to give",
    "an ExtINT at TPR 0xf0 and above": "SVM's window for it is a virtual interrupt of priority 15, which V_TPR of 15 "
    "masks; this vendor has no V_TPR",
    "ExtINTs of 8259s with automatic EOI, and below vector 0x20": "levels would come for ever; 2 and 13 are taken "
    "for an NMI and a #GP",
    "when in a step the second of two NMIs comes": "how a vendor's module learns that the first has ended is its own; "
    "which of those that a guest then sends are dropped depends on it, so guests send none",
    "TPR[3:0] of a vCPU that runs": "SVM keeps CR8's four bits in V_TPR and KVM stores them at each exit; this vendor "
    "has no V_TPR. A step begins with KVM_SET_SREGS of the CR8 that is there, which clears them in both",
    "INIT and SIPI sent by a guest's ICR": "who sends it may be meant, and does not come to its step's end; userspace "
    "brings them",
    "what a guest reads by MMIO where the local APIC has no register": "KVM leaves what its buffer had before",
    "where the x2APIC's ICR is kept": "one register with this vendor, two on AMD: the model is told that it is one",
}
TMCCT = 0x390
CLOCKS = 500_000_000  # counts: a new divisor keeps them, and makes times of them
PIC_FIELDS = ("last_irr", "irr", "imr", "isr", "priority_add", "irq_base", "read_reg_select", "poll", "special_mask")
PIC_FIELDS += (
    "init_state",
    "auto_eoi",
    "rotate_on_auto_eoi",
    "special_fully_nested_mode",
    "init4",
    "elcr",
    "elcr_mask",
)

PIT_FIELDS = ("count", "latched_count", "count_latched", "status_latched", "status", "read_state", "write_state")
PIT_FIELDS += ("write_latch", "rw_mode", "mode", "bcd", "gate")


def differences(kernel: State, model: State) -> list[str]:
    """One line each."""
    if kernel == model:
        return []
    found = []
    for v, (there, here) in enumerate(zip(kernel.lapics, model.lapics, strict=True)):
        found += _pages(v, there, here)
    for chip, (there, here) in enumerate(zip(kernel.chips, model.chips, strict=True)):
        if there != here:
            found += _ioapics(there, here) if chip == 2 else _pics(chip, there, here)
    for v, (state, ours) in enumerate(zip(kernel.mp, model.mp, strict=True)):
        if state != ours:
            found.append(f"mp_state of vCPU {v}: kernel {state}, model {ours}")
    return found + _pits(kernel.pit, model.pit)


def _pages(v: int, there: bytes, here: bytes) -> list[str]:
    if there == here:
        return []
    ours, theirs = (struct.unpack("<256I", page) for page in (here, there))
    differing = [4 * i for i in range(256) if theirs[i] != ours[i] and not (4 * i == TMCCT and _close(theirs, ours))]
    return [f"vCPU {v}, register {at:#x}: kernel {theirs[at // 4]:#x}, model {ours[at // 4]:#x}" for at in differing]


def _close(there: tuple[int, ...], here: tuple[int, ...]) -> bool:
    """Two counts of the same running timer."""
    a, b = there[TMCCT // 4], here[TMCCT // 4]
    return 0 not in (a, b) and abs(a - b) < CLOCKS


def _pics(chip: int, there: bytes, here: bytes) -> list[str]:
    rows = zip(PIC_FIELDS, there, here, strict=True)
    return [f"8259 {chip}, {name}: kernel {a:#x}, model {b:#x}" for name, a, b in rows if a != b]


def _ioapics(there: bytes, here: bytes) -> list[str]:
    names = ("base_address", "ioregsel", "id", "irr", "pad", *(f"entry {i}" for i in range(24)))
    rows = zip(names, struct.unpack("<QIIII24Q", there), struct.unpack("<QIIII24Q", here), strict=True)
    return [f"IOAPIC, {name}: kernel {a:#x}, model {b:#x}" for name, a, b in rows if a != b]


def _pits(there: bytes, here: bytes) -> list[str]:
    """All but the time at which each count was loaded."""
    if there == here:
        return []
    found = [f"flags: kernel {there[72:].hex()}, model {here[72:].hex()}"] if there[72:] != here[72:] else []
    for i in range(3):
        rows = zip(*(struct.unpack_from("<IH10B", state, 24 * i) for state in (there, here)), strict=True)
        found += [
            f"PIT, channel {i}, {name}: kernel {a:#x}, model {b:#x}"
            for name, (a, b) in zip(PIT_FIELDS, rows, strict=True)
            if a != b
        ]
    return found
