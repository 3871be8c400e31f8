"""The xAPIC page's memory slot goes while the vCPU that asked for it sleeps: recorded 7.3.4, avic=1 force_avic=1."""

import pytest

from kvmmodel import Host
from kvmmodel.events import SchedIn, SchedOut
from kvmmodel.trace.stacks import names
from tests.machines import APIC_BASE, X2APIC_ON, events

WAITS = ["kvm_sched_out", "kvm_swap_active_memslots", "kvm_set_memslot", "__x86_set_memory_region",
         "kvm_inhibit_apic_access_page", "kvm_arch_vcpu_ioctl_run"]  # fmt: skip


def _hybrid(kernel):
    made = Host("zen2", kernel, avic=True).create_vm(2)
    made.run()
    made.trace.clear(made.machine.now)
    made.vcpus[0].guest.wrmsr(APIC_BASE, X2APIC_ON)
    made.run()
    return made


@pytest.mark.parametrize(("kernel", "sleeps"), [("6.1", 0), ("6.6", 1), ("7.3", 1)])
def test_the_first_x2apic_vcpu_without_x2avic_sleeps_once(kernel, sleeps):
    made = _hybrid(kernel)
    stacks = [names(r.stack, made.host.kernel) for r in made.trace.records if isinstance(r.event, SchedOut)]
    found = [stack for stack in stacks if "kvm_inhibit_apic_access_page" in stack]
    assert len(found) == sleeps
    assert all([name for name in stack if name in WAITS] == WAITS for stack in found)
    assert len([e for e in events(made, SchedIn) if e.task == "vcpu0"]) == sleeps
    assert made.vcpus[0].apicv_active
    assert made.machine.kvm.apic_access_memslot_inhibited == (sleeps > 0)


def test_there_is_no_slot_to_remove_twice():
    made = _hybrid("7.3")
    made.trace.clear(made.machine.now)
    made.vcpus[0].guest.wrmsr(APIC_BASE, 0)
    made.vcpus[0].guest.wrmsr(APIC_BASE, X2APIC_ON & ~0x400)
    made.vcpus[0].guest.wrmsr(APIC_BASE, X2APIC_ON)
    assert events(made, SchedOut) == []
