"""Any script in the format runs; what the model did with it is equal to itself, and anything else is told where."""

import copy
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvmmodel import Host, cli
from kvmmodel.scripts import CPU, ScriptError, compare, read, recorded_kernels
from kvmmodel.scripts.check import ARGUMENTS
from kvmmodel.scripts.run import run

KERNELS = ("6.1.187", "6.12.95", "7.3.4")
HOSTS = {kernel: Host(CPU, kernel, avic=False) for kernel in KERNELS}
VECTORS, PINS, SWITCH = st.integers(32, 255), st.sampled_from((20, 21)), st.integers(0, 1)
ARGS = {
    "self_ipi": (VECTORS,),
    "icr_self_physical": (VECTORS,),
    "icr_self_shorthand": (VECTORS,),
    "tpr": (st.integers(0, 255),),
    "svr": (SWITCH,),
    "pv_eoi": (SWITCH,),
    "handler": (st.integers(2, 15), st.sampled_from(("eoi", "none", "eoi_first", "nest"))),
    "msi_edge": (VECTORS,),
    "msi_level": (VECTORS,),
    "rte": (PINS, VECTORS, st.sampled_from(("edge", "level")), st.sampled_from(("open", "masked"))),
    "line": (PINS, st.sampled_from(("pulse", "lower"))),
    "cr8": (st.integers(0, 14),),
}
OPS = st.sampled_from(sorted(set(ARGUMENTS) - {"end"})).flatmap(
    lambda name: st.tuples(st.just(name), *ARGS.get(name, ())).map(list)
)


@st.composite
def programs(draw):
    """CR8 is written with IF set only."""
    ops, on = [], False
    for op in draw(st.lists(OPS, max_size=30)):
        on = {"sti": True, "cli": False}.get(op[0], on)
        ops += [["sti"]] * (op[0] == "cr8" and not on) + [op]
        on = on or op[0] == "cr8"
    return [*ops, ["end"]]


def script(ops, kernel, result=None):
    """As a line of a file, with what the model itself does as the result, if no other is given."""
    if result is None:
        (one,) = read(script(ops, kernel, {"guest": [], "host": [], "ioapic": {}}), "x.jsonl")
        did = run(one, HOSTS[kernel])
        result = {"guest": did.guest, "host": did.host, "ioapic": did.ioapic}
    return json.dumps({"ops": ops, "results": [{"kernels": [kernel], **result}]})


@settings(max_examples=40, deadline=None, derandomize=True)
@given(programs(), st.sampled_from(KERNELS), st.data())
def test_a_script_is_equal_to_itself_and_to_nothing_else(ops, kernel, data):
    line = script(ops, kernel)
    (same,) = read(line, "x.jsonl")
    assert compare(same, kernel, HOSTS[kernel]) is None
    changed = json.loads(line)
    result = changed["results"][0]
    log = data.draw(st.sampled_from([name for name in ("guest", "host") if result[name]]))
    at = data.draw(st.integers(0, len(result[log]) - 1))
    entry = result[log][at]
    if entry[0] == "snap":
        field = data.draw(st.integers(1, 5))
        entry[field] = entry[field] + 1 if field < 3 else sorted({*entry[field]} ^ {77})
    elif len(entry) == 1:
        del result[log][at]
    else:
        entry[1] += 1
    (other,) = read(json.dumps(changed), "x.jsonl")
    found = compare(other, kernel, HOSTS[kernel])
    assert found is not None
    assert (found.index, found.kernel) == (0, kernel)
    name, _, number = found.where.rstrip("]").partition("[")
    assert (name, int(number)) == (log, at) or (len(entry) == 1 and int(number) >= at)


OPS_GOOD = [["sti"], ["self_ipi", 64], ["end"]]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda s: s["ops"].insert(0, ["self_ipi"]), "operation 0: self_ipi takes a vector from 0 to 255"),
        (lambda s: s["ops"].insert(0, ["self_ipi", "64"]), "got ['self_ipi', '64']"),
        (lambda s: s["ops"].insert(0, ["self_ipi", 256]), "got ['self_ipi', 256]"),
        (lambda s: s["ops"].insert(0, ["svr", True]), "svr takes a number from 0 to 1"),
        (lambda s: s["ops"].insert(0, ["line", 20, "up"]), "pulse or lower"),
        (lambda s: s["ops"].insert(0, ["rte", 24, 64, "edge", "open"]), "a pin from 0 to 23"),
        (lambda s: s["ops"].insert(0, ["handler", 4, "late"]), "eoi or none or eoi_first or nest"),
        (lambda s: s["ops"].insert(0, "cli"), "expected a list that begins with a name, got 'cli'"),
        (lambda s: s["ops"].insert(0, ["end"]), "operation 0: the guest stops at end"),
        (lambda s: s.update(ops={}), "ops is a list"),
        (lambda s: s.update(results=[]), "no results"),
        (lambda s: s["results"][0].update(kernels="7.3.4"), "a result has kernels, a list"),
        (lambda s: s["results"][0].update(guest="x"), "a result has guest, a list"),
        (lambda s: s["results"][0].update(ioapic={"rte9": 1}), "ioapic has the numbers irr, rte20, rte21"),
        (lambda s: s["results"].append(s["results"][0]), "two results of one kernel"),
    ],
)
def test_a_wrong_line_is_refused_with_its_place(change, words):
    good = script(OPS_GOOD, "7.3.4")
    bad = copy.deepcopy(json.loads(good))
    change(bad)
    with pytest.raises(ScriptError) as error:
        read(f"{good}\n\n{json.dumps(bad)}", "x.jsonl")
    assert str(error.value).startswith("x.jsonl, line 3: ")
    assert words in str(error.value)
    assert "\n" not in str(error.value)


def test_each_script_is_compared_on_the_kernels_that_it_has(tmp_path, capsys):
    """Only kernels common to all scripts were run: of a file without one, nothing was, and all was equal."""
    file = tmp_path / "x.jsonl"
    file.write_text(f"{script(OPS_GOOD, '7.3.4')}\r\n{script(OPS_GOOD, '6.12.95')}\r\n", encoding="utf-8-sig")
    assert recorded_kernels(read(file.read_text(encoding="utf-8-sig"), "x")) == ["7.3.4", "6.12.95"]
    assert cli.main(["scripts", str(file), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"scripts": 2, "equal": 2, "different": []}
    assert cli.main(["scripts", str(file), "--kernel", "6.12.95+deb12-amd64", "--avic", "on", "--cpu", "tcg"]) == 0
    told = capsys.readouterr()
    assert told.out == "1 of 1 runs equal: 2 scripts on 6.12.95\n"
    assert told.err == "kvmmodel: --avic on: avic resolves to N on tcg with kernel 6.12.95\n"


@pytest.mark.parametrize(
    ("content", "options", "words"),
    [
        (b"[" * 100_000, (), "line 1"),
        (bytes(range(256)), (), "not a text"),
        (b"", (), "no script in it"),
        (None, ("--param", "vgif=Y", "--param", "vgif=N"), "--param vgif is given twice"),
        (None, ("--kernel", "6.12"), "no results of kernel '6.12': expected one of 7.3.4"),
        (None, ("--kernel", "6.1.0-50-amd64"), "does not tell its point release"),
    ],
)
def test_bad_input_gets_one_line(tmp_path, capsys, content, options, words):
    file = tmp_path / "x.jsonl"
    file.write_bytes(script(OPS_GOOD, "7.3.4").encode() if content is None else content)
    assert cli.main(["scripts", str(file), *options]) == 2
    told = capsys.readouterr().err
    assert words in told
    assert told.count("\n") == 1
