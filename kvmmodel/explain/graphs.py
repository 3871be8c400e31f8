"""The reader of function graphs, in every layout of columns that tracefs and trace-cmd print.

The tree is built by indentation, not by counting braces, so lost events and cut ends spoil only what they touch.
Lines of several CPUs or tasks are mixed in a recording: each gets its own graph.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from kvmmodel.explain.text import Call, Graph

# One column before the functions: CPU, task, irq flags and duration may share one or have their own.
_CELL = re.compile(
    r"^\s*(?:(?P<cpu>\d+)\))?\s*(?:(?P<task>[^\s|][^|]*?-\d+))??\s*(?:[a-zA-Z.\d]{4,6}(?=\s|$))?\s*"
    r"(?:[$*@#!+]?\s*(?P<us>\d+(?:\.\d+)?) us)?\s*$"
)
_TIME = re.compile(r"^\s*\d+\.\d+\s*$")
_IRQ_ARROW = re.compile(r"={6,}>|<={6,}")
_CPU_ONLY = re.compile(r"^\s*(?P<cpu>\d+)\)(?P<body>\s{2,}\S.*)$")  # option nofuncgraph-duration
_TRACE_CMD = re.compile(r"^\s*(?P<task>\S.*-\d+)\s+\[(?P<cpu>\d+)\].*?:\s+funcgraph_(?:entry|exit):(?P<rest>.*)$")
_SWITCH = re.compile(r"^\s*(?P<cpu>\d+)\)\s+\S.*-\d+\s+=>\s+(?P<task>\S.*-\d+)\s*$")
_FILLER = re.compile(r"^\s*(?:-{10,}|CPU:\s*\d+ \[LOST .*\]|#.*)?\s*$")
_HEADER = re.compile(r"^# tracer: function_graph|^#.*\bFUNCTION CALLS\b")

_NAME = r"(?P<name>[A-Za-z_][\w.$]*|0x[0-9a-f]+)(?: \[(?P<module>[\w-]+)\])?"
_LEAF = re.compile(rf"^(?P<indent>\s*){_NAME}\s?\([^;]*\);(?:\s*/\*.*\*/)?\s*$", re.ASCII)
_OPEN = re.compile(rf"^(?P<indent>\s*){_NAME}\s?\([^;]*\) \{{(?:\s*/\*.*\*/)?\s*$", re.ASCII)
_CLOSE = re.compile(rf"^(?P<indent>\s*)\}}(?:\s*/\*\s*(?:{_NAME})?.*\*/)?\s*$", re.ASCII)
_COMMENT = re.compile(r"^\s*/\*.*")


@dataclass(slots=True)
class _Line:
    cpu: int | None
    task: str | None
    us: float | None
    kind: str  # open, leaf, close, comment, or "" for a line that only belongs to the block
    indent: int
    name: str
    module: str | None
    telling: bool  # has it a column that C code can't have?


@dataclass(slots=True)
class _Open:
    name: str
    module: str | None
    indent: int
    children: list[tuple[int, Call]] = field(default_factory=list)
    us: float | None = None

    def call(self) -> Call:
        return Call(self.name, self.module, self.us, tuple(call for _, call in self.children))


def _body(text: str, cpu: int | None, task: str | None, us: float | None, telling: bool) -> _Line | None:
    for kind, pattern in (("leaf", _LEAF), ("open", _OPEN), ("close", _CLOSE)):
        if match := pattern.match(text):
            name, module = match["name"] or "?", match["module"]
            return _Line(cpu, task, us, kind, len(match["indent"]), name, module, telling)
    if _COMMENT.match(text) or not text.strip() or _IRQ_ARROW.search(text):
        return _Line(cpu, task, us, "comment", 0, "", None, telling)
    return None


def _line(text: str, headed: bool) -> _Line | None:
    """Read one line of a graph, or say that it is none. Without columns only a header makes it one: else it is C."""
    cpu: int | None = None
    task: str | None = None
    us: float | None = None
    telling = False
    if len(text) > 1000:
        return None
    if command := _TRACE_CMD.match(text):
        cpu, task, text, telling = int(command["cpu"]), command["task"], command["rest"], True
    parts = text.split("|")
    taken = 0
    for part in parts[:-1]:
        if _TIME.match(part) or _IRQ_ARROW.search(part):
            telling = True
        elif cell := _CELL.match(part):
            cpu = int(cell["cpu"]) if cell["cpu"] else cpu
            task = cell["task"] or task
            us = float(cell["us"]) if cell["us"] else us
            telling = telling or cell["cpu"] is not None or cell["us"] is not None
        else:
            break
        taken += 1
    rest = "|".join(parts[taken:])
    if bare := _CPU_ONLY.match(rest):
        return _body(bare["body"], int(bare["cpu"]), task, us, telling or headed)
    if taken or headed:
        return _body(rest, cpu, task, us, telling)
    return None


def graph_block(lines: Sequence[str], at: int, headed: bool) -> tuple[list[Graph], int] | None:
    """Read the block of graph lines that begins at `at`: its graphs, and the index after it."""
    first = _line(lines[at], headed)
    if first is None or not first.kind:
        return None
    rows: list[tuple[int, _Line]] = []
    current: dict[int | None, str] = {}  # the task on each CPU, as the recording tells task switches
    index = at
    while index < len(lines):
        text = lines[index]
        if switch := _SWITCH.match(text):
            current[int(switch["cpu"])] = switch["task"].strip()
        elif (row := _line(text, headed)) is not None and (text.strip() or headed):
            if row.task is None:
                row.task = current.get(row.cpu)
            rows.append((index, row))
        elif not _FILLER.match(text) or not _goes_on(lines, index, headed):
            break
        index += 1
    if not headed and not any(row.telling for _, row in rows):
        kinds = {row.kind for _, row in rows if row.cpu is not None}
        if not {"open", "close"} <= kinds:  # "1) foo();" alone may be a list in prose
            return [], index
    return _graphs(rows), index


def _goes_on(lines: Sequence[str], index: int, headed: bool) -> bool:
    """Do graph lines follow soon? An empty line or a divider alone doesn't end a block."""
    for line in lines[index + 1 : index + 5]:
        if _SWITCH.match(line) or ((row := _line(line, headed)) is not None and row.kind != "comment"):
            return True
        if not _FILLER.match(line):
            return False
    return False


def _graphs(rows: Sequence[tuple[int, _Line]]) -> list[Graph]:
    """Sort the lines by task, or by CPU where the recording has no tasks, and build each one's tree."""
    parts: dict[object, list[tuple[int, _Line]]] = {}
    for index, row in rows:
        if row.kind in ("open", "leaf", "close"):
            parts.setdefault(row.task if row.task is not None else row.cpu, []).append((index, row))
    return [_tree(part) for part in parts.values()]


def _tree(rows: Sequence[tuple[int, _Line]]) -> Graph:
    top = _Open("", None, -1)
    stack = [top]
    cut = False

    def leave() -> None:
        done = stack.pop()
        stack[-1].children.append((done.indent, done.call()))

    for _, row in rows:
        while stack[-1].indent > row.indent or (stack[-1].indent == row.indent and row.kind != "close"):
            leave()  # its closing line is missing
            cut = True
        if row.kind == "open":
            stack.append(_Open(row.name, row.module, row.indent))
        elif row.kind == "leaf":
            stack[-1].children.append((row.indent, Call(row.name, row.module, row.us)))
        elif stack[-1].indent == row.indent:
            stack[-1].us = row.us
            leave()
        else:  # its opening line is missing: what was deeper than it, just before, are its calls
            cut = True
            siblings = stack[-1].children
            first = len(siblings)
            while first and siblings[first - 1][0] > row.indent:
                first -= 1
            call = Call(row.name, row.module, row.us, tuple(call for _, call in siblings[first:]))
            siblings[first:] = [(row.indent, call)]
    while len(stack) > 1:
        leave()
        cut = True
    index, begin = rows[0]
    return Graph(tuple(call for _, call in top.children), index + 1, begin.cpu, begin.task, cut)


def is_header(line: str) -> bool:
    return bool(_HEADER.match(line))
