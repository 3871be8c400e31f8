"""Where a guest may see AVIC: the whole table of what may differ between a run with AVIC and the same run without.

Nothing here knows a script. A row is recognised by a register's bits, or by its cause: an open point of the processor
or a mistake of the release, and the run without it has to be equal to the run without AVIC. So no lost, doubled or
reordered vector can hide in a row.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from kvmmodel.scripts.translate import PORT_HOST, Script
from kvmmodel.silicon import apic as hw

TPR_WRITES = ("wrmsr TPR ", f"mmio_write {hw.APIC_DEFAULT_PHYS_BASE + hw.APIC_TASKPRI} ")


@dataclass(frozen=True, slots=True)
class Row:
    """``rule``: how the difference is recognised. It is gone with this ``choice`` at the open point, or where the
    kernel has this ``behaviour`` of facts/changes.
    """

    id: str
    what: str
    rule: str
    source: str
    open_point: str = ""
    choice: str = ""
    behaviour: str = ""


LOW_NIBBLE = Row(
    "tpr_low_nibble",
    "bits 3:0 of TPR and PPR. KVM sets TPR to CR8 << 4 at an exit, unless it intercepts CR8 writes. Without AVIC the "
    "write of TPR and the read of PPR exit themselves; with AVIC neither does, and CR8 is not intercepted",
    "TPR or PPR of a snapshot, or a PPR that the guest read: the class is the same in both runs, and bits 3:0 are in "
    "each 0 or those that the guest wrote last",
    "arch/x86/kvm/svm/svm.c sync_cr8_to_lapic, svm_update_cr8_intercept; svm/avic.c avic_activate_vmcb, 6.1.176 to "
    "7.3.4; for the PPR that the processor computes, open point avic_ppr_low_nibble",
)
SELF_IPI_SW_DISABLED = Row(
    "self_ipi_sw_disabled",
    "a self-IPI (SELF_IPI, or the ICR's shorthand) while the APIC is software-disabled: KVM drops it, the processor "
    "may not",
    "the vectors that the processor accepts so are the only difference: it is gone if it drops them",
    "APM 15.29.6.1; arch/x86/kvm/lapic.c __apic_accept_irq, 6.1.176 to 7.3.4",
    "avic_self_ipi_sw_disabled",
    "dropped",
)
IPI_SW_DISABLED = Row(
    "ipi_sw_disabled",
    "an IPI by destination to an APIC that is software-disabled: KVM drops it, the processor may not",
    "the vectors that the processor accepts so are the only difference: it is gone if it drops them",
    "APM 15.29.6.1; arch/x86/kvm/lapic.c __apic_accept_irq, 6.1.176 to 7.3.4",
    "avic_ipi_sw_disabled",
    "dropped",
)
STALE_TMR = Row(
    "stale_tmr",
    "a TMR bit that a level interrupt left: KVM clears it when an edge interrupt of that vector comes, the processor "
    "may not when it sends one itself. The EOI then exits, and is a level interrupt's for an IOAPIC pin of that vector",
    "TMR bits, and remote IRR bits of the IOAPIC, are the only difference: it is gone if the processor clears the bit",
    "APM 15.29.6.1; arch/x86/kvm/lapic.c __apic_accept_irq, kvm_ioapic_send_eoi, 6.1.176 to 7.3.4",
    "avic_ipi_tmr",
    "cleared",
)
TPR_LOST = Row(
    "tpr_write_lost",
    "a mistake of older kernels: TPR that KVM writes itself, as for a guest in x2APIC mode without x2AVIC, is not "
    "loaded into V_TPR while AVIC is active, and the next exit copies V_TPR over it. What it held back comes too early",
    "the difference is gone in the same release with the correction, sync_lapic_to_cr8_always",
    "commit d02e48830e3f: 6.17, 6.12.49, 6.1.154; arch/x86/kvm/svm/svm.c sync_lapic_to_cr8, 6.6.9",
    behaviour="sync_lapic_to_cr8_always",
)
CAUSES = (SELF_IPI_SW_DISABLED, IPI_SW_DISABLED, STALE_TMR, TPR_LOST)
TABLE = (LOW_NIBBLE, *CAUSES)


@dataclass(frozen=True, slots=True)
class Differing:
    """One entry of a log, or one number of the IOAPIC, in two runs. None: the log is shorter."""

    where: str
    expected: Any
    got: Any
    nibble: bool = False  # explained by LOW_NIBBLE


def differences(script: Script, off: Any, on: Any) -> Iterator[Differing]:
    """What differs between the outcomes of two runs of a script, entry by entry."""
    allowed = low_nibbles(script)
    for log in ("guest", "host"):
        expected, got, count = getattr(off, log), getattr(on, log), {"ppr": 0, "snap": 0}
        for i in range(max(len(expected), len(got))):
            one, other = (rows[i] if i < len(rows) else None for rows in (expected, got))
            name = one[0] if one else ""
            if one != other:
                number = count.get(name, 0)
                known = name in allowed and number < len(allowed[name])
                nibble = known and _only_low_nibble(one, other, {0, allowed[name][number]})
                yield Differing(f"{log}[{i}]", one, other, nibble)
            if name in count:
                count[name] += 1
    for key in off.ioapic:
        if off.ioapic[key] != on.ioapic[key]:
            yield Differing(f"ioapic.{key}", off.ioapic[key], on.ioapic[key])


def _only_low_nibble(one: list[Any] | None, other: list[Any] | None, allowed: set[int]) -> bool:
    """Of two entries "snap" or "ppr": whether bits 3:0 of TPR or PPR are all that differs."""
    if one is None or other is None or one[0] != other[0]:
        return False
    last = 2 if one[0] == "ppr" else 3
    pairs = list(zip(one[1:last], other[1:last], strict=True))
    same = one[last:] == other[last:] and all(a & ~0xF == b & ~0xF for a, b in pairs)
    return same and all({a & 0xF, b & 0xF} <= allowed for a, b in pairs)


def low_nibbles(script: Script) -> dict[str, list[int]]:
    """Bits 3:0 of the guest's last write of TPR or CR8, at each snapshot and at each read of PPR."""
    now, exits = 0, iter(script.exits)
    found: dict[str, list[int]] = {"snap": [], "ppr": []}
    for line in script.program:
        if line.startswith("write_cr8"):
            now = 0
        elif line.startswith(TPR_WRITES):
            now = int(line.split()[-1], 0) & 0xF
        elif line == "log_result ppr":
            found["ppr"].append(now)
        elif line == f"out {PORT_HOST} 0" and next(exits)[0] == "snap":
            found["snap"].append(now)
    return found
