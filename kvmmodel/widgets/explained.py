"""The answer on somebody's stacks as HTML: the verdict first, what they tell, then each path beside the model's own.

The last part is for distinct stacks, the most frequent first, and for the kinds of calls of each function graph.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from posixpath import basename

from kvmmodel.explain.match import MATCHED, Match
from kvmmodel.explain.normalise import Part, kept
from kvmmodel.explain.report import ExplainedGraph, ExplainedStack, GraphPath, Report
from kvmmodel.explain.runs import functions_of
from kvmmodel.explain.story import paths
from kvmmodel.facts.functions import FUNCTIONS
from kvmmodel.facts.releases import kernel as release
from kvmmodel.facts.releases import series
from kvmmodel.trace.stacks import frames
from kvmmodel.widgets import evidence
from kvmmodel.widgets.glyphs import icon
from kvmmodel.widgets.svg import breakable, coded, el, esc, rich

FEW = 2  # paths of which the frames are open from the start
FULL = 12  # stacks that are shown with all of their frames
MOST = 100  # stacks that are shown at all
TITLE = "What do these stacks mean?"


@dataclass(frozen=True, slots=True)
class Shown:
    """``open``: paths that another run may still have. ``going``: the runs go on, else they ended or were stopped.
    ``told``: how the kernel is known: "text", "reader", or "" where it is not."""

    report: Report
    open: frozenset[tuple[Part, ...]] = frozenset()
    going: bool = False
    told: str = ""


def heading(shown: Shown | None) -> str:
    sub = _setup(shown) if shown is not None else "Paste a text that has stacks or a function graph in it"
    return el("div", el("h3", TITLE, class_="km-title"), el("p", rich(sub), class_="km-sub"), class_="km-rule")


def _setup(shown: Shown) -> str:
    report = shown.report
    if shown.told:
        by = {"text": "as the text says", "reader": "as chosen"}[shown.told]
        other = f"; not modelled, compared with {_span(report.kernels)}" if len(report.kernels) > 1 else ""
        return f"Kernel {report.kernel}, {by}{other}"
    return f"Kernel not known: compared with {_span(report.kernels)}"


def refused(message: str) -> str:
    """What stands in place of an answer when there is nothing to answer."""
    words = el("b", "Nothing to explain."), " ", el("span", esc(message))
    return el("div", el("p", icon("no", css="km-bad"), *words, class_="km-found"), class_="km km-run")


def static(shown: Shown, text: str) -> str:
    """Complete in itself, for readers without scripts and for print."""
    asked = el("pre", esc(text.strip("\n")), class_="km-asked")
    return el("section", heading(shown), asked, draw(shown), class_="km km-static", aria_label=TITLE)


def draw(shown: Shown) -> str:
    report = shown.report
    mark, first, rest = verdict(shown)
    sign = icon(mark, css="km-bad" if mark == "no" else "")
    parts = [el("p", sign, el("b", rich(first)), " ", el("span", rich(rest)), class_="km-found")]
    if report.findings:
        told = [el("li", el("b", coded(one.claim)), el("p", coded(one.because))) for one in report.findings]
        parts += [el("h4", "What this tells of the host", class_="km-part"), el("ul", *told, class_="km-tells")]
    if report.stacks:
        parts += [el("h4", "The stacks, one by one", class_="km-part"), *_stacks(shown)]
    parts += [_graph(one, shown) for one in report.graphs]
    return el("div", *parts, class_="km km-run km-explained")


# -- the verdict -------------------------------------------------------------------------------------------------------


def verdict(shown: Shown) -> tuple[str, str, str]:
    """A mark, a sentence on whether the model takes the same paths, and more in a line."""
    matches = _matches(shown.report)
    ours = [match for parts, match in matches.items() if any(part.kvm for part in parts)]
    had = sum(match.verdict == MATCHED for match in ours)
    unknown = list(dict.fromkeys(name for match in ours for name in match.unknown))
    going = bool(shown.open) and shown.going
    if not ours:
        return "dot", "There is no function of KVM in it.", _counted(shown.report)
    taken = f"{had} of {_many(len(ours), 'path')}"
    if had == len(ours):
        first = f"The model takes {('this path', 'both paths')[had - 1] if had < 3 else f'all {had} paths'}, too."
    elif going:
        first = (
            f"So far the model takes {taken}." if had else f"No run so far takes {'it' if len(ours) == 1 else 'one'}."
        )
    elif shown.open:
        first = f"Stopped: the runs that were done took {taken}."
    else:
        first = (
            f"The model takes {taken}."
            if had
            else f"The model takes {'it' if len(ours) == 1 else 'none of them'} in no run."
        )
    more = [_counted(shown.report)]
    if len(matches) > len(ours):
        more.append(f"{_many(len(matches) - len(ours), 'stack')} without any function of KVM: not compared.")
    if unknown:
        more.append(f"Not known: {', '.join(f'`{name}`' for name in unknown[:5])}{' …' * (len(unknown) > 5)}.")
    if had and not shown.told:
        more.append(_together([match for match in ours if match.verdict == MATCHED], so_far=bool(shown.open)))
    return "eoi" if had == len(ours) else "no" if unknown else "dot", first, " ".join(filter(None, more))


def _matches(report: Report) -> dict[tuple[Part, ...], Match]:
    told: Sequence[ExplainedStack | GraphPath] = [
        *report.distinct(),
        *(path for graph in report.graphs for path in graph.paths),
    ]
    return {one.parts: one.match for one in told if one.parts}


def _counted(report: Report) -> str:
    distinct, total = len(report.distinct()), sum(one.stack.count for one in report.stacks)
    words = [f"{_many(distinct, 'distinct stack')}, seen {_many(total, 'time')}"] if distinct else []
    words += [_many(len(report.graphs), "function graph")] if report.graphs else []
    return f"{'; '.join(words)}."


def _together(matched: Sequence[Match], *, so_far: bool) -> str:
    """Which releases have all that was matched."""
    common = [name for name in matched[0].kernels if all(name in one.kernels for one in matched)]
    if not common:
        return "" if so_far else "No one release has all of them: the text may be of several hosts."
    what = "This is" if len(matched) == 1 else "Together they are"
    return f"{what} on {_span(common)}{' at least' * so_far}."


def _span(kernels: Sequence[str]) -> str:
    """Neighbours as "6.1 to 6.12"."""
    known = series()
    places = [known.index(name) for name in kernels if name in known]
    if len(places) == len(kernels) > 2 and places == list(range(places[0], places[0] + len(places))):
        return f"{kernels[0]} to {kernels[-1]}"
    return ", ".join(kernels)


# -- one path ----------------------------------------------------------------------------------------------------------


def _stacks(shown: Shown) -> list[str]:
    same: dict[int, list[ExplainedStack]] = {}
    for one in shown.report.stacks:
        same.setdefault(one.number, []).append(one)
    ordered = sorted(same.values(), key=lambda equal: (-sum(one.stack.count for one in equal), equal[0].number))
    parts = [_stack(equal, shown, full=number < FULL) for number, equal in enumerate(ordered[:MOST])]
    if len(ordered) > MOST:
        left = f"{len(ordered) - MOST} rarer ones are left out here; `kvmmodel explain FILE` in a terminal has them."
        parts.append(el("p", rich(left), class_="km-note"))
    return parts


def _stack(same: list[ExplainedStack], shown: Shown, *, full: bool) -> str:
    one = same[0]
    lines = ", ".join(str(each.stack.line) for each in same[:6]) + (" …" if len(same) > 6 else "")
    times = _many(sum(each.stack.count for each in same), "time")
    formats = ", ".join(dict.fromkeys(each.stack.format for each in same))
    cut = ", cut off" if any(each.stack.cut for each in same) else ""
    place = f"line{'s' if len(same) > 1 else ''} {lines}, {formats}{cut}"
    head = el("h4", f"{times} ", el("small", esc(place)))
    recorded = [frame.raw or frame.name for frame, _ in kept(one.stack.frames)]
    return _path(head, one, recorded, f"{formats}, line {one.stack.line}", shown, full=full)


def _graph(one: ExplainedGraph, shown: Shown) -> str:
    graph = one.graph
    whose = graph.task or (f"CPU {graph.cpu}" if graph.cpu is not None else "")
    counts = ", ".join(f"{count} {verdict}" for verdict, count in one.verdicts.items() if count)
    words = f"{_many(len(graph.roots), 'call')}, {_many(sum(one.verdicts.values()), 'way')} down to a leaf: {counts}"
    place = ", ".join(text for text in (f"line {graph.line}", whose, "cut off" * graph.cut) if text)
    head = el("h4", f"Function graph, {esc(place)}", class_="km-part") + el("p", words, class_="km-sub")
    paths_ = [
        _path(
            el("h4", f"{_many(path.count, 'time')} ", el("small", "of", " ", el("code", breakable(path.root)))),
            path,
            list(path.frames),
            f"the call chain that says most, of line {graph.line}",
            shown,
            full=number < FULL,
        )
        for number, path in enumerate(one.paths[:MOST])
    ]
    return head + "".join(paths_)


def _path(
    head: str, one: ExplainedStack | GraphPath, recorded: list[str], caption: str, shown: Shown, *, full: bool
) -> str:
    told = el("p", coded(" ".join(one.story.sentences)), class_="km-path")
    fit = _fit(one, shown)
    body = (
        _beside(one, recorded, caption, open_=len(_matches(shown.report)) <= FEW)
        if full
        else el("p", _in_a_line(one), class_="km-inline")
    )
    return el("section", head, told, link(one.story.page), fit, body, class_="km-one")


def link(page: str) -> str:
    """To a page of the book from another one; JupyterLab opens no links to files, so there its name is shown."""
    file = basename(page)
    title = rich(paths().titles.get(page, file))
    anchor = el("a", title, href=file, target="_blank", rel="noopener")
    return el("p", "More: ", anchor, el("small", f" {page.removesuffix('.html')}.md"), class_="km-more")


def _fit(one: ExplainedStack | GraphPath, shown: Shown) -> str:
    match = one.match
    if match.verdict == MATCHED and match.stack is not None:
        host = match.stack.run.host()
        where = f"kernel {match.by}, scenario `{match.stack.run.scenario}`, {host.processor.title}"
        also = [name for name in match.kernels if name != match.by]
        words = f"{where}, `avic={host.sysfs['avic']}`{f'; also on {_span(also)}' if also else ''}."
        return _line("eoi", "The model takes it:", words)
    if not any(part.kvm for part in one.parts):
        return _line("dot", "Not compared:", "no function of KVM is in it.")
    if one.parts in shown.open:
        return _line("dot", "Not found yet:" if not shown.going else "Looking:", "no run so far has it.")
    if match.unknown:
        return _line("no", "Not known:", ", ".join(f"`{name}`" for name in match.unknown) + ".")
    return _line("no", "No run of the model has it.", _why(one, shown.report))


def _why(one: ExplainedStack | GraphPath, report: Report) -> str:
    """A function that the chosen release lacks is worth saying."""
    names = [part.name for part in one.parts if part.kvm]
    lacking = [name for name in names if not any(name in functions_of(kernel) for kernel in report.kernels)]
    if not lacking:
        return "All of its functions are known, but no scenario leads through them in this order."
    has = [name for name in series() if lacking[0] in functions_of(name)]
    elsewhere = f"; in {_span(has)} it is" if has else ""
    return f"`{lacking[0]}` is not in the model of {_span(report.kernels)}{elsewhere}."


def _line(mark: str, first: str, rest: str) -> str:
    shown = icon(mark, css="km-bad" if mark == "no" else "", size=14)
    return el("p", shown, el("span", el("b", esc(first)), " ", rich(rest)), class_="km-fit")


def _beside(one: ExplainedStack | GraphPath, recorded: list[str], caption: str, *, open_: bool) -> str:
    """The frames, beside the model's where it has the path."""
    stack = one.match.stack
    if stack is None:
        summary = el("summary", _many(len(recorded), "frame"))
        listed = el("ol", *map(_frame, one.parts, recorded), class_="km-stack")
        return el("details", summary, listed, class_="km-rest", open="" if open_ else None)
    outside = {part.name for part in one.parts if not part.kvm}
    rows = evidence.align(_bare(one, recorded), frames(stack.functions(), release(one.match.by)))
    if isinstance(one, GraphPath):  # what is outside its root was not traced
        rows = rows[: 1 + max(number for number, row in enumerate(rows) if row.recorded is not None)]
    matched, total, more = evidence.counts(rows, outside)
    words = f"{matched} of {total} recorded frames in the model{f'; {more}' if more else ''}"
    where = f"kernel {one.match.by}, scenario `{stack.run.scenario}`"
    shown = evidence.table(rows, caption, where, outside)
    return el("details", el("summary", words), shown, class_="km-rest", open="" if open_ else None)


def _bare(one: ExplainedStack | GraphPath, recorded: list[str]) -> list[str]:
    """The frames by their plain names, so that both sides can be aligned, with the offset as it was written."""
    offsets = [text.rpartition("+")[2] if "+" in text and not text.startswith("=>") else "" for text in recorded]
    return [
        part.name + (f"+{offset.split(' ')[0]}" if offset else "")
        for part, offset in zip(one.parts, offsets, strict=True)
    ]


def _frame(part: Part, recorded: str) -> str:
    known = FUNCTIONS.get(part.name)
    if part.kvm and not part.known:
        word, mark = el("small", "not known", class_="km-bad"), icon("no", css="km-bad", size=12) + " "
    else:
        word, mark = el("small", esc(known.module if known else "outside")), ""
    css = "km-kvm" if part.kvm else "km-sched"
    return el("li", el("span", mark, breakable(part.name)), word, class_=css, title=recorded)


def _in_a_line(one: ExplainedStack | GraphPath) -> str:
    return " ← ".join(el("code", breakable(part.name)) for part in one.parts)


def _many(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"
