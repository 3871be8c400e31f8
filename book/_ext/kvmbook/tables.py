"""The page Names, made from the facts: a directive for each kind of row.

    ```{names} function kvm
    ```

Kinds: function MODULE, parameter, inhibit, bits, release, behaviour, "open point", and the tables of words.toml.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from docutils import nodes
from docutils.parsers.rst import Directive
from sphinx.application import Sphinx

from kvmmodel.facts import inhibits, load, told
from kvmmodel.facts.functions import FUNCTIONS, Function
from kvmmodel.facts.names import Name, names
from kvmmodel.facts.open_points import open_points
from kvmmodel.facts.params import AUTO, kind_of
from kvmmodel.facts.releases import Change, changes, kernel, series, version
from kvmmodel.kvm import ioctl, vcpu_ioctl  # noqa: F401 -- registers the model's functions
from kvmmodel.kvm.names import FUNCTIONS as MODELLED

HOW = {
    "recorded": "recorded",
    "source": "read in source",
    "mail": "told by a mail or a commit's text",
    "manual": "told by a manual",
    "inferred": "inferred",
    "recalled": "recalled, not checked",
}

Row = tuple[str, str, list[str]]  # anchor, name, lines: the first plain, the others small


class Names(Directive):
    required_arguments = 1
    final_argument_whitespace = True
    has_content = False

    def run(self) -> list[nodes.Node]:
        kind, _, rest = self.arguments[0].partition(" ")
        if kind == "bits":
            return [_bits()]
        if kind == "open":
            kind = "open point"
        maker = MAKERS.get(kind)
        if maker is None and kind not in load("words"):
            raise self.error(f"names: no kind {kind!r}: expected one of {', '.join([*MAKERS, *load('words')])}")
        rows = maker(rest) if maker else _words(kind)
        return [_list(rows)]


def add_to(app: Sphinx) -> None:
    app.add_directive("names", Names)


def _functions(module: str) -> Iterator[Row]:
    modelled = {function.name for function in MODELLED.values()}
    for name in sorted(FUNCTIONS, key=lambda name: name.lstrip("_")):
        function = FUNCTIONS[name]
        if function.module == module:
            yield _row(names()[name], [function.does, _about(function, name in modelled)])


def _about(function: Function, modelled: bool) -> str:
    said = [function.file]
    if function.seen:
        said.append(f"a frame on {', '.join(function.seen)}")
    if function.graph:
        said.append(f"a call in graphs of {', '.join(function.graph)}")
    said += [f"{other} from {first} on" for first, other in function.also]
    return "; ".join([*said, "in the model"] if modelled else said)


def _parameters(_: str) -> Iterator[Row]:
    for name, row in load("params").items():
        held = [line for line in series() if kind_of(name, kernel(line)) is not None]
        kinds = {line: "bool or auto" if (kind := kind_of(name, kernel(line))) == AUTO else kind for line in held}
        defaults = {line: told.default(name, line) for line in held}
        gone = f", gone in {row['until']}" if "until" in row else ""
        taints = "; setting it taints the kernel" if row.get("unsafe") else ""
        lines = [_sentence(row["does"]), f"{row['module']}; {told.since(name)}{gone}", f"type: {_spans(kinds)}"]
        yield _row(names()[name], [*lines, f"default: {_spans(defaults)}{taints}"])


def _spans(by_series: dict[str, str]) -> str:
    """Values of all series that have one; a value that never changes stands alone."""
    changed: dict[str, str] = {}
    for line, value in by_series.items():
        if not changed or value != list(changed.values())[-1]:
            changed[line] = value
    after = next((line for line in series() if version(line) > version(list(by_series)[-1])), None)
    spans = told.by_span(changed, after)
    return "; ".join(f"{value} {when}" for when, value in spans) if len(spans) > 1 else spans[0][1]


def _sentence(phrase: str) -> str:
    """With a capital, which str.capitalize would take from AVIC."""
    return f"{phrase[0].upper()}{phrase[1:]}."


def _inhibits(_: str) -> Iterator[Row]:
    for name, row in load("inhibits").items():
        gone = f", gone in {row['until']}" if "until" in row else ""
        spelled = "".join(f"; {other} {when}" for when, other in _names_of(row) if other != name)
        options = f"; {' or '.join(row['options'])}" if row.get("options") else ""
        yield _row(
            names()[name],
            [
                row["why"],
                f"{told.since(name)}{gone}{spelled}; takes it from: {_held(row, 'scope')}",
                f"set by: {_held(row, 'set_by')}",
                f"cleared by: {_held(row, 'cleared_by')}",
                f"avoid: {row['avoid']}{options}",
                f"known: {HOW[row['how']]}, {row['source']}",
            ],
        )


def _held(row: dict[str, Any], field: str) -> str:
    return "; ".join(
        f"{value}" if len(row[field]) == 1 else f"{value} ({when})"
        for when, value in told.by_span(row[field], row.get("until"))
    )


def _names_of(row: dict[str, Any]) -> tuple[tuple[str, Any], ...]:
    return told.by_span(row["name"], row.get("until")) if "name" in row else ()


def _behaviours(area: str) -> Iterator[Row]:
    for change in changes().values():
        if change.area == area:
            yield Name(change.id, "behaviour", "").anchor, change.id, [change.summary, _when(change), _known(change)]


def _when(change: Change) -> str:
    commit = f"; commit {change.commit}" if change.commit else ""
    return f"{told.since(change.id)}{commit}"


def _known(change: Change) -> str:
    return f"known: {HOW[change.how]}, {change.source}"


def _open_points(_: str) -> Iterator[Row]:
    for name, point in open_points().items():
        choices = "; ".join(f"{choice}: {does}" for choice, does in point.choices.items())
        lines = [point.question, choices, f"default: {point.default}, because {point.because}", point.source]
        yield _row(names()[name], lines)


def _releases(_: str) -> Iterator[Row]:
    recorded = load("kernels")["recorded"]
    for line in series():
        builds = [f"{build}: {what}" for build, what in recorded.items() if kernel(build).series == line]
        read = f"stands for {kernel(line).release}, whose source was read"
        yield f"release-{line.replace('.', '-')}", line, [read, *(f"recorded, {build}" for build in builds)]


def _words(kind: str) -> Iterator[Row]:
    for name, row in sorted(load("words")[kind].items(), key=lambda one: one[0].lower()):
        known = HOW[row.get("how", "source")]
        anchor = Name(name, kind, "").anchor
        yield anchor, name, [_sentence(row["does"]), f"{known}: {row['source']}"]


def _row(name: Name, lines: list[str]) -> Row:
    return name.anchor, name.name, lines


def _list(rows: Iterable[Row]) -> nodes.definition_list:
    made = nodes.definition_list(classes=["km-names"])
    for anchor, name, lines in rows:
        term = nodes.term("", "", nodes.literal(text=name), ids=[anchor])
        first, *others = lines
        told_by = nodes.definition("", nodes.paragraph(text=first))
        told_by += [nodes.paragraph(text=line, classes=["km-small"]) for line in others]
        made += nodes.definition_list_item("", term, told_by)
    return made


def _bits() -> nodes.table:
    """A column for each stretch of releases that number the inhibits alike."""
    stretches: list[list[str]] = []
    for line in series():
        if stretches and _numbers(stretches[-1][-1]) == _numbers(line):
            stretches[-1].append(line)
        else:
            stretches.append([line])
    ids = [reason.id for reason in inhibits.reasons(kernel(series()[-1]))]
    ids += [name for name in load("inhibits") if name not in ids]
    head = ["", *(s[0] if len(s) == 1 else f"{s[0]} to {s[-1]}" for s in stretches)]
    held = [_numbers(stretch[0]) for stretch in stretches]
    return _table(head, [[name, *(column.get(name, "") for column in held)] for name in ids])


def _numbers(line: str) -> dict[str, str]:
    return {reason.id: str(reason.bit) for reason in inhibits.reasons(kernel(line))}


def _table(head: list[str], rows: list[list[str]]) -> nodes.table:
    group = nodes.tgroup("", *(nodes.colspec(colwidth=1) for _ in head), cols=len(head))
    group += nodes.thead("", nodes.row("", *(_cell(text) for text in head)))
    body = [nodes.row("", _cell(row[0], code=True), *(_cell(text) for text in row[1:])) for row in rows]
    group += nodes.tbody("", *body)
    return nodes.table("", group, classes=["km-bits"])


def _cell(text: str, code: bool = False) -> nodes.entry:
    return nodes.entry("", nodes.paragraph("", "", nodes.literal(text=text) if code else nodes.Text(text)))


MAKERS: dict[str, Callable[[str], Iterator[Row]]] = {
    "function": _functions,
    "parameter": _parameters,
    "inhibit": _inhibits,
    "behaviour": _behaviours,
    "open point": _open_points,
    "release": _releases,
}
