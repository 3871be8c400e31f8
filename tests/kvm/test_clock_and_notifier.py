"""Who wakes and kicks vCPUs besides interrupts: kvmclock's update, and the end of a change to the VMM's page tables."""

import pytest

from kvmmodel import Host
from kvmmodel.events import CheckRequest, Kick, KvmApic, KvmApicIpi, KvmVcpuWakeup, MakeRequest
from kvmmodel.kvm.host_types import DelayedWork
from kvmmodel.kvm.workqueue import schedule_delayed_work
from kvmmodel.trace.probe import probe
from kvmmodel.trace.stacks import names
from tests.machines import SERIES, booted, events, vm

DELAYED = [kernel for kernel in SERIES if kernel not in ("7.2", "7.3")]


def _kicked(made, function):
    """The vCPUs that were kicked below a function."""
    records = [r for r in made.trace.records if isinstance(r.event, Kick)]
    return [r.event.vcpu_id for r in records if any(f.name == function for f in r.stack)]


@pytest.mark.parametrize("kernel", SERIES)
def test_a_first_load_asks_for_all_clocks(kernel):
    made = vm(1, kernel)
    made.execute(0, ("spin 1000",))
    made.run()
    asked = [e.request for e in events(made, MakeRequest) if "CLOCK" in e.request]
    taken = [e.request for e in events(made, CheckRequest) if "CLOCK" in e.request]
    assert asked == taken == ["GLOBAL_CLOCK_UPDATE", "CLOCK_UPDATE"]


@pytest.mark.parametrize("kernel", DELAYED)
def test_all_vcpus_are_kicked_by_a_worker_100_ms_later(kernel):
    """recorded 6.1.176, 6.12.95: kvm_vcpu_kick < kvmclock_update_fn < process_one_work < worker_thread < kthread."""
    made = vm(2, kernel)
    made.execute(0, ("spin 150000000",))
    made.run(limit_ns=200_000_000)
    assert _kicked(made, "kvmclock_update_fn") == [0, 1]
    (first, *_) = [r for r in made.trace.records if any(f.name == "kvmclock_update_fn" for f in r.stack)]
    assert first.t >= 100_000_000
    assert first.task == "kworker/0:1"
    outer = ("process_one_work", "worker_thread", "kthread", "ret_from_fork")
    stack = names(first.stack, made.host.kernel)
    assert stack[stack.index("process_one_work") :][:4] == outer


@pytest.mark.parametrize("kernel", ["7.2", "7.3"])
def test_newer_releases_kick_them_at_once(kernel):
    """recorded 7.2.13, 7.3.4: no such worker."""
    made = vm(2, kernel)
    made.execute(0, ("spin 150000000",))
    made.run(limit_ns=200_000_000)
    assert _kicked(made, "kvm_gen_kvmclock_update")[:2] == [0, 1]
    assert not any(f.name == "kvmclock_update_fn" for r in made.trace.records for f in r.stack)


def test_delayed_work_alone_keeps_no_run_going():
    made = booted(1, "6.12")
    made.run()
    assert made.trace.records == []
    assert made.machine.host.delayed


def test_work_that_is_pending_is_not_scheduled_again():
    host = booted(1, "6.12").machine.host
    work = DelayedWork(lambda: None)
    assert schedule_delayed_work(host, work, 10)
    due = work.due
    assert not schedule_delayed_work(host, work, 99)
    assert (work.due, host.delayed.count(work)) == (due, 1)


@pytest.mark.parametrize("kernel", SERIES)
def test_the_end_of_a_change_to_page_tables_looks_for_a_waiting_memslot_update(kernel):
    """recorded 6.1.176; nobody waits, so nobody is woken."""
    made = booted(1, kernel)
    with probe() as seen:
        made.mprotect()
    stacks = {names(stack, made.host.kernel) for stack in seen.stacks}
    woken = ("rcuwait_wake_up", "kvm_mmu_notifier_invalidate_range_end", "__mmu_notifier_invalidate_range_end")
    assert any(stack[:3] == woken for stack in stacks) == (kernel != "5.10")
    assert made.trace.records == []


@pytest.mark.parametrize("kernel", SERIES)
def test_wake_ups_of_a_vcpu_that_waits_for_sipi_are_traced_up_to_5_15(kernel):
    """recorded 5.10.262 (S01: one after INIT, one after SIPI) and 6.1.176 (none)."""
    made = vm(2, kernel)
    enable = ("wrmsr APIC_BASE 0xfee00d00", "wrmsr SVR 0x1ff")
    made.execute(0, (*enable, "wrmsr ICR 0x1_0000_4500", "spin 5000000", "wrmsr ICR 0x1_0000_4609", "spin 5000000"))
    made.execute(1, ("spin 10",))
    made.run()
    woken = [r for r in made.trace.records if isinstance(r.event, KvmVcpuWakeup) and r.vcpu == 1]
    assert len(woken) == (2 if kernel in ("5.10", "5.15") else 0)


@pytest.mark.parametrize("kernel", SERIES)
@pytest.mark.parametrize("nrips", [False, True])
def test_how_an_icr_write_is_traced(kernel, nrips):
    """recorded 5.10.262 and 6.1.176 without NRIPS, 6.12.95 and 7.3.4 with and without.

    5.10 and 5.15 write two registers and then send; their fast path, like 6.1, sends and then tells of one.
    """
    made = Host("zen4", kernel, avic=False, nrips=nrips).create_vm(2, boot=True)
    made.vcpus[0].guest.wrmsr(0x830, 1 << 32 | 0x43)
    told = [e for e in made.trace.events if isinstance(e, (KvmApic, KvmApicIpi))]
    slow = not nrips and made.host.kernel.has("fastpath_needs_nrips")
    two = not made.host.kernel.has("icr_one_register") and slow
    rows = [(e.reg, e.val) if isinstance(e, KvmApic) else "ipi" for e in told]
    assert rows == ([(0x310, 1), (0x300, 0x43), "ipi"] if two else ["ipi", (0x300, 1 << 32 | 0x43)])
    assert made.vcpus[0].guest.rdmsr(0x830) == 1 << 32 | 0x43
