"""The notes' puzzle: which runs have KVM carry out a PV EOI, and that the table tells what the runs gave."""

import xml.etree.ElementTree as ET

import pytest

from kvmmodel import Host
from kvmmodel.facts.inhibits import reasons
from kvmmodel.facts.releases import kernel, series
from kvmmodel.scenarios.run import built_in, run, unfinished
from kvmmodel.widgets.suspects import NOTES, WAYS, nested, stacks_seen, suspects, suspects_table

SINCE_6_1 = series()[2:]


@pytest.mark.parametrize("name", SINCE_6_1)
@pytest.mark.parametrize("cpu", ["zen2", "zen4"])
@pytest.mark.parametrize("pit", ["reinject", "discard"])
def test_the_pv_eoi_stack_comes_with_the_pit_and_the_cr8_stack_always(name, cpu, pit):
    """Also on a processor without x2AVIC, where AVIC is a hybrid for this guest."""
    seen = stacks_seen(pit, name, cpu)
    assert seen == {"kvm_lapic_sync_from_vapic": pit == "reinject", "kvm_set_cr8": True}


@pytest.mark.parametrize("name", SINCE_6_1)
def test_the_two_scenarios_differ_in_the_pit_alone_and_end(name):
    one, two = built_in("inhibits-pit"), built_in("inhibits-none")
    assert (one.programs, one.idt) == (two.programs, two.idt)
    assert one.vm | {"pit": None} == two.vm | {"pit": None}
    for scenario, inhibits in ((one, {"PIT_REINJ"}), (two, set())):
        vm = run(scenario, Host(kernel=name, avic=True))
        assert (unfinished(vm), vm.inhibits) == ({}, inhibits)
        assert vm.vcpus[0].guest.handled == {0x41: 3, 0xE1: 1}


@pytest.mark.parametrize("name", SINCE_6_1)
def test_each_reason_that_a_run_has_gives_the_stack(name):
    """The stack says that AVIC is inhibited, not by what."""
    found = {one.id: suspect for one, suspect in zip(reasons(kernel(name)), suspects(name), strict=True)}
    assert {ident for ident, one in found.items() if one.seen} == WAYS.keys() & found.keys()
    assert [ident for ident, one in found.items() if one.seen is False] == ["NESTED"]


@pytest.mark.parametrize("name", SINCE_6_1)
def test_l2_gives_it_only_where_l1_lets_interrupts_through(name):
    assert (nested(name, "interrupt"), nested(name)) == (False, True)


def test_every_reason_has_its_line_of_the_notes():
    every = {one.id for name in series() for one in reasons(kernel(name))}
    assert NOTES.keys() == every


def test_the_table_tells_what_the_runs_gave():
    rows = [["".join(c.itertext()) for c in row] for row in ET.fromstring(suspects_table("6.12")).findall("tbody/tr")]
    assert [row[0] for row in rows] == [one.name for one in reasons(kernel("6.12"))]
    assert {row[0]: row[2] for row in rows}["PIT_REINJ"] == "yes"
    assert [row[0] for row in rows if row[3].startswith("Out.")] == [s.name for s in suspects("6.12") if s.out]
