"""Show a report: as data for --json, or as text for a terminal."""

import textwrap
from typing import Any

from kvmmodel.explain.match import Match
from kvmmodel.explain.report import ExplainedGraph, ExplainedStack, GraphPath, Report

WIDTH = 100


def to_json(report: Report) -> dict[str, Any]:
    """As plain data. One entry of ``stacks`` per stack in the text, in its order; ``distinct`` is the same number for
    equal ones."""
    return {
        "kernel": report.kernel,
        "kernels": list(report.kernels),
        "summary": {
            "stacks": len(report.stacks),
            "distinct": len(report.distinct()),
            "graphs": len(report.graphs),
            **report.verdicts(),
        },
        "stacks": [_stack(one) for one in report.stacks],
        "graphs": [_graph(one) for one in report.graphs],
        "findings": [{"claim": one.claim, "because": one.because} for one in report.findings],
    }


def _explained(one: ExplainedStack | GraphPath) -> dict[str, Any]:
    return {
        "frames": list(one.frames),
        "path": " ".join(one.story.sentences),
        "page": one.story.page,
        "verdict": one.match.verdict,
        "kernels": list(one.match.kernels),
        "unknown": list(one.match.unknown),
        "outside": list(one.match.outside),
        "model": _model(one.match),
    }


def _model(match: Match) -> dict[str, Any] | None:
    """The best fitting stack that the model emitted, and the first run that did."""
    if match.stack is None:
        return None
    run = match.stack.run
    host = run.host()
    told = {"kernel": match.by, "scenario": run.scenario, "cpu": host.processor.name, "avic": bool(host.params["avic"])}
    return {**told, "frames": list(match.stack.names)}


def _stack(one: ExplainedStack) -> dict[str, Any]:
    stack = one.stack
    place = {"line": stack.line, "format": stack.format, "key": stack.key, "cut": stack.cut}
    return {"count": stack.count, "distinct": one.number, **_explained(one), **place}


def _graph(one: ExplainedGraph) -> dict[str, Any]:
    graph = one.graph
    return {
        "line": graph.line,
        "cpu": graph.cpu,
        "task": graph.task,
        "cut": graph.cut,
        "calls": len(graph.roots),
        "verdicts": one.verdicts,
        "paths": [{"root": path.root, "count": path.count, **_explained(path)} for path in one.paths],
    }


def to_text(report: Report) -> str:
    """For people to read: the paths, what each tells, and the findings."""
    counts = report.verdicts()
    head = f"{_many(len(report.stacks), 'stack')} ({len(report.distinct())} distinct), "
    head += f"{_many(len(report.graphs), 'function graph')}: "
    head += f"{counts['matched']} matched, {counts['known']} known but not yet modelled, {counts['unknown']} unknown"
    where = f"Kernel {report.kernel}" if report.kernel else "The text doesn't name its kernel"
    compared = ", ".join(report.kernels) or "no run of the model for it"
    blocks = [_wrap(head) + "\n" + _wrap(f"{where}; compared with {compared}.")]
    by_number: dict[int, list[ExplainedStack]] = {}
    for one in report.stacks:
        by_number.setdefault(one.number, []).append(one)
    blocks += [_stack_text(same) for same in by_number.values()]
    blocks += [_graph_text(one) for one in report.graphs]
    if report.findings:
        told = [_wrap(one.claim, "  * ", "    ") + "\n" + _wrap(one.because, "    ") for one in report.findings]
        blocks.append("What this tells\n" + "\n".join(told))
    return "\n\n".join(blocks) + "\n"


def _stack_text(same: list[ExplainedStack]) -> str:
    one = same[0]
    lines = ", ".join(str(each.stack.line) for each in same[:6]) + (" …" if len(same) > 6 else "")
    times = sum(each.stack.count for each in same)
    head = f"Stack {one.number}: {_many(times, 'time')}, line{'s' if len(same) > 1 else ''} {lines}"
    formats = ", ".join(dict.fromkeys(each.stack.format for each in same))
    cut = ", cut off" if any(each.stack.cut for each in same) else ""
    return "\n".join([_wrap(f"{head} ({formats}{cut}): {_verdict(one)}"), *_told(one)])


def _graph_text(one: ExplainedGraph) -> str:
    graph = one.graph
    whose = graph.task or (f"CPU {graph.cpu}" if graph.cpu is not None else "")
    head = f"Function graph, line {graph.line}{', ' + whose if whose else ''}{', cut off' if graph.cut else ''}: "
    counts = ", ".join(f"{count} {verdict}" for verdict, count in one.verdicts.items() if count)
    blocks = [_wrap(f"{head}{_many(len(graph.roots), 'call')}, {_many(sum(one.verdicts.values()), 'path')} ({counts})")]
    for path in one.paths:
        blocks += [_wrap(f"{path.root}, {_many(path.count, 'time')}: {_verdict(path)}", "  "), *_told(path)]
    return "\n".join(blocks)


def _verdict(one: ExplainedStack | GraphPath) -> str:
    if not one.frames:
        return "nothing to compare"
    if one.match.verdict == "matched":
        by = f" (scenario {one.match.stack.run.scenario})" if one.match.stack is not None else ""
        return f"matched, as in the model's run of {', '.join(one.match.kernels)}{by}"
    if one.match.verdict == "known":
        return "known, but the model has no such stack yet"
    return f"unknown: {', '.join(one.match.unknown) or 'nothing of KVM in it'}"


def _told(one: ExplainedStack | GraphPath) -> list[str]:
    shown = [_wrap(" <- ".join(one.frames), "    ", "      ")] if one.frames else []
    shown += [_wrap(" ".join(one.story.sentences), "    ")]
    if one.match.verdict == "matched" and one.match.outside:
        shown.append(_wrap(f"Outside KVM, not in the model: {', '.join(one.match.outside)}", "    ", "      "))
    return [*shown, f"    {one.story.page}"]


def _wrap(text: str, first: str = "", rest: str | None = None) -> str:
    indent = first if rest is None else rest
    return textwrap.fill(text, WIDTH, initial_indent=first, subsequent_indent=indent, break_on_hyphens=False)


def _many(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"
