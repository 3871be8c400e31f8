"""Races and corners of IPIs under AVIC, beside T1 to T20."""

import pytest

from kvmmodel.events import AvicRing, CheckBlock, KvmAvicKickVcpuSlowpath, WakeUp
from kvmmodel.kvm.svm.avic.tables import logical_table
from kvmmodel.machine.loop import run_nested
from kvmmodel.silicon.avic_tables import LOGICAL_VALID
from tests.kvm.svm.avic.avic_vms import (
    LDR,
    LOGICAL,
    SERIES,
    TMICT,
    X2AVIC,
    block,
    clear,
    events,
    exits,
    handled,
    icr,
    running,
    vm,
    write,
)

V = 0x40
XAPIC_ICR = ("mmio_write 0xfee00310 0x1000000", "mmio_write 0xfee00300 0x40")


@pytest.mark.parametrize("target", [1, 2, 3])
@pytest.mark.parametrize("kernel", X2AVIC)
def test_whoever_the_index_names_is_found_without_a_search(kernel, target):
    """Catches an index that is 0 or 1 whatever the exit reports: then the fast way is left for the slow one."""
    made = vm(4, kernel)
    block(made, target)
    icr(made, V, target)
    assert events(made, KvmAvicKickVcpuSlowpath) == []
    assert [e.vcpu_id for e in events(made, WakeUp)] == [target]
    assert handled(made)[target] == {V: 1}


@pytest.mark.parametrize("kernel", SERIES)
def test_an_ipi_that_comes_behind_the_last_look_wakes_the_target(kernel):
    """The target has found nothing and is about to sleep; a processor sends to it at that moment.

    Catches IsRunning cleared only when the thread leaves its core: the doorbell goes to a core where no guest is.
    """
    made = vm(2, kernel, host={"halt_poll_ns": 0})
    made.execute(1, ("hlt",))

    def send(event):
        if isinstance(event, CheckBlock) and event.vcpu_id == 1 and not event.wakes:
            made.trace.listeners.remove(send)
            assert running(made, 1) == (False, False)
            x2apic = made.vcpus[0].inside.x2apic
            made.execute(0, ("wrmsr ICR 0x100000040",) if x2apic else XAPIC_ICR)
            run_nested(made.machine, lambda: bool(exits(made, 0)))

    made.trace.listeners.append(send)
    made.run()
    assert handled(made)[1] == {V: 1}


@pytest.mark.parametrize("kernel", SERIES)
def test_a_new_logical_id_gives_up_the_old_slot(kernel):
    """Catches a slot that stays: an IPI to the old logical ID would still reach the vCPU."""
    made = vm(2, kernel, x2apic=False)
    for value in (1 << 25, 1 << 26):
        write(made, 1, LDR, value)
    assert sorted(slot for slot, entry in logical_table(made.machine.kvm).items() if entry & LOGICAL_VALID) == [2]
    clear(made)
    icr(made, V | LOGICAL, 2)
    assert handled(made)[1] == {}
    icr(made, V | LOGICAL, 4)
    assert handled(made)[1] == {V: 1}


@pytest.mark.parametrize("kernel", SERIES)
def test_the_write_of_the_initial_count_is_not_emulated_again(kernel):
    """KVM takes the value from the page; the instruction is behind the vCPU already.

    Catches the register taken for a fault's: KVM would emulate, and skip, what follows the write.
    """
    made = vm(1, kernel)
    rip = made.vcpus[0].inside.regs.rip
    write(made, 0, TMICT, 1000)
    assert made.vcpus[0].inside.regs.rip == rip + made.vcpus[0].inside.regs.length


@pytest.mark.parametrize("kernel", SERIES)
def test_a_doorbell_goes_to_the_core_where_the_target_is_now(kernel):
    """Catches an entry that keeps the first core: the doorbell would ring where another guest runs, or none."""
    made = vm(2, kernel)
    for cpu in (2, 1):
        block(made, 1)
        made.vcpus[1].kvm_vcpu.task.cpu = cpu  # sched_setaffinity
        icr(made, V, 1)
        clear(made)
        icr(made, V, 1)
        assert [e.host_apic_id for e in events(made, AvicRing)] == [cpu]
    assert handled(made)[1] == {V: 4}
