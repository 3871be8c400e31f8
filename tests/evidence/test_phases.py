"""Phases of the recordings of 6.12.95 and 7.3.4 against the model's own trace: same events, same order."""

import re
from pathlib import Path

import pytest

from kvmmodel import Host
from kvmmodel.scenarios.format import read
from kvmmodel.scenarios.run import run
from kvmmodel.trace import ftrace

DATA = Path(__file__).parent / "data" / "phases"
PHASES = sorted(path.stem.rpartition("-") for path in DATA.glob("*.txt"))
LINE = re.compile(r"^ *(?:L2-)?(?P<task>vcpu\d+)-\d+ +\[\d+\] \S+ +[\d.]+: (?P<event>\w+): (?P<fields>.*?) *$")

# What cannot be compared: whole events first, then fields of the others.
DROPPED = {
    "tracing_mark_write": "the recording's own marks",
    "kvm_pio": "ports and values are the guest's own",
    "kvm_halt_poll_ns": "depends on how long a sleep took",
    "kvm_wait_lapic_expire": "depends on how late the host's timer was",
    "kvm_emulate_insn": "the bytes of the guest's own code",
    "kvm_fpu": "not interrupt delivery",
}
FIELDS = (
    (r" rip 0x[0-9a-f]+|,(?= rip)", "", "where the guest's code is"),
    (r" info1 .*", "", "ports, addresses and, from 6.18, requests"),
    (r" error_code 0x0{8}$", "", "always 0 here"),
    (r"time \d+ ns, polling valid", "", "wake times"),
    (r"(msr_write (6e0|4b564d04) = ).*", r"\1", "a time, an address in the guest"),
)
EOI = re.compile(r"kvm_(pv_)?eoi |kvm_msr msr_write 80b ")


def sequences(text):
    """Per vCPU, what it did, up to its last EOI if it did one; without the host's ticks."""
    found = {}
    for row in text.splitlines():
        line = LINE.match(row)
        if line is None or line["event"] in DROPPED:
            continue
        fields = line["fields"]
        for pattern, to, _ in FIELDS:
            fields = re.sub(pattern, to, fields)
        found.setdefault(line["task"], []).append(f"{line['event']} {fields}")
    return {task: _until_eoi(_without_ticks(rows)) for task, rows in found.items()}


def _without_ticks(rows):
    """A host interrupt's exit, and the entry right after it if nothing came of it."""
    kept, after = [], False
    for row in rows:
        tick = re.match(r"kvm_exit vcpu \d+ reason interrupt", row) is not None
        if not tick and not (after and row.startswith("kvm_entry")):
            kept.append(row)
        after = tick
    return kept


def _until_eoi(rows):
    last = max((i for i, row in enumerate(rows) if EOI.match(row)), default=len(rows))
    return rows[: last + 1]


@pytest.mark.parametrize(("kernel", "_", "phase"), PHASES)
def test_the_model_does_what_the_kernel_did(kernel, _, phase):
    """recorded 6.12.95, 7.3.4."""
    recorded = sequences((DATA / f"{kernel}-{phase}.txt").read_text(encoding="utf-8"))
    scenario = read(phase, (DATA / f"{phase}.toml").read_text(encoding="utf-8"))
    made = run(scenario, Host("zen4", kernel, avic=False))
    whole = ftrace.render(made.trace.records, made.host.kernel)
    begin = whole.index("KVM_EXIT_IO")
    ours = sequences(whole[begin : whole.rindex("KVM_EXIT_IO") + 15])
    assert set(ours) == {f"vcpu{i}" for i in range(len(made.vcpus))}
    for task, rows in ours.items():
        assert rows == recorded[task]
        assert any(EOI.match(row) for rows in ours.values() for row in rows)


def test_t20_the_model_does_what_kvm_did_with_avic_forced_on():
    """recorded 7.3.4, avic=1 force_avic=1: SELF_IPI in hybrid AVIC exits; accepted as under AVIC, and no doorbell.

    Catches kvm_apicv_accept_irq ahead of kvm_apic_accept_irq, and a doorbell to the vCPU's own core.
    """
    forced = (DATA.parent / "7.3.4-avic1-forced-tcg" / "10-kvm-tracepoints.txt").read_text(encoding="utf-8")
    phase = forced[forced.index(" L2 S02 ") :].partition("kvm_userspace_exit: reason restart")[
        0
    ]  # by a signal, at last
    recorded = sequences(phase)["vcpu0"]
    scenario = read("S02", (DATA / "S02.toml").read_text(encoding="utf-8"))
    made = run(scenario, Host("tcg", "7.3.4", avic=True, force_avic=True))
    whole = ftrace.render(made.trace.records, made.host.kernel)
    ours = sequences(whole[whole.index("KVM_EXIT_IO") :])["vcpu0"]
    events = [row.split()[0] for row in recorded]
    accepted = ["kvm_apic", "kvm_apic_ipi", "kvm_apic_accept_irq", "kvm_apicv_accept_irq", "kvm_msr"]
    assert events == ["kvm_entry", "kvm_exit", *accepted, "kvm_entry"]
    assert ours == recorded
    assert made.vcpus[0].lapic.irr == 1 << 0x41  # for ever: nothing takes it
    assert made.vcpus[0].guest.handled == {}


def test_the_comparison_keeps_vectors_destinations_and_modes():
    """An exclusion may drop none of these."""
    text = "".join((DATA / f"{k}-{p}.txt").read_text(encoding="utf-8") for k, _, p in PHASES)
    per_phase = [sequences((DATA / f"{k}-{p}.txt").read_text(encoding="utf-8")) for k, _, p in PHASES]
    kept = " ".join(row for found in per_phase for rows in found.values() for row in rows)
    for wanted in ("vec 67 (Fixed|edge)", "dst 1 vec 68 (Fixed|physical|de-assert|edge|dst)", "IRQ 0xe1", "vector 129",
                   "dst 1 vec 99 (Fixed|physical|edge)", "APIC_ICR = 0x100000043", "intr_info 0x80000063"):  # fmt: skip
        assert wanted in text
        assert wanted in kept
