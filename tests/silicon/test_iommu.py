"""The IOMMU's remapping of one device message: to the host, or into a backing page: rule R11."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvmmodel.events import IommuGaLog, IommuPost
from kvmmodel.silicon.avic_tables import HostMemory
from kvmmodel.silicon.iommu import Iommu, Irte, message, words
from tests.silicon.avic_bench import Page, bits

PAGE = 0x1_0000_0000
POSTED = Irte(guest_mode=True, destination=7, vector=0x51, ga_tag=0x100002, ga_root_ptr=PAGE)


def iommu():
    made = Iommu(HostMemory({PAGE: Page()}), [].append, [].append, [].append, lambda: None)
    seen = {"events": [], "rung": [], "host": [], "log": []}
    made.emit, made.ring, made.interrupt_host = seen["events"].append, seen["rung"].append, seen["host"].append
    made.interrupt_log = lambda: seen["log"].append(list(made.log))
    return made, made.memory.pages[PAGE], seen


def test_remapped_the_host_gets_the_interrupt():
    """Catches a stale root pointer written to although the entry is not in guest mode."""
    made, page, seen = iommu()
    entry = replace(POSTED, guest_mode=False)
    message(made, entry)
    assert seen == {"events": [], "rung": [], "host": [entry], "log": []}
    assert page.irr == 0


def test_posted_to_a_vcpu_that_runs():
    """R11: the bit and a doorbell, and nothing else. Catches the vector sent to the core as an interrupt."""
    made, page, seen = iommu()
    message(made, replace(POSTED, is_run=True))
    assert page.irr == bits(0x51)
    assert seen == {"events": [IommuPost(0x51, True, 0x100002)], "rung": [7], "host": [], "log": []}


def test_posted_to_a_vcpu_that_blocks():
    """GALogIntr: the tag goes into the log, behind the bit. Catches a doorbell to where it was."""
    made, page, seen = iommu()
    message(made, replace(POSTED, ga_log_intr=True))
    assert page.irr == bits(0x51)
    assert (seen["rung"], seen["log"], made.log) == ([], [[0x100002]], [0x100002])
    assert seen["events"] == [IommuPost(0x51, False, 0x100002), IommuGaLog(0x100002)]


def test_posted_to_a_vcpu_that_is_preempted():
    """Neither bit: it waits in the IRR for the next VMRUN. Catches a log entry for it."""
    made, page, seen = iommu()
    message(made, POSTED)
    assert page.irr == bits(0x51)
    assert (seen["rung"], seen["log"], made.log) == ([], [], [])


def test_is_run_comes_before_ga_log_intr():
    """Up to 6.16 KVM leaves GALogIntr set while the vCPU runs. Catches a log entry besides the doorbell."""
    made, _, seen = iommu()
    message(made, replace(POSTED, is_run=True, ga_log_intr=True))
    assert (seen["rung"], made.log) == ([7], [])


@given(st.lists(st.integers(16, 255), max_size=6), st.booleans(), st.booleans())
def test_messages_add_up_and_touch_nothing_but_irr(vectors, is_run, ga_log_intr):
    """TMR stays as it was, so a stale one makes the EOI exit (inferred)."""
    made, page, _ = iommu()
    page.tmr = before = bits(0x51)
    for vector in vectors:
        message(made, replace(POSTED, vector=vector, is_run=is_run, ga_log_intr=ga_log_intr))
    assert page.irr == bits(*vectors)
    assert (page.tmr, page.isr, page.regs) == (before, 0, {})
    assert len(made.log) == (len(vectors) if ga_log_intr and not is_run else 0)


@pytest.mark.parametrize("is_run", [True, False])
def test_the_entry_itself_is_only_read(is_run):
    made, _, _ = iommu()
    entry = replace(POSTED, is_run=is_run, ga_log_intr=True)
    message(made, entry)
    assert entry == replace(POSTED, is_run=is_run, ga_log_intr=True)


def test_the_words_of_an_entry():
    """source: union irte_ga_lo and irte_ga_hi, drivers/iommu/amd/amd_iommu_types.h, 7.3.4."""
    posted = Irte(guest_mode=True, vector=0x63, ga_root_ptr=0x1000, ga_tag=0x1002, is_run=True, ga_log_intr=True)
    lo, hi = words(replace(posted, destination=0x1000005))
    assert lo == 0x1002 << 32 | 5 << 8 | 1 << 7 | 1 << 6 | 1 << 2 | 1
    assert hi == 1 << 56 | 0x1000 | 0x63
    assert words(Irte(vector=0x22, destination=6)) == (6 << 8 | 1, 0x22)
