"""A recording that says something else than the kernel did is different, whatever timing explains.

Of each kind of event some lines are changed, dropped, doubled or exchanged with the next. An edit that went unnoticed:
a doubled kvm_inj_virq of 5.10, which was taken for an entry that was given up; the address of an APIC register in a
page fault's exit; the vector in EVENTINJ, which the model set for an NMI and KVM does not.
"""

import dataclasses
import itertools
import random
import re
from pathlib import Path

import pytest

from kvmmodel.conform import compare, read

DATA = Path(__file__).parents[1] / "evidence" / "data"
RECORDINGS = {name: read(DATA / name) for name in ("5.10.262-avic0", "6.12.95-avic0-nrips", "7.3.4-avic0")}
# What of an event is compared: a number in it, in hexadecimal or not.
NUMBER = {
    "kvm_inj_virq": r"(?:IRQ 0x|irq )([0-9a-f]+)",
    "kvm_apic_accept_irq": r"vec (\d+)",
    "kvm_eoi": r"vector (\d+)",
    "kvm_pv_eoi": r"vector (\d+)",
    "kvm_apic": r"= 0x([0-9a-f]+)",
    "kvm_apic_ipi": r"(?:dst|vec) ([0-9a-f]+)",
    "kvm_msi_set_irq": r"vec (\d+)",
    "kvm_ioapic_set_irq": r"pin (\d+)",
    "kvm_set_irq": r"gsi (\d+)",
    "kvm_ack_irq": r"pin (\d+)",
    "kvm_mmio": r"gpa 0x([0-9a-f]+)",
    "kvm_msr": r"msr_write 8([0-9a-f]+) =",
    "kvm_exit": r"info2 0x0+f[0-9a-f]*([0-9a-f]{3}) ",
    "kvm_entry": r"intr_info 0x800000([0-9a-f]+)",
}


def _fitting(lines, event):
    """Where the guest's run has such an event, of a vCPU."""
    begin, end = _guest(lines)
    return [
        at
        for at, line in enumerate(lines[:end])
        if at > begin and line.event == event and line.vcpu is not None and re.search(NUMBER[event], line.text)
    ]


def _singles():
    """One edit of some kinds, the way of editing by turns."""
    rng = random.Random(7)
    for n, event in enumerate(
        ("kvm_inj_virq", "kvm_exit", "kvm_entry", "kvm_msr", "kvm_apic", "kvm_eoi", "kvm_apic_ipi")
    ):
        name = list(RECORDINGS)[2 if event == "kvm_entry" else n % 3]
        how = "double" if n == 0 else "number" if n < 3 else ("exchange", "drop")[n % 2]
        at = rng.choice(_fitting(RECORDINGS[name].lines, event))
        yield pytest.param(name, at, how, id=f"{name}-{event}-{how}")


def _guest(lines):
    begin = next(at for at, line in enumerate(lines) if line.event == "tracing_mark_write")
    return begin, max(at for at, line in enumerate(lines) if line.event == "kvm_userspace_exit")


def _edit(lines, at, how):
    lines, line = list(lines), lines[at]
    if how == "drop":
        del lines[at]
    elif how == "double":
        lines.insert(at, line)
    elif how == "exchange":
        other = next(
            n
            for n in range(at + 1, len(lines))
            if (lines[n].vcpu, lines[n].event in NUMBER) == (line.vcpu, True)
            and lines[n].event not in ("kvm_exit", "kvm_entry")
            and (lines[n].event, lines[n].text) != (line.event, line.text)
        )
        lines[at] = dataclasses.replace(lines[other], t=line.t)
        lines[other] = dataclasses.replace(line, t=lines[other].t)
    else:
        found = re.search(NUMBER[line.event], line.text)
        flipped = f"{int(found[1], 16) ^ 1:0{len(found[1])}x}"
        lines[at] = dataclasses.replace(line, text=line.text[: found.start(1)] + flipped + line.text[found.end(1) :])
    return tuple(lines)


@pytest.mark.parametrize(("name", "at", "how"), list(_singles()))
def test_an_edit_is_a_difference(name, at, how):
    recording = RECORDINGS[name]
    edited = _edit(recording.lines, at, how)
    assert edited != recording.lines
    assert [p.name for p in compare(dataclasses.replace(recording, lines=edited)) if p.differences]


@pytest.mark.parametrize("name", RECORDINGS)
def test_each_of_many_edits_is_a_difference(name):
    """More than 20 a recording, one in each phase."""
    recording, rng = RECORDINGS[name], random.Random(11)
    lines, edits = recording.lines, 0
    marks = [at for at, line in enumerate(lines) if line.event == "tracing_mark_write"]
    for begin, end in itertools.pairwise(marks):
        known = sorted(at for event in NUMBER for at in _fitting(lines, event) if begin < at < end)
        if known:
            lines = _edit(lines, rng.choice(known), "number")
            edits += 1
    phases = compare(dataclasses.replace(recording, lines=lines))
    rows = [row for phase in phases for row in phase.differences if row.startswith("- ")]
    assert len(rows) >= edits > 20


def test_a_deadline_of_0_is_another():
    """It disarms the timer."""
    recording = RECORDINGS["7.3.4-avic0"]
    lines = tuple(
        dataclasses.replace(line, text="msr_write 6e0 = 0x0") if " 6e0 = " in line.text else line
        for line in recording.lines
    )
    assert lines != recording.lines
    assert any(p.differences for p in compare(dataclasses.replace(recording, lines=lines)))
