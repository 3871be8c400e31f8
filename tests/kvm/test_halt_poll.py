"""Halt polling: growth, shrink and the cap."""

import pytest

from kvmmodel import Host
from kvmmodel.events import HostIpi, Kick, KvmHaltPollNs, KvmVcpuWakeup
from kvmmodel.kvm.kvm_main import update_halt_poll_ns
from kvmmodel.scenarios.run import built_in, run
from tests.machines import MSI, SERIES, booted, events


@pytest.mark.parametrize(
    ("kernel", "now", "halted", "after"),
    [
        ("6.12", 0, 5_000, 10_000),
        ("6.12", 10_000, 15_000, 20_000),
        ("6.12", 20_000, 15_000, 20_000),
        ("6.12", 160_000, 180_000, 200_000),
        ("6.12", 40_000, 300_000, 20_000),
        ("6.6", 40_000, 300_000, 0),
        ("6.12", 16_000, 300_000, 0),
        ("6.12", 0, 300_000, 0),
    ],
)
def test_growth_and_shrink(kernel, now, halted, after):
    """source 6.12.117: x2 from 10 us up to 200 us; / 2 since 6.12, before straight to 0; below 10 us it is 0."""
    vcpu = booted(kernel=kernel).vcpus[0].kvm_vcpu
    vcpu.halt_poll_ns = now
    update_halt_poll_ns(vcpu, halted)
    assert vcpu.halt_poll_ns == after


def test_a_polling_vcpu_takes_the_interrupt_without_sleeping():
    """source 6.18.35: the second short halt is polled."""
    made = booted(1)
    guest = made.vcpus[0].guest
    for vector in (0x41, 0x42, 0x43):
        made.execute(0, ("hlt",))
        made.run(until=lambda: made.vcpus[0].kvm_vcpu.mp_state == "halted")
        now = made.machine.now
        made.run(until=lambda now=now: made.machine.now > now + 2_000, limit_ns=2_500)
        made.signal_msi(MSI, vector)
        made.run()
    assert guest.handled == {0x41: 1, 0x42: 1, 0x43: 1}
    assert len(events(made, KvmVcpuWakeup)) == 3
    assert [e.grow for e in events(made, KvmHaltPollNs)][:1] == [True]


def test_polling_can_be_switched_off():
    made = Host("zen4", "6.18", avic=False, halt_poll_ns=0).create_vm(1, boot=True)
    for vector in (0x41, 0x42):
        made.vcpus[0].guest.hlt()
        made.signal_msi(MSI, vector)
        made.run()
    assert events(made, KvmHaltPollNs) == []
    assert all(e.waited for e in events(made, KvmVcpuWakeup))


@pytest.mark.parametrize("kernel", SERIES)
def test_a_polling_vcpu_is_neither_woken_nor_sent_a_host_ipi(kernel):
    """source 5.10 to 7.3: the kick finds nobody asleep or in the guest; the polling loop finds the interrupt."""
    made = run(built_in("ipi-polled"), Host("zen4", kernel, avic=False))
    assert [e.outcome for e in events(made, Kick)] == ["woken", "nothing"]
    assert len(events(made, HostIpi)) == 1
    assert [e.waited for e in events(made, KvmVcpuWakeup)] == [True, False]
    assert made.vcpus[1].guest.handled == {0x43: 2}
