"""Any stack, printed in any format, is read back; and no text whatsoever makes the search raise."""

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvmmodel.explain import find
from kvmmodel.explain.text import Call, Graph, Stack

Frames = list[tuple[str, int]]
names = st.from_regex(r"(kvm|svm|vcpu|do|my)_[a-z0-9_]{1,20}(\.(part|isra)\.[0-9])?", fullmatch=True)
frames = st.lists(st.tuples(names, st.integers(0, 0xFFFF)), min_size=2, max_size=40)
counts = st.integers(1, 10**9)


def bpftrace(stack: Frames, count: int) -> str:
    return "@[\n" + "".join(f"    {name}+{offset}\n" for name, offset in stack) + f"]: {count}\n"


def hist(stack: Frames, count: int) -> str:
    lines = "".join(f"         {name}+{offset:#x}/0x10000 [kvm]\n" for name, offset in stack)
    return f"{{ common_stacktrace:\n{lines}}} hitcount: {count:>10}\n"


def ftrace(stack: Frames, count: int) -> str:
    return "a-1 [000] ..... 1.0: <stack trace>\n" + "".join(f" => {name}\n" for name, _ in stack)


def perf(stack: Frames, count: int) -> str:
    return "a 1 [000] 1.0: ev:\n" + "".join(f"\tffffffff81000000 {n}+{o:#x} ([kernel.kallsyms])\n" for n, o in stack)


def folded(stack: Frames, count: int) -> str:
    return ";".join(name for name, _ in reversed(stack)) + f" {count}\n"


def oops(stack: Frames, count: int) -> str:
    return "[ 1.0] Call Trace:\n[ 1.0]  <TASK>\n" + "".join(f"[ 1.0]  {n}+{o:#x}/0x10000 [kvm]\n" for n, o in stack)


def proc(stack: Frames, count: int) -> str:
    return "".join(f"[<0>] {name}+{offset:#x}/0x10000\n" for name, offset in stack)


def debugger(stack: Frames, count: int) -> str:
    return "".join(f"#{n}  {name} (a/b.c:1:2)\n" for n, (name, _) in enumerate(stack))


def kstack(stack: Frames, count: int) -> str:
    return "\n" + "".join(f"        {name}+{offset}\n" for name, offset in stack)


PRINTERS = [bpftrace, hist, ftrace, perf, folded, oops, proc, debugger, kstack]
WITH_COUNT = (bpftrace, hist, folded)


@pytest.mark.parametrize("printer", PRINTERS)
@settings(max_examples=40)
@given(stack=frames, count=counts)
def test_printed_stacks_are_read_back(printer: Callable[[Frames, int], str], stack: Frames, count: int) -> None:
    (found,) = find("Look:\n" + printer(stack, count) + "\nAnd then.\n")
    assert isinstance(found, Stack)
    assert [frame.name for frame in found.frames] == [name for name, _ in stack]
    assert not found.cut
    if printer in WITH_COUNT:
        assert found.count == count


calls = st.recursive(
    st.builds(Call, names, st.sampled_from([None, "kvm"]), st.just(0.5)),
    lambda inner: st.builds(
        Call, names, st.sampled_from([None, "kvm"]), st.just(1.5), st.lists(inner, min_size=1, max_size=4).map(tuple)
    ),
    max_leaves=30,
)


def draw(call: Call, depth: int = 1) -> str:
    name = call.name + (f" [{call.module}]" if call.module else "")
    lead, indent = f"  3)   {call.duration_us} us    |", "  " * depth
    if not call.children:
        return f"{lead}{indent}{name}();\n"
    inner = "".join(draw(child, depth + 1) for child in call.children)
    return f"  3)               |{indent}{name}() {{\n{inner}{lead}{indent}}}\n"


@settings(max_examples=40)
@given(st.lists(calls, min_size=1, max_size=4))
def test_printed_graphs_are_read_back(roots: list[Call]) -> None:
    (found,) = find("Look:\n\n" + "".join(map(draw, roots)) + "\nAnd then.\n")
    assert isinstance(found, Graph)
    assert found.roots == tuple(roots)
    assert not found.cut


PIECES = st.sampled_from(  # "!" stands for a column's "|"
    [
        "@[",
        "@a[x,",
        "]: 3",
        "{ stacktrace:",
        "} hitcount: 1",
        " => foo",
        "x: <stack trace>",
        "Call Trace:",
        "[<0>] f+0x1/0x2",
        "foo+1",
        "a;b 1",
        " 1) ! f() {",
        " 1) 1.0 us ! f();",
        " 1) ! }",
        "# tracer: function_graph",
        "#0 a",
        "#1 b",
        "}",
    ]
)


@given(
    st.one_of(
        st.text(),
        st.lists(st.one_of(PIECES, st.text(max_size=20)), max_size=30)
        .map("\n".join)
        .map(lambda s: s.replace("!", "|")),
    )
)
def test_no_text_makes_it_raise_and_lines_are_within_the_text(text: str) -> None:
    for one in find(text):
        assert 1 <= one.line <= text.count("\n") + text.count("\r") + 1
