"""The search: as few runs as it takes, and what it says is what all runs would have said."""

import pytest

from kvmmodel.explain.corpus import corpus, explain_by_runs
from kvmmodel.explain.match import index, match
from kvmmodel.explain.normalise import part
from kvmmodel.explain.report import ask
from kvmmodel.explain.runs import emitted, functions_of, in_order, runs_on
from kvmmodel.explain.search import Search
from kvmmodel.explain.system import System
from kvmmodel.facts.cpus import processor
from kvmmodel.facts.releases import kernel
from kvmmodel.machine.host import Host
from kvmmodel.trace.stacks import names

HOSTS = (("zen4", False), ("zen4", True))
TAIL = "kvm_arch_vcpu_ioctl_run kvm_vcpu_ioctl __x64_sys_ioctl do_syscall_64"


def stack(frames):
    return tuple(map(part, f"{frames} {TAIL}".split()))


SYNC = stack("apic_update_ppr kvm_set_cr8 svm_vcpu_run")
PV_EOI = stack("apic_update_ppr apic_set_eoi kvm_lapic_sync_from_vapic")
FAST = stack("kvm_apic_send_ipi kvm_x2apic_icr_write handle_fastpath_set_msr_irqoff")
NEVER = stack("kvm_set_cr8 apic_set_eoi svm_vcpu_run")


@pytest.fixture
def few(monkeypatch):
    """Only short scenarios, two on each kernel, and nothing that was run before."""
    runs_on.cache_clear()
    monkeypatch.setattr("kvmmodel.explain.runs.in_order", lambda: ("pv-eoi", "ipi-in-guest"))
    monkeypatch.setattr("kvmmodel.explain.runs.AVIC_OFF", HOSTS)
    monkeypatch.setattr("kvmmodel.explain.runs.AVIC_ON", ())
    yield
    runs_on.cache_clear()


def to_the_end(search):
    while not search.settled:
        search.step()
    return search


@pytest.mark.usefixtures("few")
def test_nothing_is_matched_before_a_run_and_one_run_is_enough_for_what_it_emits():
    search = Search([SYNC, PV_EOI], "6.12")
    assert search.match(SYNC).verdict == "known"
    assert (search.done, search.left, search.next.kernel) == (0, 4, "6.12")
    search.step()
    assert search.settled
    assert search.left == 0
    found = search.match(PV_EOI)
    assert (found.verdict, found.kernels, found.by) == ("matched", ("6.12",), "6.12")
    assert (found.stack.run.scenario, found.stack.names[:2]) == ("pv-eoi", ("apic_update_ppr", "apic_set_eoi"))
    assert names(found.stack.functions(), kernel("6.12")) == found.stack.names


@pytest.mark.usefixtures("few")
def test_without_runs_nothing_is_matched(monkeypatch):
    monkeypatch.setattr("kvmmodel.explain.runs.in_order", tuple)
    search = Search([SYNC, PV_EOI, FAST], None)
    assert search.settled
    assert {search.match(one).verdict for one in (SYNC, PV_EOI, FAST)} == {"known"}


@pytest.mark.usefixtures("few")
def test_kernels_without_a_function_of_the_stack_are_not_run():
    """5.10 has no kvm_x2apic_icr_write, and 7.3 no such fast path. What the model lacks is run for nowhere."""
    assert "handle_fastpath_set_msr_irqoff" not in functions_of("7.3")
    assert Search([FAST], "7.3").settled
    assert Search([stack("kvm_frobnicate svm_vcpu_run")], None).settled
    search = to_the_end(Search([FAST], None))
    assert search.match(FAST).kernels == ("6.1", "6.6", "6.12")
    assert [name for name in search.kernels if runs_on(name).done] == ["6.1", "6.6", "6.12"]


@pytest.mark.usefixtures("few")
def test_every_kernel_gets_its_first_run_before_one_gets_a_second_and_the_newest_first():
    search = Search([NEVER], None)
    order = []
    while not search.settled:
        order.append(search.next.kernel)
        search.step()
    assert order[:8] == ["7.3", "7.2", "6.18", "6.12", "6.6", "6.1", "5.15", "5.10"]
    assert len(order) == 8 * 4, "what is never emitted takes all runs"
    assert search.match(NEVER).verdict == "known"


@pytest.mark.usefixtures("few")
def test_what_a_search_says_is_what_all_runs_together_say():
    whole = index(corpus(("5.10", "6.12", "7.3"), ("pv-eoi", "ipi-in-guest"), HOSTS))
    wanted = [SYNC, PV_EOI, FAST, NEVER]
    search = to_the_end(Search(wanted, None))
    for one in wanted:
        alone, together = search.match(one), match(one, whole)
        assert (alone.verdict, alone.outside) == (together.verdict, together.outside)
        assert set(alone.kernels) & {"5.10", "6.12", "7.3"} == set(together.kernels)


@pytest.mark.usefixtures("few")
def test_what_was_run_is_kept_and_changes_no_answer():
    first = to_the_end(Search([FAST], "6.12")).match(FAST)
    to_the_end(Search([NEVER], "6.12"))
    again = Search([FAST], "6.12")
    assert (again.settled, again.done) == (True, 0)
    assert again.match(FAST) == first


@pytest.mark.usefixtures("few")
def test_a_release_between_two_modelled_ones_is_compared_with_all():
    assert len(Search([SYNC], "6.8.3").kernels) == 8
    assert Search([SYNC], "6.12.95").kernels == ("6.12.95",)


def test_runs_come_in_the_order_of_their_programs_length_whatever_they_are_called():
    order = in_order()
    assert order[0] == "lab", "25 phases of one guest"
    assert order.index("ppr-exits") < order.index("self-ipi")


@pytest.mark.usefixtures("few")
def test_a_recording_that_tells_its_host_is_compared_with_that_host_alone():
    """tcg does not save the next RIP, so it has no fast path."""
    tcg = System("6.12", processor("tcg"), {"avic": False})
    assert to_the_end(Search([FAST, SYNC], "6.12", tcg)).match(FAST).verdict == "known"
    assert to_the_end(Search([FAST], "6.12")).match(FAST).verdict == "matched"


def test_a_text_is_asked_for_each_distinct_stack_once():
    text = "@[\n    apic_update_ppr+1\n    kvm_set_cr8+1\n    svm_vcpu_run+1\n]: 3\n"
    assert ask(text + text).wanted() == [SYNC[:3]]
    assert explain_by_runs(text + text, "6.12").verdicts() == {"matched": 1, "known": 0, "unknown": 0}


def test_a_probe_that_goes_on_finds_what_one_over_all_finds():
    host = Host("zen4", "6.12", False)
    assert emitted(host, ("pv-eoi", "ipi-halted")) == emitted(host, ("pv-eoi",)) | emitted(host, ("ipi-halted",))
