"""Function graphs, in the layout of the kernel's function_graph tracer. The model has no durations to measure."""

from __future__ import annotations

from collections.abc import Iterable

from kvmmodel.facts.releases import Kernel
from kvmmodel.kvm.names import name_in
from kvmmodel.trace.probe import Call
from kvmmodel.trace.stacks import folded

HEADER = """# tracer: function_graph
#
#    FUNCTION CALLS
#     |   |   |   |
"""


def render(graphs: Iterable[Call], kernel: Kernel) -> str:
    """Every tree of calls, one after the other, as far as the release's compiler left calls to see."""
    return HEADER + "".join("".join(_lines(call, kernel, 0)) for call in graphs)


def _lines(call: Call, kernel: Kernel, depth: int) -> list[str]:
    """A call and what is below it. What the release lacks, or its compiler folded, is left out; its calls are not."""
    name = name_in(call.function, kernel)
    if name is not None and depth and folded(name, kernel):
        name = None
    below = 0 if name is None else 1
    inner = [line for sub in call.calls for line in _lines(sub, kernel, depth + below)]
    if name is None:
        return inner
    module = "" if call.function.module == "kernel" else f" [{call.function.module}]"
    indent = "  " * (depth + 1)
    if not inner:
        return [f" |{indent}{name}{module}();\n"]
    return [f" |{indent}{name}{module}() {{\n", *inner, f" |{indent}}}\n"]
