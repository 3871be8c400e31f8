"""Tables of the page on releases, made from the facts: what each series brought, how a release is known, backports."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from kvmmodel.facts import load
from kvmmodel.facts.between import differences, now_and_before
from kvmmodel.facts.releases import Change, changes, gained, kernel, series, version
from kvmmodel.widgets import page
from kvmmodel.widgets.page import Html
from kvmmodel.widgets.releases_rows import AREAS, coded, table
from kvmmodel.widgets.svg import el, esc


def _table(names: Sequence[str], rows: Sequence[Sequence[str]], css: str = "km-table") -> Html:
    """Rows of HTML cells; the first of each is its heading."""
    head = el("tr", *(el("th", name, scope="col") for name in names))
    body = [el("tr", el("th", first, scope="row"), *(el("td", cell) for cell in rest)) for first, *rest in rows]
    return Html(el("table", el("thead", head), el("tbody", *body), class_=css))


def milestones() -> Html:
    """For each series but the first: how many behaviours came with it, by area. Zero is printed as 0."""
    names = series()[1:]
    came = Counter((change.since, change.area) for change in changes().values())
    rows = [[word, *(str(came[name, area]) for name in names)] for area, word in AREAS.items()]
    total = ["all", *(str(sum(came[name, area] for area in AREAS)) for name in names)]
    return _table(("", *names), [*rows, total], "km-table km-tight")


def how_releases_are_known() -> Html:
    """For each series: what X.Y stands for, which was read; builds that were recorded; the backports that are known,
    and from when on."""
    recorded = load("kernels")["recorded"]
    rows = []
    for name in series():
        ours = [build for build in recorded if kernel(build).series == name]
        took = sorted({p for c in changes().values() for line, p in c.stable if line == name}, key=version)
        count = sum(name in dict(change.stable) for change in changes().values())
        span = f"{count}, {took[0]} to {took[-1]}" if len(took) > 1 else f"{count}, by {took[0]}" if took else "none"
        rows.append([name, kernel(name).release, ", ".join(ours) or "–", span])
    return _table(("series", "read", "recorded", "backports that are known"), rows)


def recordings() -> Html:
    """What was recorded of each build."""
    return _table(("build", "recorded"), [[build, esc(what)] for build, what in load("kernels")["recorded"].items()])


def how_changes_are_known() -> Html:
    """How many rows of facts/changes are known in which way, and for how many a commit is."""
    rows = list(changes().values())
    how = Counter(change.how for change in rows)
    cells = [[word, str(how[key])] for key, word in page.HOW.items() if how[key]]
    commits = sum(change.commit is not None for change in rows)
    return _table(("how known", "changes"), [*cells, ["all", str(len(rows))], ["with their commit", str(commits)]])


def backports(name: str = "6.12") -> Html:
    """What the stable releases of a series took, in that order: since when, what it does, where it comes from."""
    took = [change for change in changes().values() if name in dict(change.stable)]
    ordered = sorted(took, key=lambda change: version(dict(change.stable)[name]))
    rows = [[dict(change.stable)[name], _what(change), change.since] for change in ordered]
    return _table(("by", "what it does", "series"), rows)


def _what(change: Change) -> str:
    return f"{el('code', esc(change.id))}<br/>{coded(now_and_before(change)[0])}"


def between(a: str, b: str) -> Html:
    """Every change between two releases, as the widget has them, without a run."""
    rows = differences(kernel(a), kernel(b))
    return Html(el("div", table(f"From {a} to {b}", rows), class_="km km-releases"))


def older_has() -> Html:
    """From each series to the next, both as they were read: what the older has and the newer lacks."""
    rows = []
    for old, new in zip(series(), series()[1:], strict=False):
        first, second = kernel(old), kernel(new)
        lost = [change.id for change in gained(second, first)]
        rows.append([f"{first.release} → {second.release}", str(len(lost)), "<br/>".join(map(coded, lost)) or "–"])
    return _table(("from → to", "lost", "which"), rows)
