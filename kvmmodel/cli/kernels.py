"""kernels: the releases that are modelled, what one has, what changed between two.

It tells what facts/changes has; a change without a row there is not told.
"""

from __future__ import annotations

import argparse
import json
import textwrap
from collections.abc import Iterable, Sequence
from typing import Any

from kvmmodel.facts import inhibits, load
from kvmmodel.facts.releases import Change, Kernel, changes, gained, held, kernel, lacked, series

WIDTH = 100
HOW = {
    "recorded": "recorded",
    "source": "read in source",
    "mail": "told by a mail or a commit's text",
    "manual": "told by a manual",
    "inferred": "inferred",
    "recalled": "recalled, not checked",
}

Section = tuple[str, Sequence[Change]]


def add(commands: Any) -> None:
    telling = commands.add_parser("kernels", help="what a kernel release has, or what changed between two")
    telling.add_argument("a", nargs="?", metavar="A", help="X.Y, X.Y.Z or what uname -r prints (default: list all)")
    telling.add_argument("b", nargs="?", metavar="B", help="another release, newer or older: what changed from A to B")
    telling.add_argument("--json", action="store_true")
    telling.set_defaults(command=_kernels)


def _kernels(options: argparse.Namespace) -> int:
    if options.a is None:
        made, text = _all_json(), _all_text
    elif options.b is None:
        one = kernel(options.a)
        made, text = _one_json(one), lambda: _one_text(one)
    else:
        pair = kernel(options.a), kernel(options.b)
        made, text = _two_json(*pair), lambda: _two_text(*pair)
    print(json.dumps(made, indent=1) if options.json else text())
    return 0


def _all_json() -> dict[str, Any]:
    return {
        "series": [{"name": name, "release": kernel(name).release} for name in series()],
        "recorded": load("kernels")["recorded"],
        "changes": [_row(change) for change in changes().values()],
    }


def _all_text() -> str:
    lines = ["A series stands for the point release whose source was read.", "", "series  stands for  new  taken  all"]
    for name in series():
        one = kernel(name)
        new, taken, older = _parts(one)
        total = len(new) + len(taken) + len(older)
        lines.append(f"{name:6}  {one.release:10}  {len(new):3}  {len(taken):5}  {total:3}")
    lines += ["", f"new: behaviours that came with it, of {len(changes())}; taken: those that its stable releases took"]
    lines += ["from later series; all: with those of older series. 'kvmmodel kernels 6.12' tells them.", ""]
    lines += ["Recorded:", *(f"  {build:10}{what}" for build, what in load("kernels")["recorded"].items())]
    return "\n".join(lines)


def _one_json(one: Kernel) -> dict[str, Any]:
    return {
        "kernel": one.release,
        "changes": [_row(change) for part in _parts(one) for change in part],
        "lacks": [_row(change) for change in lacked(one)],
        "inhibits": list(inhibits.names(one)),
    }


def _one_text(one: Kernel) -> str:
    new, taken, older = _parts(one)
    bits = ", ".join(f"{bit} {name}" for bit, name in enumerate(inhibits.names(one)))
    sections = [
        (f"New in {one.series}", new),
        (f"Taken from later series, by {one.release} at the latest", taken),
        ("Older series have it, too", older),
        (f"What {one.release} lacks yet", lacked(one)),
    ]
    return _text(one.release, f"APICv's inhibits, by bit: {bits}.", sections)


def _two_json(a: Kernel, b: Kernel) -> dict[str, Any]:
    rows = [_row(change) | {"in": b.release} for change in gained(a, b)]
    rows += [_row(change) | {"in": a.release} for change in gained(b, a)]
    return {"from": a.release, "to": b.release, "changes": rows, "inhibits": _moved(a, b)}


def _two_text(a: Kernel, b: Kernel) -> str:
    if a.release == b.release:
        return f"{a.release} is one release: no difference."
    bits = "; ".join(
        f"{name} {'none' if was is None else was} -> {'none' if now is None else now}"
        for name, (was, now) in _moved(a, b).items()
    )
    sections = [
        (f"{b.release} has, {a.release} has not", gained(a, b)),
        (f"{a.release} has, {b.release} has not", gained(b, a)),
    ]
    return _text(f"From {a.release} to {b.release}", f"APICv's inhibits, by bit: {bits or 'the same'}.", sections)


def _parts(one: Kernel) -> tuple[tuple[Change, ...], tuple[Change, ...], tuple[Change, ...]]:
    """What a release has: what came with its series, what its stable releases took, what older series have, too."""
    has = held(one)
    new = tuple(c for c in has if c.since == one.series)
    taken = tuple(c for c in has if one.series in dict(c.stable))
    return new, taken, tuple(c for c in has if c not in new and c not in taken)


def _moved(a: Kernel, b: Kernel) -> dict[str, list[int | None]]:
    """The inhibits whose bit is another: [in a, in b], by id."""
    was, now = ({reason.id: reason.bit for reason in inhibits.reasons(one)} for one in (a, b))
    return {key: [was.get(key), now.get(key)] for key in {**was, **now} if was.get(key) != now.get(key)}


def _row(change: Change) -> dict[str, Any]:
    return {
        "id": change.id,
        "since": change.since,
        "mainline": change.mainline and dict([change.mainline]),
        "stable": dict(change.stable),
        "commit": change.commit,
        "summary": change.summary,
        "how": change.how,
        "source": change.source,
        "area": change.area,
    }


def _text(title: str, bits: str, sections: Iterable[Section]) -> str:
    blocks = ["\n".join([title, *_wrapped(bits)])]
    for name, rows in sections:
        blocks.append(f"== {name}: {len(rows)}" if rows else f"== {name}: nothing that is known")
        blocks += map(_block, rows)
    return "\n\n".join(blocks)


def _block(change: Change) -> str:
    stable = "".join(f"; {line} since {point}" for line, point in change.stable)
    commit = f"; commit {change.commit}" if change.commit else ""
    mainline = f" (mainline {', '.join(change.mainline)})" if change.mainline else ""
    lines = [
        change.summary,
        f"Since {change.since}{mainline}{stable}{commit}.",
        f"How known: {HOW[change.how]}: {change.source}.",
    ]
    return "\n".join([f"{change.id} ({change.area})", *(out for line in lines for out in _wrapped(line))])


def _wrapped(text: str) -> list[str]:
    indent = "    "
    return textwrap.wrap(
        text, WIDTH, initial_indent=indent, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )
