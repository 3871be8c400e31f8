"""Probes: whichever way Python offers to watch functions, the stacks are the same, and nothing is left behind."""

import sys

import pytest

from kvmmodel.machine.host import Host
from kvmmodel.scenarios.run import built_in, run
from kvmmodel.trace.probe import path, probe

HOST = Host("zen4", "6.12", avic=False)


def stacks_of(*scenarios):
    with probe() as seen:
        kept = [run(built_in(name), HOST, trace=False) for name in scenarios]
    del kept
    return seen.stacks


@pytest.mark.parametrize("scenario", ["pv-eoi", "ipi-halted", "nmi"])
def test_watching_the_modelled_functions_alone_finds_what_the_profiler_finds(scenario, monkeypatch):
    """Before Python 3.12 there is the profiler only."""
    found = stacks_of(scenario)
    monkeypatch.setattr("kvmmodel.trace.probe._free_tool", lambda: None)
    assert found == stacks_of(scenario)
    assert len(found) > 100


def test_a_probe_goes_on_and_tells_what_is_new():
    with probe() as seen:
        first = run(built_in("pv-eoi"), HOST, trace=False)
    assert {path(node) for node in seen.new} == seen.stacks == stacks_of("pv-eoi")
    seen.new.clear()
    with probe(go_on=seen):
        second = run(built_in("ipi-halted"), HOST, trace=False)
    assert {path(node) for node in seen.new} == stacks_of("ipi-halted") - stacks_of("pv-eoi")
    del first, second


def test_after_a_probe_nobody_watches():
    def fails():
        with probe():
            run(built_in("pv-eoi"), HOST, trace=False)
            return 1 / 0

    before = sys.getprofile()
    with pytest.raises(ZeroDivisionError):
        fails()
    assert sys.getprofile() is before
    with probe() as seen:
        pass
    run(built_in("pv-eoi"), HOST, trace=False)
    assert seen.stacks == set()
