"""Runs as a whole: deterministic on every release, nothing lost."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvmmodel import Host
from kvmmodel.events import Ack, ClearIsr, HandlerEnter, HandlerLeave, PicAck, SetIrr
from kvmmodel.kvm.requests import KVM_REQ_SCAN_IOAPIC
from kvmmodel.scenarios.run import built_in, names, run
from kvmmodel.trace import ftrace
from kvmmodel.trace.stacks import histogram
from tests.machines import MSI, RELEASES, booted, events


def play(name, kernel, **options):
    return run(built_in(name), Host("zen4", kernel, avic=False), **options)


@pytest.mark.parametrize("kernel", RELEASES)
@pytest.mark.parametrize("name", names())
def test_every_accepted_vector_is_handled_exactly_once(name, kernel):
    """Accepted, taken, handled, ended: the same vectors on the same vCPUs, and nothing left at the end.

    An ExtINT is acknowledged at the 8259s and handled, by vCPU 0; the local APIC has nothing of it.
    """
    made = play(name, kernel, stacks=False)
    counts = [sorted((e.vcpu_id, e.vector) for e in events(made, kind)) for kind in (SetIrr, Ack, ClearIsr)]
    handled = sorted((e.vcpu_id, e.vector) for e in events(made, HandlerEnter) if e.vector != 2)
    extints = [(0, e.vector) for e in events(made, PicAck)]
    assert [sorted(count + extints) for count in counts] == [handled] * 3
    scan = 1 << KVM_REQ_SCAN_IOAPIC  # does not wake, so a halted vCPU keeps it
    left = [(v.lapic.irr, v.lapic.isr, v.kvm_vcpu.requests & ~scan) for v in made.vcpus]
    assert left == [(0, 0, 0)] * len(made.vcpus)
    assert len(events(made, HandlerLeave)) == len(events(made, HandlerEnter))


@pytest.mark.parametrize("name", names())
def test_the_same_run_twice_is_the_same_byte_for_byte(name):
    one, two = play(name, "6.12"), play(name, "6.12")
    assert ftrace.render(one.trace.records, one.host.kernel) == ftrace.render(two.trace.records, two.host.kernel)
    assert histogram(one.trace.records, one.host.kernel) == histogram(two.trace.records, two.host.kernel)
    assert one.trace.records == two.trace.records


@pytest.mark.parametrize("name", names())
def test_tracing_changes_nothing(name):
    """What is watched behaves as what is not."""
    seen, unseen = play(name, "6.18"), play(name, "6.18", trace=False)
    assert unseen.trace.records == []
    assert [v.get_lapic() for v in seen.vcpus] == [v.get_lapic() for v in unseen.vcpus]
    assert [v.guest.handled for v in seen.vcpus] == [v.guest.handled for v in unseen.vcpus]


@pytest.mark.parametrize("name", names())
def test_each_cpus_time_goes_forward(name):
    made = play(name, "6.12")
    for cpu in {record.cpu for record in made.trace.records}:
        times = [record.t for record in made.trace.records if record.cpu == cpu]
        assert times == sorted(times)


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 4), st.lists(st.tuples(st.integers(0, 3), st.integers(0x20, 0xFE)), max_size=8))
def test_vcpus_may_share_a_cpu(vcpus, messages):
    """All threads on one physical CPU: they take turns, and each message still arrives."""
    made = booted(vcpus, pcpus=[3] * vcpus, stacks=False)
    for target, vector in messages:
        made.signal_msi(MSI | target % vcpus << 12, vector)
        made.run(until=lambda: all(v.lapic.irr == 0 for v in made.vcpus))
    for vcpu in made.vcpus:
        sent = {v for t, v in messages if t % vcpus == vcpu.id}
        assert set(vcpu.guest.handled) == sent


def test_what_userspace_does_because_of_an_event_does_not_come_before_it():
    """It once began at the time of the last turn, so that a device answered an IRET before it had happened."""
    made = run(built_in("level-edge"), Host(kernel="6.12", avic=False))
    returns = next(r.t for r in made.trace.records if r.event.kind == "iret")
    raised = [r.t for r in made.trace.records if r.event.kind == "kvm_set_irq" and r.event.level]
    assert len(raised) == 2
    assert raised[0] < returns < raised[1]


@pytest.mark.parametrize(("cpu", "options"), [("zen4", {}), ("zen2", {}), ("tcg", {"force_avic": True})])
@pytest.mark.parametrize("name", ["ipi-others-halted", "ipi-polled", "broadcast", "msi-in-guest"])
def test_a_doorbell_to_a_guest_with_nothing_left_to_do_ends_no_run(name, cpu, options):
    """A second one, or one that nobody hears: it used to end the run with an error."""
    made = run(built_in(name), Host(cpu, "7.3", avic=True, **options), trace=False)
    assert not any(cpu.doorbells for cpu in made.machine.host.cpus if cpu.current is not None)
