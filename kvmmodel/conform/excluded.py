"""What of a recording cannot be compared, and why. One table; nothing else is left out.

A row: event, field (a regular expression over the printed text, "" for the whole event), reason. A field that matches
is blanked; an event whose row has no field, or whose text fits a row that starts with "whole:", is dropped; "with its
exit:" drops the vCPU's kvm_exit before it as well.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache

TABLE: tuple[tuple[str, str, str], ...] = (
    ("kvm_entry", "", "how often a vCPU enters depends on the host's ticks; what goes in is kvm_inj_virq's"),
    ("kvm_exit", "whole: reason interrupt ", "host ticks and IPIs: their number is the host's timing"),
    ("kvm_exit", r"whole: reason npf .*info2 0x0*[0-9a-f]{1,7} ", "page faults of guest memory"),
    ("kvm_exit", r" rip 0x[0-9a-f]+", "addresses of the guest's build"),
    (
        "kvm_exit",
        r"(?<=reason npf…) info1 0x[0-9a-f]+",
        "a page fault's error code, which an emulator fills in its own way",
    ),
    (
        "kvm_exit",
        r"(?<!reason npf…)(?<!reason msr…) info1 .*info2 0x[0-9a-f]+",
        "details that an emulator fills in its own way",
    ),
    (
        "kvm_exit",
        r" intr_info .*",
        "EXITINTINFO, which an emulator leaves behind, and requests, which the host makes too",
    ),
    ("kvm_exit", "whole: reason (read|write)_cr[04] ", "the guest's way from real mode to 64 bits"),
    ("kvm_msr", "with its exit: c0000080 = ", "EFER, on the same way"),
    ("kvm_page_fault", "", "page faults"),
    ("kvm_emulate_insn", "", "bytes and addresses of the guest's build"),
    ("vcpu_match_mmio", "", "a cache in KVM's emulator, which is not modelled"),
    ("kvm_write_tsc_offset", "", "TSC chatter of an unstable clock"),
    ("kvm_track_tsc", "", "TSC chatter"),
    ("kvm_update_master_clock", "", "TSC chatter"),
    ("kvm_pvclock_update", "", "TSC chatter"),
    ("kvm_unmap_hva_range", "", "the host's memory management"),
    ("kvm_set_spte_hva", "", "the host's memory management"),
    ("kvm_age_hva", "", "the host's memory management"),
    ("kvm_test_age_hva", "", "the host's memory management"),
    ("kvm_wait_lapic_expire", "", "how late the host's timer was"),
    ("kvm_halt_poll_ns", "", "follows from wake times"),
    ("kvm_vcpu_wakeup", r"time \d+ ns", "wake times"),
    ("kvm_pio", r" val 0x[0-9a-f]+", "a port's value is an address or a command of the guest's build"),
    ("kvm_msr", r"(?<= 6e0 = )0x0*[1-9a-f][0-9a-f]*", "a deadline is relative to the TSC; 0 is none"),
    ("kvm_msr", r"(?<= 4b564d04 = )0x[0-9a-f]*[13579bdf]\b", "where the guest's build has its PV EOI cell"),
    ("kvm_fpu", "", "not interrupt delivery"),
    ("kvm_cpuid", "", "not interrupt delivery: KVM asks itself for the processor's signature when it resets a vCPU"),
)


WHOLE, WITH_ITS_EXIT = "whole", "with its exit"


@cache
def _rules(event: str) -> tuple[tuple[str, re.Pattern[str]], ...]:
    rows = []
    for name, field, _ in TABLE:
        if name == event:
            action, _, pattern = (
                field.rpartition(":") if field.startswith(("whole:", "with its exit:")) else ("", "", field)
            )
            rows.append((action or ("blank" if field else "whole"), re.compile(pattern)))
    return tuple(rows)


def comparable(events: Iterable[tuple[str, str]]) -> list[str | None]:
    """A vCPU's events, in order, as (tracepoint, text): how each is compared, None if it is left out."""
    found: list[str | None] = []
    last_exit = 0
    for at, (event, text) in enumerate(events):
        actions = {action for action, pattern in _rules(event) if action != "blank" and pattern.search(text)}
        if WITH_ITS_EXIT in actions:
            found[last_exit] = None
        if event == "kvm_exit":
            last_exit = at
        found.append(None if actions else f"{event}: {_blank(event, text).strip()}")
    return found


def _blank(event: str, text: str) -> str:
    for action, pattern in _rules(event):
        if action == "blank":
            text = pattern.sub("…", text)
    return text
