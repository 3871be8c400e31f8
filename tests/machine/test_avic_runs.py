"""With AVIC on a guest handles what it handles without, in every built-in scenario; a doorbell is only a doorbell."""

import pytest

from kvmmodel import Host
from kvmmodel.events import AvicDoorbell, KvmExit
from kvmmodel.matrix.scenarios import expected
from kvmmodel.scenarios.run import built_in, names, run, unfinished
from tests.machine.avic_guests import act, ready

LOSSES = {"6.1": {"ipi-logical-halted"}, "6.6": {"cr8-handler"}}


def seen(name, host):
    """Per vCPU the vectors handled and how often, what waits, faults; what guests noted; who did not finish.

    Not what is in service: of a PV EOI KVM hears at the next exit.
    """
    vm = run(built_in(name), host, trace=False)
    vcpus = [(v.guest.handled, v.lapic.irr, v.inside.faults) for v in vm.vcpus]
    return (vcpus, vm.world.log, unfinished(vm)), vm.vcpus[0].avic_mode


@pytest.mark.parametrize(
    ("cpu", "kernel", "params"),
    [
        ("zen4", "7.3", {}),
        ("zen4", "7.3", {"enable_ipiv": "N"}),
        ("zen4", "6.1", {}),
        ("zen2", "6.6", {}),
        ("zen2", "6.18", {}),
        ("zen2", "5.10", {}),
    ],
)
def test_every_scenario_is_handled_as_without_avic(cpu, kernel, params):
    """But for the losses that facts about this release explain: see matrix/scenarios.py."""
    on, off = (Host(cpu, kernel, avic=avic, **params) for avic in (True, False))
    assert on.params["avic"]
    differing = set()
    for name in names():
        with_avic, mode = seen(name, on)
        if with_avic != seen(name, off)[0]:
            assert expected(name, on.kernel, mode), name
            differing.add(name)
    assert differing == LOSSES.get(kernel, set())


def test_a_doorbell_that_brings_nothing_ends_no_loop():
    """A guest with IF clear spins on a cell. The doorbell of an interrupt it cannot take once ended the loop."""
    noted = []
    for avic in (False, True):
        vm = Host("zen4", "7.3", avic=avic).create_vm(2, boot=True, stacks=False)
        vm.execute(0, ("spin 2000", "wrmsr ICR 0x1_0000_0043", "spin 6000", "log flag", "set flag 1"))
        vm.execute(1, ("cli", "until flag 1", "log end", "sti"))
        vm.run()
        assert any(isinstance(event, AvicDoorbell) for event in vm.trace.events) == avic
        assert vm.vcpus[1].guest.handled == {0x43: 1}
        noted.append(vm.world.log)
    assert noted == [[("flag", 0), ("end", 0)]] * 2


@pytest.mark.parametrize(
    ("kernel", "exits", "cr8"),
    [
        ("6.6", 1, 4),  # the write goes to the page, V_TPR is not loaded from it: the guest's CR8 stays
        ("6.12.60", 1, 0),  # one exit too many
        ("7.3", 0, 0),
    ],
)
def test_a_cr8_intercept_that_outlives_the_inhibit(kernel, exits, cr8):
    """Set while AVIC was off and TPR held a vector back. Commit 87d0f901a9bd takes it away with AVIC's return."""
    vm = ready("x2avic", kernel, 1, True)
    for step in (("cr8", 4, 0), ("self_ipi", 0, 0x40), ("pit", 1, 0), ("pit", 0, 0)):
        act(vm, 0, step)
        vm.run()
    assert vm.vcpus[0].apicv_active
    vm.trace.clear(vm.machine.now)
    act(vm, 0, ("cr8", 0, 0))
    reasons = [event.reason for event in vm.trace.events if isinstance(event, KvmExit)]
    assert reasons.count("write_cr8") == exits
    assert act(vm, 0, ("read_cr8", 0, 0)) == cr8
