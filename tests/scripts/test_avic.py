"""The recorded guest programs with AVIC on: what the guest sees is what it sees without, but for the declared table."""

import json
from collections import Counter
from copy import deepcopy
from dataclasses import replace
from itertools import pairwise

import pytest

from kvmmodel import cli
from kvmmodel.facts.open_points import open_points
from kvmmodel.facts.releases import changes
from kvmmodel.machine.host import Host
from kvmmodel.scripts import TABLE, Pair, Verdict, compare, compare_avic, in_xapic_mode
from kvmmodel.scripts.avic_differences import CAUSES, TPR_LOST, differences
from kvmmodel.scripts.run import run
from tests.scripts.test_recorded import FILE, SCRIPTS

# The recordings' processor as AVIC's. Without its rule for V_IRQ, which no AVIC run can show.
RECORDED_CPU = "tcg,+avic,+x2avic,-virq_at_equal_priority"


def pair(cpu, kernel, open_points=None, **params):
    on = Host(cpu, kernel, avic=True, open_points=open_points, **params)
    assert on.params["avic"]
    return Pair(Host(cpu, kernel, avic=False, **params), on)


def verdicts(made, programs):
    return [compare_avic(script, made) for script in programs]


def summary(found):
    """How many are equal, how often each row explains a difference; nothing may be left."""
    assert [v.different for v in found if v.different is not None] == []
    return sum(v == Verdict() for v in found), dict(Counter(row for v in found for row in v.rows))


def test_all_of_them_with_x2avic_and_how_many_each_row_touches():
    assert summary(verdicts(pair("zen4", "7.3.4"), SCRIPTS)) == (
        382,
        {"tpr_low_nibble": 113, "self_ipi_sw_disabled": 104, "ipi_sw_disabled": 39, "stale_tmr": 23},
    )


SOME, FEW = SCRIPTS[::6], SCRIPTS[::25]
ALL = {row.id for row in TABLE} - {TPR_LOST.id}  # which is of hybrid mode and older kernels
XAPIC = [in_xapic_mode(script) for script in SOME]


@pytest.mark.parametrize(
    ("cpu", "kernel", "programs", "params", "rows"),
    [
        ("zen4", "7.3.4", SOME, {"enable_ipiv": "N"}, ALL),
        ("zen4", "6.6", SOME, {}, ALL),
        ("zen4", "6.18", XAPIC, {}, ALL),
        ("zen2", "6.12.95", XAPIC, {}, ALL),
        ("zen2", "5.15", XAPIC, {}, ALL),
        ("zen2", "6.1.187", SOME, {}, {"tpr_low_nibble"}),  # hybrid: what the guest sends, KVM sends
        ("zen2", "7.3.4", SOME, {}, {"tpr_low_nibble"}),
        ("zen2", "6.6", FEW, {}, {"tpr_low_nibble", "tpr_write_lost"}),
        ("zen2", "6.1.153", FEW, {}, {"tpr_low_nibble", "tpr_write_lost"}),
        ("zen2", "5.10", SOME, {}, set()),  # x2APIC in CPUID inhibits AVIC
        ("zen2", "5.15", SOME, {}, set()),
    ],
)
def test_every_mode(cpu, kernel, programs, params, rows):
    _, found = summary(verdicts(pair(cpu, kernel, **params), programs))
    assert found.keys() == rows


@pytest.mark.parametrize("kernel", ["6.1.187", "6.12.95", "7.3.4"])
def test_what_it_is_compared_with_is_what_was_recorded(kernel):
    """The same processor, with AVIC: off as recorded, on as off."""
    made, programs = pair(RECORDED_CPU, kernel), SCRIPTS[1::6]
    assert [found for script in programs if (found := compare(script, kernel, made.off))] == []
    summary(verdicts(made, programs))


def test_the_recorded_programs_do_the_same_in_xapic_mode():
    host = Host("tcg", "6.12.95", avic=False)
    assert [found for script in XAPIC if (found := compare(script, "6.12.95", host))] == []


def test_each_row_has_its_reason_and_each_cause_is_known():
    assert len({row.id for row in TABLE}) == len(TABLE)
    for row in TABLE:
        assert row.what
        assert row.rule
        assert row.source
    for row in CAUSES:
        if row.open_point:
            point = open_points()[row.open_point]
            assert row.choice in point.choices
            assert row.choice != point.default
        else:
            assert row.behaviour in changes()


def test_a_processor_that_the_table_does_not_know_is_found():
    """ISR cleared before the exit of a level EOI: KVM ends the next lower interrupt as well."""
    made = pair("zen4", "7.3.4", {"avic_isr_at_level_eoi": "cleared"})
    found = [v.different for v in verdicts(made, SCRIPTS[:60]) if v.different is not None]
    assert found
    assert all(not difference.nibble for difference in found)


def mutants(outcome):
    """The outcome with one vector lost, doubled, or out of order; one more, or one less, in a snapshot."""
    for i, entry in enumerate(outcome.guest):
        if entry[0] == "enter":
            yield replace(outcome, guest=outcome.guest[:i] + outcome.guest[i + 2 :])
            yield replace(outcome, guest=[*outcome.guest[:i], entry, ["leave", entry[1]], *outcome.guest[i:]])
    entered = [i for i, entry in enumerate(outcome.guest) if entry[0] == "enter"]
    for one, other in pairwise(entered):
        if outcome.guest[one] != outcome.guest[other]:
            swapped = list(outcome.guest)
            swapped[one], swapped[other] = swapped[other], swapped[one]
            yield replace(outcome, guest=swapped)
    for i, entry in enumerate(outcome.host):
        if entry[0] == "snap":
            for field in (3, 4, 5):
                changed = deepcopy(outcome.host)
                changed[i][field] = sorted({*entry[field]} ^ {200})
                yield replace(outcome, host=changed)
            for field in (1, 2):
                for step in (16, 7):  # another class; bits that the guest did not write
                    changed = deepcopy(outcome.host)
                    changed[i][field] ^= step
                    yield replace(outcome, host=changed)


def test_the_low_nibble_hides_no_vector():
    host = Host("zen4", "7.3.4", avic=False)
    for script in SCRIPTS[5:8]:
        outcome = run(script, host)
        assert list(differences(script, outcome, outcome)) == []
        for mutant in mutants(outcome):
            assert [d for d in differences(script, outcome, mutant) if not d.nibble]


def few(tmp_path, count=20):
    file = tmp_path / "few.jsonl"
    file.write_text("\n".join(FILE.read_text(encoding="utf-8").splitlines()[:count]), encoding="utf-8")
    return str(file)


def test_the_command_tells_equal_declared_and_different(tmp_path, capsys):
    file = few(tmp_path)
    assert cli.main(["scripts", file, "--kernel", "7.3.4", "--avic", "on"]) == 0
    told = capsys.readouterr()
    assert told.err == ""
    assert told.out.splitlines()[-1] == (
        "14 of 20 runs with AVIC equal to those without, 6 differing by a declared row, 0 different: "
        "20 scripts on 7.3.4"
    )
    assert cli.main(["scripts", file, "--avic", "on", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["scripts"] == 60
    assert told["equal"] + told["declared"]["runs"] == 60
    assert told["declared"]["rows"] == {"tpr_low_nibble": 8, "self_ipi_sw_disabled": 10, "ipi_sw_disabled": 6}
    assert told["different"] == []


@pytest.mark.parametrize(
    ("options", "declared"),
    [
        (("--kernel", "5.15", "--avic", "on"), 0),
        (("--kernel", "6.18", "--avic", "on", "--cpu", "zen2", "--xapic", "--param", "enable_ipiv=N"), 6),
        (("--kernel", "7.2", "--avic", "auto"), 6),
        (("--kernel", "6.6", "--param", "avic=1", "--cpu", "zen3,+avic"), 15),
    ],
)
def test_any_release_can_be_compared_with_itself(tmp_path, capsys, options, declared):
    assert cli.main(["scripts", few(tmp_path), *options, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["scripts"], told["declared"]["runs"], told["different"]) == (20, declared, [])


def test_an_undeclared_difference_is_an_exit_status(tmp_path, capsys, monkeypatch):
    """A unit that forgets a bit of IRR."""
    monkeypatch.setattr("kvmmodel.silicon.avic.self_ipi", lambda unit, vector: None)
    assert cli.main(["scripts", few(tmp_path), "--kernel", "7.3.4", "--avic", "on", "--json"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert told["different"]
    assert told["different"][0].keys() == {"index", "kernel", "where", "expected", "got"}
