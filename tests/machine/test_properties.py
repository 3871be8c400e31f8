"""Laws that hold at every event of any run: random programs and handlers, random releases, with and without PV EOI."""

from hypothesis import given, settings
from hypothesis import strategies as st

from kvmmodel import Host
from kvmmodel.events import Ack, ClearIsr, HandlerEnter, UpdatePpr
from kvmmodel.guest.program import parse
from kvmmodel.trace import ftrace
from tests.machines import MSI, RELEASES, booted, events

BODIES = {
    "plain": ("eoi",),
    "pv": ("pv_eoi",),
    "early": ("eoi", "sti", "spin 1500", "cli"),
    "nested": ("sti", "spin 2500", "cli", "eoi"),
    "nested-pv": ("sti", "spin 2500", "cli", "pv_eoi"),
    "sends": ("wrmsr SELF_IPI 0x31", "eoi"),
    "raises": ("write_cr8 5", "sti", "spin 1000", "cli", "eoi", "write_cr8 1"),
}
VECTOR = st.integers(0x32, 0xFE)
LINE = st.one_of(
    st.builds("wrmsr SELF_IPI {:#x}".format, VECTOR),
    st.builds("wrmsr ICR {:#x}".format, st.builds(lambda cpu, vector: cpu << 32 | vector, st.integers(0, 1), VECTOR)),
    st.builds("wrmsr ICR {:#x}".format, VECTOR.map(lambda vector: 0x80000 | vector)),
    st.builds("write_cr8 {}".format, st.integers(0, 15)),
    st.builds("wrmsr TPR {:#x}".format, st.integers(0, 255)),
    st.builds("spin {}".format, st.integers(100, 4000)),
    st.builds("deadline {}".format, st.integers(1000, 6000)),
    st.sampled_from(["cli", "sti", "nop", "eoi", "rdmsr PPR", "wrmsr ICR 0x40400", "wrmsr ICR 0x40200"]),
)
PROGRAM = st.lists(LINE, max_size=12)
GUESTS = st.tuples(
    st.sampled_from(RELEASES),
    st.sampled_from(["zen4", "zen3", "tcg"]),
    st.tuples(PROGRAM, PROGRAM),
    st.dictionaries(VECTOR, st.sampled_from(sorted(BODIES)), max_size=6),
    st.booleans(),
)


def play(guests, trace=True):
    """Both vCPUs run their programs to the end, then open up for whatever waits."""
    kernel, cpu, programs, bodies, pv_eoi = guests
    made = Host(cpu, kernel, avic=False).create_vm(2, boot=True, stacks=False, trace=trace)
    made.world.bodies |= {name: tuple(parse(line) for line in body) for name, body in BODIES.items()}
    for vcpu, program in zip(made.vcpus, programs, strict=True):
        made.world.idt[vcpu.id] = {0xEC: "plain", **bodies}
        start = [f"pv_eoi_on {0x5000 + 64 * vcpu.id:#x}"] if pv_eoi else []
        lines = (*start, "wrmsr LVTT 0x400ec", *program, "write_cr8 0", "sti", "spin 8000")
        made.execute(vcpu.id, lines)
    made.run()
    return made


def in_service(isr):
    return [v for v in range(256) if isr >> v & 1]


@settings(max_examples=60, deadline=None)
@given(GUESTS)
def test_ppr_law_priority_order_and_eoi_at_every_event(guests):
    """PPR := TPR or the class of the highest in service; only a higher class interrupts; EOI ends the highest."""
    made = play(guests)
    before = {v.id: 0 for v in made.vcpus}
    for record in made.trace.records:
        event = record.event
        for state in record.states:
            if isinstance(event, UpdatePpr) and event.vcpu_id == state.vcpu:
                top = max(in_service(state.isr), default=0) & 0xF0
                assert event.new == (state.tpr if state.tpr & 0xF0 >= top else top)
            if isinstance(event, Ack) and event.vcpu_id == state.vcpu:
                others = [v for v in in_service(state.isr) if v != event.vector]
                assert all(event.vector >> 4 > other >> 4 for other in others)
                assert event.vector >> 4 > state.tpr >> 4
                assert event.vector == max(in_service(before[state.vcpu]))
            if isinstance(event, ClearIsr) and event.vcpu_id == state.vcpu:
                assert all(v < event.vector for v in in_service(state.isr))
            before[state.vcpu] = state.irr


@settings(max_examples=25, deadline=None)
@given(GUESTS)
def test_the_same_input_gives_the_same_trace_and_watching_changes_nothing(guests):
    one, two, unseen = play(guests), play(guests), play(guests, trace=False)
    assert ftrace.render(one.trace.records, one.host.kernel) == ftrace.render(two.trace.records, two.host.kernel)
    assert [v.get_lapic() for v in one.vcpus] == [v.get_lapic() for v in unseen.vcpus]
    assert [v.guest.handled for v in one.vcpus] == [v.guest.handled for v in unseen.vcpus]


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from(RELEASES),
    st.sets(VECTOR, max_size=4),
    st.integers(0, 15),
    st.lists(VECTOR, max_size=3),
)
def test_a_saved_and_restored_apic_goes_on_as_if_nothing_had_been(kernel, waiting, cr8, more):
    """KVM_GET_LAPIC, KVM_SET_LAPIC: the page is the same, and so is what is delivered after it."""
    handled = []
    for restored in (False, True):
        made = booted(1, kernel=kernel, stacks=False)
        vcpu, guest = made.vcpus[0], made.vcpus[0].guest
        guest.cli()
        guest.write_cr8(cr8)
        for vector in waiting:
            guest.wrmsr(0x83F, vector)
        if restored:
            page = vcpu.get_lapic()
            vcpu.set_lapic(page)
            assert vcpu.get_lapic() == page
        for vector in more:
            made.signal_msi(MSI, vector)
        guest.sti()
        made.run()
        guest.write_cr8(0)
        made.run()
        handled.append([e.vector for e in events(made, HandlerEnter)])
    assert handled[0] == handled[1]
