"""Tracepoint lines: what the model prints has the form of the recorded lines of that release."""

import re
from pathlib import Path

import pytest

from kvmmodel import Host
from kvmmodel.events import KvmApic, KvmEntry, KvmExit, KvmInjException, KvmInjVirq
from kvmmodel.facts.releases import kernel
from kvmmodel.scenarios.run import built_in, names, run
from kvmmodel.trace import ftrace
from kvmmodel.trace.text import tracepoint

PHASES = Path(__file__).parents[1] / "evidence" / "data" / "phases"
LINE = re.compile(r"^ *\S+-\d+ +\[\d{3}\] [.dDnNhHsS0-9]{5} +\d+\.\d{6}: (\w+): (.*)$")


def shape(fields):
    """The form of a line: numbers by base, words that vary by choice."""
    fields = re.sub(r"(info1|info2|requests) 0x[0-9a-f]{16}\b", r"\1 <long>", fields)
    fields = re.sub(r"(intr_info|error_code) 0x[0-9a-f]{8}\b", r"\1 <word>", fields)
    fields = re.sub(r"0x[0-9a-f]+", "<hex>", fields)
    fields = re.sub(r"\bmsr_write [0-9a-f]+", "msr_write <n>", fields)
    fields = re.sub(r"\bAPIC_[A-Z_0-9]+", "<register>", fields)
    fields = re.sub(r"\d+", "<n>", fields)
    return re.sub(r"reason \w+ rip", "reason <why> rip", fields).rstrip()


def shapes(text):
    found = {}
    for row in text.splitlines():
        line = LINE.match(row)
        if line:
            found.setdefault(line[1], set()).add(shape(line[2]))
    return found


@pytest.mark.parametrize("release", ["6.12.95", "7.3.4"])
def test_lines_have_the_form_of_recorded_ones(release):
    """recorded 6.12.95, 7.3.4: every form that was recorded and whose event the model has, it prints just so."""
    recorded = shapes("".join(p.read_text(encoding="utf-8") for p in sorted(PHASES.glob(f"{release}-*.txt"))))
    ours = {}
    for name in ("self-ipi", "ipi-halted", "ipi-in-guest", "timer-halted", "msi-halted", "pv-eoi"):
        made = run(built_in(name), Host("zen4", release, avic=False))
        for event, forms in shapes(ftrace.render(made.trace.records, made.host.kernel)).items():
            ours.setdefault(event, set()).update(forms)
    common = set(recorded) & set(ours)
    assert {"kvm_entry", "kvm_exit", "kvm_apic_ipi", "kvm_apic_accept_irq", "kvm_inj_virq", "kvm_eoi", "kvm_pv_eoi",
            "kvm_msr", "kvm_apic", "kvm_msi_set_irq", "kvm_vcpu_wakeup", "kvm_userspace_exit"} <= common  # fmt: skip
    assert {
        event: recorded[event] - ours[event] for event in common - {"kvm_pio"} if recorded[event] - ours[event]
    } == {}


@pytest.mark.parametrize("name", names())
def test_every_line_is_well_formed(name):
    made = run(built_in(name), Host("zen4", "7.3", avic=False))
    rows = [row for row in ftrace.render(made.trace.records, made.host.kernel).splitlines() if not row.startswith("#")]
    assert rows
    assert all(LINE.match(row) for row in rows)


ENTRY = KvmEntry(1, 0x200000, 0x80000041)
FORCED = KvmEntry(1, 0x200000, 0, True)
EXIT = KvmExit(0, "msr", 0x200830, 1, 0, 0, 1 << 14)


@pytest.mark.parametrize(
    ("event", "release", "line"),
    [
        (ENTRY, "5.10", "vcpu 1, rip 0x200000"),
        (ENTRY, "6.12.95", "vcpu 1, rip 0x200000"),
        (ENTRY, "7.3.4", "vcpu 1, rip 0x200000 intr_info 0x80000041 error_code 0x00000000"),
        (FORCED, "6.6", "vcpu 1, rip 0x200000"),
        (FORCED, "6.12", "vcpu 1, rip 0x200000 [immediate exit]"),
        (FORCED, "6.18", "vcpu 1, rip 0x200000 intr_info 0x00000000 error_code 0x00000000 [immediate exit]"),
        (EXIT, "6.12.95", "vcpu 0 reason msr rip 0x200830 info1 0x0000000000000001 info2 0x0000000000000000 "
                          "intr_info 0x00000000 error_code 0x00000000"),
        (EXIT, "7.3.4", "vcpu 0 reason msr rip 0x200830 info1 0x0000000000000001 info2 0x0000000000000000 "
                        "intr_info 0x00000000 error_code 0x00000000 requests 0x0000000000004000"),
        (KvmInjVirq(0x41), "5.15", "irq 65"),
        (KvmInjVirq(0x41), "6.1", "IRQ 0x41"),
        (KvmInjVirq(0x41, reinjected=True), "6.12", "IRQ 0x41 [reinjected]"),
        (KvmInjException(13, 0), "5.15", "#GP (0x0)"),
        (KvmInjException(13, 0), "6.12", "#GP (0x0)"),
        (KvmApic(True, 0x300, 1 << 32 | 0x43), "6.12", "apic_write APIC_ICR = 0x100000043"),
        (KvmApic(True, 0x300, 1 << 32 | 0x43), "5.10", "apic_write APIC_ICR = 0x43"),
    ],
)  # fmt: skip
def test_formats_by_release(event, release, line):
    """source: arch/x86/kvm/trace.h of each; recorded 6.12.95 and 7.3.4."""
    assert tracepoint(event, kernel(release)) == line


def test_lines_are_in_the_order_of_time():
    """As in tracefs; the records are in the order in which the physical CPUs got their turns."""
    made = run(built_in("level-moved"), Host(kernel="6.12", avic=False))
    rows = ftrace.render(made.trace.records, made.host.kernel).removeprefix(ftrace.HEADER).splitlines()
    times = [float(row.split()[3].rstrip(":")) for row in rows]
    assert times == sorted(times)
    assert [r.t for r in made.trace.records] != sorted(r.t for r in made.trace.records)
