"""Find every stack and function graph in any text: notes with prose and code around them, logs, recordings."""

from kvmmodel.explain.graphs import graph_block, is_header
from kvmmodel.explain.stacks import READERS
from kvmmodel.explain.text import Graph, Stack, lines_of


def find(text: str) -> list[Stack | Graph]:
    """Return what the text contains, in its order. Prose and C code yield nothing; no text makes this raise."""
    lines = lines_of(text)
    found: list[Stack | Graph] = []
    headed = False  # after a function_graph header the lines may have no columns at all
    index = 0
    while index < len(lines):
        line = lines[index]
        if not line.strip():
            index += 1
            continue
        if line.startswith("#"):
            headed = is_header(line) or (headed and not line.startswith("# tracer:"))
        for reader in READERS:
            if (stack := reader(lines, index)) is not None:
                found.append(stack[0])
                index = stack[1]
                break
        else:
            block = graph_block(lines, index, headed)
            if block is not None and block[1] > index:
                found.extend(block[0])
                index = block[1]
            else:
                headed = headed and line.startswith("#")
                index += 1
    return found
