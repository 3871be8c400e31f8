"""Random guests on random releases: nothing is lost, nothing comes twice, whatever the order."""

from hypothesis import given, settings
from hypothesis import strategies as st

from kvmmodel import GuestStuck
from kvmmodel.events import HandlerEnter, SetIrr
from tests.machines import RELEASES, TPR, booted, events, msr

VECTORS = st.integers(0x20, 0xFE)
STEPS = st.one_of(
    st.tuples(st.just("ipi"), st.integers(0, 2), VECTORS),
    st.tuples(st.just("all"), st.just(0), VECTORS),
    st.tuples(st.just("self"), st.just(0), VECTORS),
    st.tuples(st.just("msi"), st.integers(0, 2), VECTORS),
    st.tuples(st.sampled_from(["cli", "sti", "hlt", "nop", "read"]), st.just(0), st.just(0)),
    st.tuples(st.sampled_from(["cr8", "tpr"]), st.integers(0, 15), st.just(0)),
)
PROGRAMS = st.lists(st.tuples(st.integers(0, 2), STEPS), max_size=25)


def act(made, who, step):
    guest, (op, a, b) = made.vcpus[who].guest, step
    if op == "ipi":
        guest.wrmsr(0x830, a % len(made.vcpus) << 32 | b)
    elif op == "all":
        guest.wrmsr(0x830, 0xC0000 | b)
    elif op == "self":
        guest.wrmsr(0x83F, b)
    elif op == "msi":
        made.signal_msi(0xFEE00000 | a % len(made.vcpus) << 12, b)
    elif op == "cr8":
        guest.write_cr8(a)
    elif op == "tpr":
        guest.wrmsr(msr(TPR), a << 4 | a)
    elif op == "read":
        guest.rdmsr(0x80A)
    else:
        getattr(guest, op)()


@settings(max_examples=150, deadline=None)
@given(st.integers(1, 3), st.sampled_from(RELEASES), st.sampled_from(["zen4", "tcg"]), PROGRAMS)
def test_what_is_requested_is_handled_once_or_still_waits(vcpus, kernel, cpu, steps):
    """Per vCPU and vector: IRR rose as often as handlers ran, plus what waits. Opened up, all is delivered."""
    made = booted(vcpus, kernel, cpu=cpu, stacks=False)
    raised = {}
    before = dict.fromkeys(range(vcpus), 0)

    def listen(event):
        for vcpu in made.vcpus:
            rising = vcpu.lapic.irr & ~before[vcpu.id]
            if isinstance(event, SetIrr) and event.vcpu_id == vcpu.id and rising >> event.vector & 1:
                raised[vcpu.id, event.vector] = raised.get((vcpu.id, event.vector), 0) + 1
            before[vcpu.id] = vcpu.lapic.irr

    made.trace.listeners.append(listen)
    for who, step in steps:
        try:
            act(made, who % vcpus, step)
        except GuestStuck:
            continue  # halted with IF clear, perhaps in a handler: it stays so
    made.run()
    handled = {}
    for event in events(made, HandlerEnter):
        handled[event.vcpu_id, event.vector] = handled.get((event.vcpu_id, event.vector), 0) + 1
    waiting = {(v.id, n) for v in made.vcpus for n in range(256) if v.lapic.irr >> n & 1}
    assert {k: handled.get(k, 0) + (k in waiting) for k in {*raised, *handled, *waiting}} == raised
    for vcpu in made.vcpus:
        made.signal_msi(0xFEE00000 | vcpu.id << 12, 0x400)  # an NMI wakes even who halted with IF clear
        made.run()
        vcpu.guest.write_cr8(0)
        vcpu.guest.sti()
        made.run()
        assert (vcpu.lapic.irr, vcpu.lapic.isr) == (0, 0)
