"""Facts from the tests of other interrupt-controller code, run in the model; and what each part of the runner does."""

import json
from pathlib import Path

import pytest

from kvmmodel import cases
from kvmmodel.cases.expr import parse, points, substitute
from kvmmodel.cases.format import release
from kvmmodel.cases.run import NOT_YET
from kvmmodel.cli import main

FILE = Path(__file__).parents[1] / "evidence" / "data" / "peer_cases.json"
CASES = cases.read(FILE.read_text(encoding="utf-8"), FILE.name)
VOCABULARY = json.loads(FILE.read_text(encoding="utf-8"))["vocabulary"]
# Steps of the tests' own cases.
TAKE = {"op": "cpu.take", "cpu": 0, "ready": True}
LACKING = {"op": "cpuid", "cpu": 0, "leaf": 1, "reg": "edx", "bit": 21}
ACCEPT = {"op": "apic.accept", "cpu": 0, "delivery": "fixed", "vector": 64, "trigger": "edge", "level": "assert"}


def runnable(chip):
    """What is left of a chip's cases when those are set aside that no model could run."""
    return [case for case in CASES if case.chip == chip and case.skip is None]


def case(steps=(), expect=({"after": -1, "IRR": []},), **fields):
    """A case in the file's form."""
    made = {"id": "a.case", "chip": "lapic", "given": {}, "steps": list(steps), "expect": list(expect)}
    return made | {"kvm": {"relation": "same"}} | fields


def text(*rows, vocabulary=VOCABULARY):
    return json.dumps({"vocabulary": vocabulary, "cases": list(rows)})


def run(*args, **fields):
    (read,) = cases.read(text(case(*args, **fields)), "x.json")
    return cases.run(read)


CHIPS = [chip for chip in cases.CHIPS if chip != "ioapic"]


@pytest.mark.parametrize("one", [c for chip in CHIPS for c in runnable(chip)], ids=lambda c: c.id)
def test_every_case_of_these_chips_passes(one):
    assert cases.run(one) is None


@pytest.mark.parametrize("one", runnable("ioapic"), ids=lambda c: c.id)
def test_other_chips_pass_as_far_as_they_are_modelled(one):
    found = cases.run(one)
    assert not isinstance(found, cases.Failure), found
    if found is not None:
        assert found.reason.startswith(NOT_YET)
        assert found.reason.removeprefix(f"{NOT_YET}: ") == "coalescing of the RTC's line"


def test_forced_avic_needs_no_bit_but_nested_paging():
    step = {"op": "avic.setup", "edx": 1, "avic": 1, "force_avic": 1}
    assert run([step], [{"after": 0, "returns": True}], chip="avic") is None
    assert run([step | {"edx": 0}], [{"after": 0, "returns": False}], chip="avic") is None


def test_a_case_that_asks_for_what_the_model_lacks_is_skipped_and_says_so():
    found = run([LACKING], [{"after": 0, "returns": 1}])
    assert found == cases.Skipped("a.case", f"{NOT_YET}: cpuid")


AVIC = {"avic": True, "mode": "x2apic", "cpus": 2}
EOI = {"op": "apic.write", "cpu": 0, "reg": "EOI", "value": 0}


@pytest.mark.parametrize("trigger", ["edge", "level"])
def test_under_avic_only_the_eoi_of_a_level_vector_exits(trigger):
    level = int(trigger == "level")
    checks = [
        {"after": 1, "taken": 64, "ISR": [64], "IRR": [], "PPR": 64, "exits": 0, "inhibits": []},
        {"after": 2, "ISR": [], "PPR": 0, "exits": level},
    ]
    assert run([ACCEPT | {"trigger": trigger}, TAKE, EOI], checks, chip="avic", given=AVIC) is None


def test_under_avic_an_ipi_to_who_is_not_in_the_guest_exits_and_arrives():
    """On the bench only one vCPU runs at a time, so a sender's processor finds no other running."""
    steps = [{"op": "ipi", "cpu": 0, "vector": 65, "dest": 1}, TAKE | {"cpu": 1}]
    checks = [{"after": 0, "cpu": 1, "IRR": [65], "exits": 1}, {"after": 1, "cpu": 1, "taken": 65, "ISR": [65]}]
    assert run(steps, checks, chip="avic", given=AVIC) is None


def test_under_avic_cr8_and_tpr_hold_an_interrupt_back_without_an_exit():
    cr8 = {"op": "apic.write", "cpu": 0, "reg": "CR8"}
    steps = [cr8 | {"value": 4}, ACCEPT, TAKE, cr8 | {"value": 3}, TAKE]
    checks = [{"after": 0, "TPR": 64, "CR8": 4}, {"after": 2, "taken": None}, {"after": 4, "taken": 64, "exits": 0}]
    assert run(steps, checks, chip="avic", given=AVIC) is None


def test_under_avic_the_first_access_to_the_page_exits_for_its_mapping():
    """Then it is the processor's: SVR exits behind the write, TMCCT before the read, ICR2 not at all."""
    write = {"op": "apic.write", "cpu": 0}
    steps = [write | {"reg": "ICR2", "value": 1}, write | {"reg": "SPIV", "value": 0x1FF}]
    steps += [{"op": "apic.read", "cpu": 0, "reg": 0x390}, {"op": "apic.read", "cpu": 0, "reg": "SPIV"}]
    checks = [{"after": 0, "exits": 1}, {"after": 1, "exits": 2}, {"after": 2, "exits": 3, "returns": 0}]
    assert run(steps, [*checks, {"after": 3, "exits": 3, "returns": 0x1FF}], chip="avic", given={"avic": True}) is None


def test_under_avic_reading_what_x2apic_mode_lacks_is_gp():
    steps = [{"op": "apic.read", "cpu": 0, "reg": "DFR"}, {"op": "apic.read", "cpu": 0, "reg": "LVR"}]
    checks = [{"after": 0, "gp": True}, {"after": 1, "gp": False, "exits": 1}]
    assert run(steps, checks, chip="avic", given=AVIC, kvm={"relation": "same", "kernel": ">=7.2"}) is None


@pytest.mark.parametrize(("valid", "entry"), [(True, 0x80000005), (False, 5)])
def test_an_entry_of_the_logical_table(valid, entry):
    step = {"op": "avic.logical_entry", "id": 5, "valid": valid}
    assert run([step], [{"after": 0, "returns": entry}], chip="avic") is None


def test_a_case_out_of_scope_is_skipped_with_its_reason():
    found = run(kvm={"relation": "out", "reason": "nothing to see"}, expect=[])
    assert found == cases.Skipped("a.case", "out: nothing to see")


def test_a_wrong_expectation_fails_with_what_was_found():
    found = run([ACCEPT, TAKE], [{"after": 0, "IRR": [64]}, {"after": 1, "taken": 65, "ISR": [64]}])
    assert found == cases.Failure("a.case", {"after": 1, "taken": 65}, {"after": 1, "taken": 64})


def test_a_failure_of_a_sweep_names_the_point():
    steps = [{"op": "apic.write", "cpu": 0, "reg": "TPR", "value": {"expr": "c << 4"}}]
    found = run(steps, [{"after": 0, "PPR": {"expr": "c << 4 & 127"}}], sweep={"c": [0, 16, 1]})
    assert isinstance(found, cases.Failure)
    assert found.point == {"c": 8}


def test_where_kvm_differs_its_own_expectation_counts():
    differs = {"relation": "differs", "expect": [{"after": 0, "IRR": [64]}]}
    assert run([ACCEPT], [{"after": 0, "IRR": []}], kvm=differs) is None


def test_a_step_that_cannot_be_done_is_a_failure_of_its_case():
    found = run([{"op": "apic.peek", "cpu": 0, "reg": 5000}], [{"after": 0, "returns": 0}])
    assert isinstance(found, cases.Failure)
    assert "error" in found.got


def test_a_handler_runs_its_steps_before_its_eoi_and_can_be_interrupted():
    nested = [{"op": "guest.flag", "cpu": 0, "flag": "IF", "value": 1}, ACCEPT | {"vector": 96}]
    steps = [{"op": "guest.handler", "cpu": 0, "vector": 64, "runs": [nested]}, ACCEPT, {"op": "guest.run", "cpu": 0}]
    assert run(steps, [{"after": 2, "handled": [64, 96], "ISR": [], "IRR": []}]) is None


def test_the_interrupt_window_is_requested_while_interrupts_are_off():
    off = [{"op": "guest.flag", "cpu": 0, "flag": "IF", "value": 0}, ACCEPT, TAKE]
    on = [{"op": "guest.flag", "cpu": 0, "flag": "IF", "value": 1}, TAKE]
    checks = [{"after": 2, "taken": None, "window": True}, {"after": 4, "taken": 64, "window": False}]
    assert run(off + on, checks) is None


def test_a_level_interrupt_stays_until_the_ioapic_hears_of_its_eoi():
    steps = [
        {"op": "ioapic.rte", "pin": 20, "vector": 64, "trigger": "level"},
        {"op": "irq.line", "to": "gsi", "pin": 20, "level": 1},
        TAKE,
        {"op": "irq.line", "to": "gsi", "pin": 20, "level": 0},
        {"op": "apic.write", "cpu": 0, "reg": "EOI", "value": 0},
    ]
    checks = [
        {"after": 1, "returns": 1, "message": [64, "fixed", "physical", "level", "assert", "none", 0]},
        {"after": 3, "pin": 20, "remote_irr": 1, "lines": []},
        {"after": 4, "pin": 20, "remote_irr": 0, "eoi_sent": 64},
    ]
    assert run(steps, checks, chip="ioapic") is None


def test_a_line_reaches_the_8259_too():
    steps = [
        {"op": "pic.init", "pic": "secondary", "icw": [17, 0x70, 2, 1]},
        {"op": "pic.write", "pic": "secondary", "port": "elcr", "value": 0xFF},
        {"op": "irq.line", "to": "gsi", "pin": 12, "level": 1},
        {"op": "pic.ack"},
        {"op": "irq.line", "to": "pic", "pin": 16, "level": 1},
    ]
    checks = [
        {"after": 1, "pic": "secondary", "elcr": [1, 2, 3, 4, 6, 7]},
        {"after": 2, "returns": 1, "ready": True},
        {"after": 3, "returns": 0x74},
        {"after": 4, "returns": -1},
    ]
    assert run(steps, checks, chip="pic") is None


@pytest.mark.parametrize(
    ("rows", "complaint"),
    [
        ([case(chip="cpu")], "case a.case: unknown chip 'cpu'"),
        ([case(), case()], "an id that no other case has"),
        ([{"chip": "lapic"}], "case 1: expected an object with an id"),
        ([case([{"op": "fly"}])], "step 0: expected a step whose op is one of the vocabulary, got 'fly'"),
        ([case([{"op": "cpu.take", "cpu": 0}])], "step 0: cpu.take needs ready"),
        ([case([TAKE | {"often": 1}])], "step 0: cpu.take has no often"),
        ([case([TAKE | {"ready": 1}])], "expected ready to be bool, got 1"),
        ([case([TAKE | {"cpu": 1}])], "expected a cpu from 0 to 0"),
        ([case([TAKE | {"cpu": {"expr": "i"}}])], "expected cpu to be int"),
        ([case([TAKE | {"cpu": {"expr": "__import__('os')"}}])], "expected numbers, variables of the sweep"),
        ([case(given={"cpus": 2, "ids": [1]})], "as many ids as there are cpus"),
        ([case(given={"cpus": "two"})], "expected cpus to be int, got 'two'"),
        ([case(given={"mode": "x2apic", "x2apic_cpuid": False})], "expected x2apic_cpuid with mode x2apic"),
        ([case(kvm={"relation": "same", "kernel": "4.19"})], "unknown kernel '4.19'"),
        ([case(given={"colour": 1})], "unknown 'colour' in given"),
        ([case(expect=[{"after": 3, "IRR": []}])], "expected a checkpoint after one of 0 steps"),
        ([case(expect=[{"after": -1}])], "expected something to check"),
        ([case(expect=[{"after": -1, "mood": 1}])], "expected something to check"),
        ([case(expect=[{"after": -1, "IRR": [], "mood": 1}])], "unknown key 'mood'"),
        ([case(expect=[])], "at least one checkpoint"),
        ([case(kvm={"relation": "maybe"})], "kvm.relation to be one of same, differs, out, open"),
        ([case(kvm={"relation": "out"})], "expected kvm.reason"),
        ([case(sweep={"i": [0, 0, 1]})], "sweep: expected a letter and"),
        ([case(sweep={"i": [0, 4, 1]}, where=["i", "is", 2])], "expected where to be"),
        ([case(sweep={"i": [0, 4, 1]}, where=["j", "lt", 2])], "where: expected variables of the sweep, got j"),
        ([case(sweep={"i": [0, 4, 1]}, where=["i", "gt", 9])], "leave a point of the sweep"),
        ([case(colour="red")], "unknown field 'colour'"),
    ],
)
def test_bad_input_is_refused_with_the_case_and_what_was_expected(rows, complaint):
    with pytest.raises(cases.CaseError, match=r"x\.json, case ") as refused:
        cases.read(text(*rows), "x.json")
    assert complaint in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("bad", ["", "[]", "{}", '{"cases": []}', '{"cases": [], "vocabulary": {"given": {}}}'])
def test_what_is_no_case_file_is_refused(bad):
    with pytest.raises(cases.CaseError, match=r"x\.json: "):
        cases.read(bad, "x.json")


@pytest.mark.parametrize(
    ("expression", "value"),
    [("7", 7), ("i", 3), ("1 << i | j", 13), ("(i + j) * 2 - 1", 15), ("i & 1 << 1", 2), ("-i + j", 2), ("j >> 1", 2)],
)
def test_expressions_have_python_precedence(expression, value):
    assert parse(expression)[0]({"i": 3, "j": 5}) == value


@pytest.mark.parametrize(
    "bad", ["i / 2", "i ** 2", "f(1)", "i if i else 1", "1.5", "True", "'a'", "i, j", "~i", "", "i[0]", "1 +"]
)
def test_nothing_else_is_an_expression(bad):
    with pytest.raises(ValueError, match="expected"):
        parse(bad)


def test_a_sweep_has_every_combination_that_where_keeps():
    found = list(points({"i": range(3), "j": range(0, 4, 2)}, ["i", "lt", "j + 1"]))
    assert found == [{"i": 0, "j": 0}, {"i": 0, "j": 2}, {"i": 1, "j": 2}, {"i": 2, "j": 2}]
    assert list(points({}, None)) == [{}]


def test_expressions_are_replaced_wherever_they_stand():
    assert substitute({"a": [{"expr": "i"}, 1], "b": {"c": {"expr": "i << 4"}}}, {"i": 2}) == {
        "a": [2, 1],
        "b": {"c": 32},
    }


@pytest.mark.parametrize(
    ("holds", "kernel"),
    [
        ("", "6.18"),
        (">=6.11", "6.18"),
        (">=7.2; before, one exit more", "7.2"),
        (">=6.12; up to 6.6 the given ID is stored", "6.18"),
        ("6.1.113+ in 6.1, 6.12 and later; not 5.10, 5.15", "6.18"),
        ("up to 6.1", "6.1"),
        ("<6.12", "6.6"),
        ("6.12.95", "6.12.95"),
        (">=6.1, <6.12", "6.6"),
        ("5.10-6.1", "6.1"),
        ("5.10, 5.15", "5.15"),
        ("<6.12.114", "6.6"),
        ("<5.0", None),
    ],
)
def test_a_case_runs_on_a_release_that_it_holds_for(holds, kernel):
    assert release(holds) == kernel


def test_a_case_of_a_release_that_is_not_modelled_is_skipped():
    assert run(kvm={"relation": "same", "kernel": "<5.0"}) == cases.Skipped("a.case", "no release is <5.0")


def test_an_expression_without_a_value_names_its_case():
    steps = [{"op": "apic.write", "cpu": 0, "reg": "TPR", "value": {"expr": "1 << i"}}]
    with pytest.raises(cases.CaseError, match=r"case a\.case: cannot shift by 9999"):
        run(steps, [{"after": 0, "IRR": []}], sweep={"i": [9999, 10000, 1]})


@pytest.mark.parametrize("on", [0, 1])
def test_an_exit_gives_l1_its_own_if_back(on):
    """It had that of L2, also if no step had set it."""
    flag = {"op": "guest.flag", "cpu": 0}
    steps = [
        flag | {"flag": "IF", "value": on},
        {"op": "vmrun", "cpu": 0, "intercept": ["VMMCALL"], "v_intr_masking": 1, "guest_if": 1 - on},
        {"op": "guest.insn", "cpu": 0, "insn": "vmmcall"},
        {"op": "ipi", "cpu": 0, "shorthand": "self", "vector": 64},
        flag | {"flag": "GIF", "value": 1},
        TAKE,
    ]
    assert run(steps, [{"after": 2, "exit": "VMMCALL"}, {"after": 5, "taken": 64 if on else None}], chip="svm") is None


def test_the_command_counts_and_says_what_failed(tmp_path, capsys):
    file = tmp_path / "x.json"
    rows = [case(id="good"), case(id="bad", expect=[{"after": -1, "IRR": [1]}])]
    rows.append(case([LACKING], [{"after": 0, "returns": 0}], id="other", chip="pit"))
    file.write_text(text(*rows), encoding="utf-8")
    assert main(["cases", str(file), "--json"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert told["passed"] == 1
    assert [(row["id"], row["expected"]["IRR"], row["got"]["IRR"]) for row in told["failed"]] == [("bad", [1], [])]
    assert told["skipped"] == [{"id": "other", "reason": "not in the model yet: cpuid"}]
    assert main(["cases", str(file), "--chip", "pit"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "0 passed, 0 failed, 1 skipped"


def test_the_command_refuses_bad_input_in_one_line(tmp_path, capsys):
    file = tmp_path / "x.json"
    file.write_text(text(case(chip="cpu")), encoding="utf-8")
    assert main(["cases", str(file)]) == 2
    assert capsys.readouterr().err.count("\n") == 1
