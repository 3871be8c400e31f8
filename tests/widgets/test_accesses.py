"""Each register in both modes: what facts and recordings say, against the runs that the page's table shows."""

import re
from pathlib import Path

import pytest

from kvmmodel import Host
from kvmmodel.trace.access import FAST, SLOW
from kvmmodel.widgets.accesses import BOTH, REGISTERS, run_access

DATA = Path(__file__).parents[1] / "evidence" / "data"
EVERY = [(key, mode) for key in REGISTERS for mode in BOTH]
NO_EXIT = {"cr8", "pv-eoi"}
REFUSED = {"id", "ldr", "dfr", "esr"}  # in x2APIC mode


def answer(key, mode, cpu="zen4", kernel="7.3"):
    return run_access(key, mode, Host(cpu, kernel, avic=False))


@pytest.mark.parametrize("kernel", ["5.10", "6.12", "7.3"])
@pytest.mark.parametrize(("key", "mode"), EVERY)
def test_exits_are_page_faults_or_msr_exits(key, mode, kernel):
    """source: the registers of the page by NPF, MSRs by MSR; CR8 only while it is intercepted."""
    by_mode = {"x2apic": "msr", "xapic": "npf"}[mode]
    wanted = {"cr8-held": "write_cr8", "deadline": "msr"}.get(key, by_mode)
    assert answer(key, mode, kernel=kernel).access.exit == (None if key in NO_EXIT else wanted)


@pytest.mark.parametrize("kernel", ["5.10", "6.12", "6.18", "7.3"])
@pytest.mark.parametrize("cpu", ["zen4", "zen4-nested", "tcg"])
def test_only_icr_and_deadline_are_handled_in_the_fast_path(cpu, kernel):
    """source; recorded with and without NRIPS. Before 6.12, as its point release 5.10.223 is read, the ICR too."""
    fast = {(k, m) for k, m in EVERY if answer(k, m, cpu, kernel).access.path == FAST}
    deadline = {("deadline", mode) for mode in BOTH} if kernel in ("6.18", "7.3") else set()
    assert fast == (set() if cpu == "tcg" else {("icr", "x2apic")} | deadline)


@pytest.mark.parametrize(("key", "mode"), EVERY)
def test_only_an_msr_is_refused_with_gp(key, mode):
    """source: the return code of an MMIO access is ignored."""
    found = answer(key, mode)
    assert found.access.refused is (mode == "x2apic" and key in REFUSED)
    assert (found.words == "`#GP`") is found.access.refused


@pytest.mark.parametrize(
    ("key", "mode", "words"),
    [
        ("cr8", "x2apic", "KVM is not asked"),
        ("cr8-held", "x2apic", "stores `0x0`"),
        ("tpr", "xapic", "stores `0x50`"),
        ("eoi", "xapic", "clears ISR `0x51`"),
        ("pv-eoi", "xapic", "KVM hears of it at the next exit"),
        ("icr", "xapic", "sets IRR `0x43` of vCPU 1"),
        ("self-ipi", "x2apic", "sets IRR `0x51` of vCPU 0"),
        ("self-ipi", "xapic", "changes nothing"),
        ("deadline", "xapic", "arms an hrtimer"),
        ("ppr", "x2apic", "answers `0x10`"),
        ("irr", "xapic", "answers `0x2`"),
        ("isr", "x2apic", "answers `0x20000`"),
        ("esr", "xapic", "changes nothing"),
        ("dfr", "xapic", "stores `0xfffffff`"),
    ],
)
def test_what_kvm_answers(key, mode, words):
    assert answer(key, mode).words == words


TRACED = {0x20: "ID", 0x80: "TASKPRI", 0xB0: "EOI", 0xD0: "LDR", 0xE0: "DFR", 0xF0: "SPIV", 0x280: "ESR",
          0x300: "ICR", 0x320: "LVTT", 0x380: "TMICT", 0x3F0: "SELF_IPI"}  # fmt: skip
WRITTEN = [key for key, r in REGISTERS.items() if r.probes["xapic"].value is not None]
BY_REGISTER = [key for key in WRITTEN if key not in {*NO_EXIT, "cr8-held"}]


@pytest.mark.parametrize("mode", BOTH)
@pytest.mark.parametrize("key", BY_REGISTER)
def test_the_table_says_recorded_where_both_recordings_have_the_write(key, mode):
    """By the tracepoint that KVM prints for the register, after an MMIO or an MSR exit."""
    register = REGISTERS[key]
    assert _recorded(TRACED[register.probes[mode].offset], mode) is (mode in register.recorded)


def _recorded(name, mode):
    """In a vCPU's thread a kvm_mmio line stands before an access to the page, and none before one by MSR."""
    found = set()
    for build in ("6.12.95-avic0-nrips", "7.3.4-avic0-nrips"):
        before = {}
        for line in (DATA / build / "10-kvm-tracepoints.txt").read_text(encoding="utf-8").splitlines():
            parts = re.match(r" *(\S+) +\[\d+\] \S+ +[\d.]+: (\w+): (.*)", line)
            if parts is None:
                continue
            if parts[2] == "kvm_apic" and parts[3].startswith(f"apic_write APIC_{name} "):
                found.add((build, "xapic" if before.get(parts[1]) == "kvm_mmio" else "x2apic"))
            before[parts[1]] = parts[2]
    return len({build for build, how in found if how == mode}) == 2


def test_slow_is_what_is_not_fast():
    assert {answer(k, m).access.path for k, m in EVERY} == {None, FAST, SLOW}
