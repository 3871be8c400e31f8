"""Every ioctl of a vCPU loads it and puts it: recorded 7.3.4, avic=1 force_avic=1, where AVIC's half has a probe."""

import pytest

from kvmmodel import Host
from kvmmodel.events import AvicIsRunning
from kvmmodel.kvm import vcpu_ioctl
from kvmmodel.trace.probe import probe
from kvmmodel.trace.stacks import names


def _loads(call):
    """The stacks of avic_vcpu_load, down to the ioctl, that a call makes."""
    with probe() as seen:
        kept = call()
    stacks = [names(stack, kept.host.kernel) for stack in seen.stacks]
    del kept
    return {stack[: stack.index("__x64_sys_ioctl")] for stack in stacks if stack[0] == "avic_vcpu_load"}


LOAD = ("avic_vcpu_load", "svm_vcpu_load", "kvm_arch_vcpu_load", "vcpu_load")


@pytest.mark.parametrize("last", ["kvm_arch_vcpu_create", "kvm_arch_vcpu_postcreate"])
def test_a_vcpu_is_loaded_twice_while_it_is_created(last):
    """postcreate's was missing."""
    stacks = _loads(lambda: Host("zen4", "7.3", avic=True).create_vm(1))
    assert (*LOAD, last, "kvm_vm_ioctl_create_vcpu", "kvm_vm_ioctl") in stacks


@pytest.mark.parametrize("last", ["get_sregs", "set_sregs", "set_regs"])
def test_a_general_ioctl_does_not_go_through_those_of_x86(last):
    stacks = _loads(lambda: Host("zen4", "7.3", avic=True).create_vm(1))
    assert (*LOAD, f"kvm_arch_vcpu_ioctl_{last}", "kvm_vcpu_ioctl") in stacks


def test_an_ioctl_leaves_the_vcpu_not_running():
    made = Host("zen4", "7.3", avic=True).create_vm(1, boot=True)
    made.trace.clear(made.machine.now)
    vcpu = made.vcpus[0].kvm_vcpu
    vcpu.run = None  # as if its thread was in userspace
    vcpu_ioctl.set_mp_state(vcpu, "runnable")
    told = [r.event.running for r in made.trace.records if isinstance(r.event, AvicIsRunning)]
    assert told == [True, False]
