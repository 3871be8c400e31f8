"""SMIs: KVM puts the vCPU into SMM and, at RSM, back; everything else waits meanwhile."""

import pytest

from kvmmodel.events import HandlerEnter, KvmSmmTransition, VmExit
from kvmmodel.guest.program import parse
from tests.machines import MSI, SERIES, booted, events

SMI, NMI, INIT = 0x200, 0x400, 0x500


def order(made):
    """Handlers by their vector, and SMM by "in" and "out"."""
    kinds = events(made, HandlerEnter, KvmSmmTransition)
    return [e.vector if isinstance(e, HandlerEnter) else "in" if e.entering else "out" for e in kinds]


@pytest.mark.parametrize("kernel", SERIES)
def test_an_smi_goes_before_an_nmi_and_that_before_an_interrupt(kernel):
    """source 6.18: kvm_check_and_inject_events; SMM is entered with NMIs masked and IF clear."""
    made = booted(kernel=kernel)
    for data in (0x41, NMI, SMI):
        made.signal_msi(MSI, data)
    made.run()
    first, second, *rest = order(made)
    assert (first, second) == ("in", "out")
    assert sorted(rest) == [2, 0x41]


def test_the_handler_ends_by_an_rsm_that_exits():
    made = booted()
    made.signal_msi(MSI, SMI)
    made.run()
    assert [e.reason for e in events(made, VmExit)].count("rsm") == 1
    assert not made.vcpus[0].kvm_vcpu.smm


def test_a_second_smi_waits_for_rsm_and_two_are_one():
    made = booted(2)
    made.execute(0, ("cli", "spin 5000", "sti"))
    for _ in range(2):
        made.signal_msi(MSI, SMI)
    made.run()
    assert order(made) == ["in", "out"]


def test_an_smi_inside_an_nmi_handler_leaves_nmis_masked():
    made = booted(2)
    made.world.bodies["slow"] = (parse("spin 5000"),)
    made.world.idt[0] = {2: "slow"}
    made.signal_msi(MSI, NMI)
    made.run(until=HandlerEnter)
    made.signal_msi(MSI, SMI)
    made.signal_msi(MSI, NMI)
    made.run()
    assert order(made) == [2, "in", "out", 2]


def test_without_config_kvm_smm_nobody_takes_it():
    """live 6.18.44: the message is refused."""
    assert booted(smm=False).signal_msi(MSI, SMI) == 0
