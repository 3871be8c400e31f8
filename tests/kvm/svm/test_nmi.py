"""NMIs with vNMI: the processor delivers them, KVM only sets a bit."""

import pytest

from kvmmodel import Host
from kvmmodel.events import HandlerEnter, VmExit
from kvmmodel.guest.program import parse
from tests.machines import MSI, events

NMI = 0x400


def booted(kernel="6.18", **params):
    return Host("zen4", kernel, avic=False, **params).create_vm(1, boot=True)


def reasons(made):
    return [e.reason for e in events(made, VmExit)]


@pytest.mark.parametrize("kernel", ["6.6", "6.12", "6.18", "7.2", "7.3"])
def test_one_nmi_costs_no_exit_of_its_own(kernel):
    """source 6.18: V_NMI_PENDING only, no EVENTINJ and no IRET intercept."""
    made = booted(kernel)
    made.signal_msi(MSI, NMI)
    made.run()
    assert made.vcpus[0].guest.handled == {2: 1}
    assert "iret" not in reasons(made)


@pytest.mark.parametrize("params", [{}, {"vnmi": False}], ids=["vNMI", "without"])
def test_two_at_once_are_both_delivered_one_after_the_other_and_the_rest_is_dropped(params):
    """source: process_nmi keeps two; one goes by EVENTINJ, the other waits in V_NMI_PENDING or for IRET."""
    made = booted(**params)
    for _ in range(4):
        made.signal_msi(MSI, NMI)
    made.run()
    assert made.vcpus[0].guest.handled == {2: 2}
    assert ("iret" in reasons(made)) == bool(params)


def test_vnmi_needs_vgif():
    host = Host("zen4", "6.18", avic=False, vgif=False)
    assert not host.create_vm(1).vcpus[0].kvm_vcpu.vmcb.v_nmi_enable
    assert Host("zen4", "6.1", avic=False).params.get("vnmi") is None


def test_an_nmi_does_not_nest_with_vnmi():
    made = booted()
    made.world.bodies["slow"] = (parse("spin 5000"),)
    made.world.idt[0] = {2: "slow"}
    made.signal_msi(MSI, NMI)
    made.run(until=HandlerEnter)
    assert made.vcpus[0].kvm_vcpu.vmcb.v_nmi_blocking
    made.signal_msi(MSI, NMI)
    made.run()
    assert made.vcpus[0].guest.handled == {2: 2}
    assert not made.vcpus[0].kvm_vcpu.vmcb.v_nmi_blocking
