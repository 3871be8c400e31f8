"""Random guests with AVIC on, step by step, beside the same with AVIC off: each sees the same after every step.

Between two steps everything comes to rest, so nothing depends on times. What AVIC may change of a register's low bits
is in scripts/avic_differences.py; here the guest keeps them 0.
"""

from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.machine.avic_guests import MODES, SOME_VECTORS, attempt, known_bug, ready
from tests.machines import RELEASES

VECTORS = st.sampled_from(SOME_VECTORS)
SENDS = ("ipi", "logical", "lowest", "itself", "all", "others", "self_ipi", "msi", "level", "nmi")
STEPS = st.one_of(
    st.tuples(st.sampled_from(SENDS), st.integers(0, 15), VECTORS),
    st.tuples(st.sampled_from(SENDS), st.integers(0, 15), VECTORS),
    st.tuples(st.sampled_from(["cli", "cli", "sti", "hlt", "ppr", "read_cr8"]), st.just(0), st.just(0)),
    st.tuples(st.sampled_from(["cr8", "tpr", "timer", "burn"]), st.integers(0, 15), st.just(0)),
    st.tuples(st.sampled_from(["pit", "pit", "id", "extint"]), st.integers(0, 1), st.just(0)),
)
VCPUS = st.sampled_from((1, 1, 2, 2, 3, 4))
PROGRAMS = st.lists(st.tuples(st.integers(0, 3), STEPS), min_size=5, max_size=20)


def seen(made):
    """Of each vCPU: what it handled, what waits, is in service and holds it back, and whether it sleeps."""
    return [
        (v.guest.handled, v.lapic.irr, v.lapic.isr, v.inside.vmcb.v_tpr, v.kvm_vcpu.mp_state, v.inside.faults)
        for v in made.vcpus
    ]


def waiting_then(*steps):
    """On one vCPU: a vector that waits for IF, and then this."""
    return [(0, ("cli", 0, 0)), (0, ("self_ipi", 0, 0x47)), *((0, step) for step in steps)]


@settings(max_examples=100, deadline=None)
@example("x2avic", "7.3", 1, waiting_then(("pit", 1, 0), ("sti", 0, 0)))
@example("xavic", "6.1", 1, waiting_then(("pit", 1, 0), ("cr8", 4, 0), ("pit", 0, 0), ("sti", 0, 0)))
@example("hybrid", "7.2", 1, waiting_then(("extint", 0, 0), ("sti", 0, 0)))
@given(st.sampled_from(sorted(MODES)), st.sampled_from(RELEASES), VCPUS, PROGRAMS)
def test_a_guest_sees_the_same_with_avic_and_without(mode, kernel, vcpus, steps):
    on, off = (ready(mode, kernel, vcpus, avic, trace=False) for avic in (True, False))
    for who, step in steps:
        if known_bug(mode, on.host.kernel, steps, step):
            continue
        results = []
        for made in (on, off):
            results.append(attempt(made, who, step))
            made.run()
        assert results[0] == results[1], step
        assert seen(on) == seen(off), step
    for made in (on, off):
        open_up(made)
    assert seen(on) == seen(off)


def open_up(made):
    """Every vCPU takes all that waits."""
    for number, vcpu in enumerate(made.vcpus):
        made.reinject_control(False)
        vcpu.nmi()  # it wakes even who halted with IF clear
        made.run()
        for step in (("id", 0, 0), ("cr8", 0, 0), ("sti", 0, 0)):
            attempt(made, number, step)
        made.run()
        assert (vcpu.lapic.irr, vcpu.lapic.isr) == (0, 0)
