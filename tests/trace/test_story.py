"""Stories: from the cause of an interrupt to its EOI, for each source and state of the target."""

import pytest

from kvmmodel import Host
from kvmmodel.facts.releases import series
from kvmmodel.scenarios.run import built_in, run
from kvmmodel.trace.steps import extint_story, program_story, story

VECTORS = {"ipi": 0x43, "timer": 0xE1, "msi": 0x63}
TARGETS = ("in-guest", "halted", "in-host", "preempted")
CASES = [(source, target) for source in VECTORS for target in TARGETS]


def tell(source, target, kernel="6.12", broken=()):
    host = Host(kernel=kernel, avic=False)
    made = run(built_in(f"{source}-{target}"), host, broken=broken)
    last = len(made.vcpus) - 1
    return story(made.trace.records, host.kernel, source, VECTORS[source], last, title="t", setup="s"), last


@pytest.mark.parametrize("kernel", series())
@pytest.mark.parametrize(("source", "target"), CASES)
def test_a_story_ends_with_the_eoi_of_its_vector(source, target, kernel):
    told, vcpu = tell(source, target, kernel)
    kinds = [step.kind for step in told.steps]
    assert (kinds[-1], told.verdict) == ("eoi", None)
    assert f"{VECTORS[source]:#x}" in told.steps[-1].label
    assert kinds.index("set_irr") < kinds.index("inject") < kinds.index("handler")
    final = next(s for s in told.steps[-1].states if s.vcpu == vcpu)
    assert (final.irr >> VECTORS[source] & 1, final.isr >> VECTORS[source] & 1) == (0, 0)


@pytest.mark.parametrize(("source", "target"), CASES)
def test_states_follow_the_vector(source, target):
    """Not requested, requested, in service, done: in this order, and never two at once."""
    told, vcpu = tell(source, target)
    path = []
    for states in (told.start, *(step.states for step in told.steps)):
        state = next(s for s in states if s.vcpu == vcpu)
        now = (state.irr >> VECTORS[source] & 1, state.isr >> VECTORS[source] & 1)
        if not path or path[-1] != now:
            path.append(now)
    assert path in ([(0, 0), (1, 0), (0, 1), (0, 0)], [(0, 0), (1, 0), (0, 0), (0, 1), (0, 0)])


@pytest.mark.parametrize(("source", "target"), CASES)
def test_each_cpu_has_one_bar_in_a_column_that_exists(source, target):
    told, _ = tell(source, target)
    columns = {column.id for group in told.groups for column in group.columns}
    for bars in (told.before, *(step.bars for step in told.steps)):
        assert {column for column, _ in bars} <= columns
        assert {how for _, how in bars} <= {"runs", "blocked"}
        for cpu in ("s.", "t."):
            assert sum(column.startswith(cpu) for column, _ in bars) == any(
                c.startswith(cpu + "guest") for c in columns
            )


@pytest.mark.parametrize("kernel", series())
@pytest.mark.parametrize(("source", "target"), CASES)
def test_words_are_few(source, target, kernel):
    """A sentence has at most 24 words, a label at most 38 characters."""
    told, _ = tell(source, target, kernel)
    columns = {column.id for group in told.groups for column in group.columns}
    for step in told.steps:
        assert len(step.sentence.split()) <= 24
        assert step.sentence.endswith(".")
        assert len(step.label) <= 38
        assert {step.at, step.to} - {None} <= columns


@pytest.mark.parametrize(("source", "target"), [(s, t) for s, t in CASES if s != "timer"])
def test_when_nobody_is_told_there_is_a_verdict_and_no_handler(source, target):
    """The vector stays in IRR."""
    told, vcpu = tell(source, target, broken=("no-request", "no-kick"))
    assert told.verdict is not None
    assert told.verdict.startswith(f"Stuck: IRR `{VECTORS[source]:#x}` is set, and vCPU {vcpu}")
    assert "handler" not in [step.kind for step in told.steps]


@pytest.mark.parametrize("target", TARGETS)
def test_the_timer_s_callback_runs_in_the_host_timer_s_lane(target):
    """It had no bar, and its steps stood in the lane of a thread that slept."""
    told, _ = tell("timer", target)
    inside = [step for step in told.steps if any(f.name == "apic_timer_fn" for f in step.stack)]
    assert (len(inside) >= 3) is (target != "in-host")  # that one is due when it is set: no hrtimer
    for step in told.steps:
        fires = step.label == "hrtimer fires"
        over = step == inside[-1] if inside else False  # after its last step the CPU goes on with what it ran
        assert (("dev", "runs") in step.bars) is (fires or (step in inside and not over))
        assert (step.at == "dev") is (step in inside) or fires
    assert all(step.at == "t.kvm" for step in told.steps if step.kind in ("set_irr", "inject"))


@pytest.mark.parametrize(("target", "rule"), [("halted", "no-timer-kick"), ("preempted", "no-timer-request")])
def test_a_timer_that_nobody_delivers_has_a_verdict(target, rule):
    told, _ = tell("timer", target, broken=(rule,))
    where = {"halted": "sleeps", "preempted": "runs on"}[target]
    assert told.verdict == f"Stuck: the timer is pending, the IRR is empty, and vCPU 0 {where}."
    assert "set_irr" not in [step.kind for step in told.steps]


def test_a_run_without_the_cause_has_no_story():
    host = Host(kernel="6.12", avic=False)
    made = run(built_in("self-ipi"), host)
    with pytest.raises(ValueError, match="nothing in this run causes vector 0x99 by ipi"):
        story(made.trace.records, host.kernel, "ipi", 0x99, 0, title="t", setup="s")


def test_a_program_s_story_begins_where_it_is_told_to():
    host = Host(kernel="6.12", avic=False)
    made = run(built_in("window-clear-none"), host)
    told = program_story(made.trace.records, host.kernel, (0x41,), since="STI", title="t", setup="s")
    assert [step.kind for step in told.steps[:2]] == ["write", "exit"]
    assert told.start[0].irr >> 0x41 & 1
    assert [group.label for group in told.groups] == ["vCPU 0 · CPU 2"]
    with pytest.raises(ValueError, match="executes no instruction that starts with 'LGDT'"):
        program_story(made.trace.records, host.kernel, (0x41,), since="LGDT", title="t", setup="s")


def test_an_extint_s_story_needs_the_thread_that_raises_it():
    host = Host(kernel="6.12", avic=False)
    made = run(built_in("pic-spurious"), host)
    told = extint_story(made.trace.records, host.kernel, "vmm", title="t", setup="s")
    assert [step.label for step in told.steps[:2]] == ["line 5 rises", "output rises"]
    assert [step.at for step in told.steps if step.label == "line 5 falls"] == ["dev"]
    with pytest.raises(ValueError, match="the thread 'kvm-pit' does nothing in this run"):
        extint_story(made.trace.records, host.kernel, "kvm-pit", title="t", setup="s")
