"""Explain a text: find what is in it, compare it with the model's runs, tell its story, sum up."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from kvmmodel.explain.match import KNOWN, MATCHED, UNKNOWN, Corpus, Match, index, match
from kvmmodel.explain.normalise import Part, normalise, part, plain
from kvmmodel.explain.parse import find
from kvmmodel.explain.source import ExplainError, kernel_of
from kvmmodel.explain.story import Finding, Seen, Story, findings, tell
from kvmmodel.explain.text import Call, Graph, Stack

# A call's name, and its distinct paths down to a leaf, each innermost first.
Leaves = tuple[str, tuple[tuple[Part, ...], ...]]
Matching = Callable[[tuple[Part, ...]], Match]

EXPECTED = (
    "no call stack or function graph found; expected stacks as bpftrace, tracefs hist, ftrace, perf script, a folded "
    "file or an oops print them, or function_graph lines"
)


@dataclass(frozen=True, slots=True)
class ExplainedStack:
    """A stack of the text. ``parts``: its frames that count; ``story``: what it tells; ``match``: the model, too."""

    stack: Stack
    number: int  # equal stacks share a number, counted from 1 in order of appearance
    parts: tuple[Part, ...]
    story: Story
    match: Match

    @property
    def frames(self) -> tuple[str, ...]:
        return tuple(part.name for part in self.parts)


@dataclass(frozen=True, slots=True)
class GraphPath:
    """What one kind of call in a graph tells: calls with the same story are one entry, with its longest path."""

    root: str
    count: int
    parts: tuple[Part, ...]
    story: Story
    match: Match

    @property
    def frames(self) -> tuple[str, ...]:
        return tuple(part.name for part in self.parts)


@dataclass(frozen=True, slots=True)
class ExplainedGraph:
    """A function graph of the text, told path by path."""

    graph: Graph
    paths: tuple[GraphPath, ...]
    verdicts: dict[str, int]  # distinct paths from a root to a leaf, by verdict


@dataclass(frozen=True, slots=True)
class Report:
    """What the text holds, in its order. ``kernel`` is the release that it names, if it does."""

    kernel: str | None
    kernels: tuple[str, ...]  # the releases compared with
    stacks: tuple[ExplainedStack, ...]
    graphs: tuple[ExplainedGraph, ...]
    findings: tuple[Finding, ...]

    def distinct(self) -> list[ExplainedStack]:
        """The stacks that differ, in order of appearance."""
        return list({one.number: one for one in reversed(self.stacks)}.values())[::-1]

    def verdicts(self) -> dict[str, int]:
        """How many distinct stacks have each verdict: matched, known, unknown."""
        counts = dict.fromkeys((MATCHED, KNOWN, UNKNOWN), 0)
        for one in self.distinct():
            counts[one.match.verdict] += 1
        return counts


@dataclass(frozen=True, slots=True)
class Asked:
    """What a text has to explain, normalised. ``kernel``: the one that it was recorded on, None if nobody says."""

    kernel: str | None
    stacks: tuple[tuple[Stack, tuple[Part, ...]], ...]
    graphs: tuple[tuple[Graph, tuple[Leaves, ...]], ...]

    def wanted(self) -> list[tuple[Part, ...]]:
        """Each distinct stack, and each distinct path of a graph from a root to a leaf."""
        leaves = (leaf for _, roots in self.graphs for _, paths in roots for leaf in paths)
        return list(dict.fromkeys((*(parts for _, parts in self.stacks), *leaves)))


def ask(text: str, kernel: str | None = None) -> Asked:
    """Find every stack and function graph in `text`. ExplainError if there is none."""
    found = find(text)
    if not found:
        raise ExplainError("the input is empty" if not text.strip() else EXPECTED)
    stacks = tuple((one, normalise(one.frames)) for one in found if isinstance(one, Stack))
    graphs = tuple((one, tuple(map(_paths, one.roots))) for one in found if isinstance(one, Graph))
    return Asked(kernel or kernel_of(text), stacks, graphs)


def answer(asked: Asked, matching: Matching, kernels: tuple[str, ...]) -> Report:
    """Tell what was asked. `matching` says whether the model has a stack, `kernels` which releases it was run on."""
    stacks: list[ExplainedStack] = []
    numbers: dict[tuple[str, ...], int] = {}
    for stack, parts in asked.stacks:
        names = tuple(one.name for one in parts)
        number = numbers.setdefault(names, len(numbers) + 1)
        stacks.append(ExplainedStack(stack, number, parts, tell(names), matching(parts)))
    graphs = [_graph(graph, roots, matching) for graph, roots in asked.graphs]
    told = findings([*_seen_stacks(stacks), *_seen_graphs(graphs)], asked.kernel)
    return Report(asked.kernel, kernels, tuple(stacks), tuple(graphs), tuple(told))


def explain(text: str, corpus: Corpus | Callable[[], Corpus], kernel: str | None = None) -> Report:
    """Explain every stack and function graph in `text` by stacks that were emitted. ExplainError if there is none.

    A `corpus` that takes time to make may be a function; it is called only if there is something to explain.
    """
    asked = ask(text, kernel)
    where = index(corpus() if callable(corpus) else corpus, asked.kernel)
    return answer(asked, lambda parts: match(parts, where), tuple(where.stacks))


def _seen_stacks(stacks: Sequence[ExplainedStack]) -> list[Seen]:
    equal: dict[tuple[str, ...], list[ExplainedStack]] = {}
    for one in stacks:
        equal.setdefault(one.frames, []).append(one)
    return [
        Seen(frames, sum(one.stack.count for one in same), tuple(one.stack.line for one in same))
        for frames, same in equal.items()
    ]


def _seen_graphs(graphs: Sequence[ExplainedGraph]) -> list[Seen]:
    return [Seen(path.frames, path.count, (one.graph.line,)) for one in graphs for path in one.paths]


def _leaves(call: Call, above: tuple[Part, ...] = ()) -> Iterator[tuple[Part, ...]]:
    """Every path from a root to a leaf, innermost first: what a stack at the leaf would show."""
    here = (part(plain(call.name), call.module), *above)
    pending = [(call, here)]
    while pending:
        one, path = pending.pop()
        if not one.children:
            yield path
        for child in reversed(one.children):
            pending.append((child, (part(plain(child.name), child.module), *path)))


def _weight(pair: tuple[Story, tuple[Part, ...]]) -> tuple[int, int, int]:
    """Which path of a call says most: by its story, then by how much of KVM it shows, then the shortest."""
    story, path = pair
    return story.weight, sum(one.kvm for one in path), -len(path)


def _paths(root: Call) -> Leaves:
    return root.name, tuple(dict.fromkeys(_leaves(root)))


def _graph(graph: Graph, roots: Sequence[Leaves], matching: Matching) -> ExplainedGraph:
    """Each root is explained by that of its paths which says most; roots with the same story are told once."""
    paths: dict[tuple[str, Story], list[tuple[Part, ...]]] = {}
    distinct: dict[tuple[Part, ...], None] = {}
    for name, leaves in roots:
        distinct.update(dict.fromkeys(leaves))
        story, leaf = max(((tell(tuple(one.name for one in leaf)), leaf) for leaf in leaves), key=_weight)
        paths.setdefault((name, story), []).append(leaf)
    told = tuple(
        GraphPath(root, len(leaves), leaves[0], story, matching(leaves[0])) for (root, story), leaves in paths.items()
    )
    verdicts = dict.fromkeys((MATCHED, KNOWN, UNKNOWN), 0)
    for leaf in distinct:
        verdicts[matching(leaf).verdict] += 1
    return ExplainedGraph(graph, told, verdicts)
