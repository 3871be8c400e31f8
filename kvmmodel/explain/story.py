"""Say in two or three sentences what a stack is and why it happens, and what a whole text tells about its host.

All knowledge is in facts/paths.toml: rules on frames, none on whole stacks. A story has up to three parts: the cause
at the outer end, the way, the inner end. Of the rules that fit a part, the one that names most frames speaks.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any

from kvmmodel.facts import load
from kvmmodel.facts.functions import FUNCTIONS

PARTS = ("cause", "way", "end")


@dataclass(frozen=True, slots=True)
class Rule:
    """`frames` must appear in this order, innermost first, each as one of its names; `absent` must not appear."""

    frames: tuple[frozenset[str], ...]
    absent: frozenset[str]
    inner: bool  # the first of `frames` must be the stack's innermost frame
    part: str
    text: str
    topic: str


@dataclass(frozen=True, slots=True)
class FindingRule:
    rule: Rule
    claim: str
    nowhere: frozenset[str]  # must not appear in any stack of the text
    no_kernel: bool  # only worth saying if the text doesn't name its kernel


@dataclass(frozen=True, slots=True)
class Story:
    """What a path tells, in sentences; ``page`` is the book's page on it, as a path of the site."""

    sentences: tuple[str, ...]
    page: str
    weight: int  # how many frames its rules account for


@dataclass(frozen=True, slots=True)
class Paths:
    rules: Mapping[str, tuple[Rule, ...]]
    findings: tuple[FindingRule, ...]
    pages: Mapping[str, str]
    titles: Mapping[str, str]  # of the pages, with `code`


@cache
def paths() -> Paths:
    """paths.toml, its short names for groups of functions resolved."""
    data = load("paths")
    names: dict[str, list[str]] = data["names"]

    def functions(words: str) -> frozenset[str]:
        return frozenset(name for word in words.split("|") for name in names.get(word, [word]))

    def rule(row: Mapping[str, Any], part: str, text: str) -> Rule:
        absent = frozenset().union(*(functions(words) for words in row.get("absent", [])))
        frames = tuple(functions(words) for words in row["frames"])
        return Rule(frames, absent, row.get("inner", False), part, text, row.get("topic", ""))

    rules = {part: tuple(rule(row, part, row["text"]) for row in data[part]) for part in PARTS}
    findings = tuple(
        FindingRule(
            rule(row, "finding", row["because"]),
            row["claim"],
            frozenset().union(*(functions(words) for words in row.get("nowhere", []))),
            row.get("no_kernel", False),
        )
        for row in data["finding"]
    )
    return Paths(rules, findings, data["pages"], data["titles"])


def fits(rule: Rule, frames: Sequence[str]) -> bool:
    if rule.inner and not (frames and frames[0] in rule.frames[0]):
        return False
    if rule.absent and not rule.absent.isdisjoint(frames):
        return False
    rest = iter(frames)
    return all(any(name in wanted for name in rest) for wanted in rule.frames)


def _rank(rule: Rule, frames: Sequence[str]) -> tuple[int, int]:
    """How much a rule says of a stack: the frames it names; at the inner end also how far in the first of them is."""
    first = next((n for n, name in enumerate(frames) if name in rule.frames[0]), 0)
    return len(rule.frames), -first if rule.part == "end" else 0


@lru_cache(maxsize=4096)
def tell(frames: tuple[str, ...]) -> Story:
    """The story of one normalised stack, innermost frame first."""
    known = paths()
    if not frames:
        return Story(
            ("The block holds no frame: it was cut off, or the tool could not walk the stack.",),
            known.pages["default"],
            0,
        )
    chosen: dict[str, Rule] = {}
    for part in PARTS:
        fitting = [rule for rule in known.rules[part] if fits(rule, frames)]
        if fitting:
            chosen[part] = max(fitting, key=lambda rule: _rank(rule, frames))  # the first of equals
    sentences = {part: rule.text for part, rule in chosen.items()}
    if "cause" not in sentences:
        sentences["cause"] = _plainly("It begins", reversed(frames))
    if "end" not in sentences or ("way" not in sentences and "cause" not in chosen):
        sentences.setdefault("end", _plainly("It ends", frames))
    topic = next((chosen[part].topic for part in PARTS if part in chosen and chosen[part].topic), "")
    page = known.pages.get(topic, known.pages["default"])
    told = tuple(dict.fromkeys(sentences[part] for part in PARTS if sentences.get(part)))
    return Story(told, page, sum(len(rule.frames) for rule in chosen.values()))


def _plainly(lead: str, frames: Iterable[str]) -> str:
    """What one frame does, in the words of the facts: KVM's own if there is one, else the first that is known."""
    listed = [name for name in frames if name in FUNCTIONS]
    name = next((name for name in listed if FUNCTIONS[name].is_kvm), listed[0] if listed else None)
    return f"{lead} in {name}: {FUNCTIONS[name].does}" if name else f"{lead} in functions outside what this tool knows."


@dataclass(frozen=True, slots=True)
class Finding:
    """What the whole text tells: a claim, and why."""

    claim: str
    because: str


@dataclass(frozen=True, slots=True)
class Seen:
    """A distinct stack or path of a function graph, with how often and where it is in the text."""

    frames: tuple[str, ...]
    count: int
    lines: tuple[int, ...]


def findings(seen: Sequence[Seen], kernel: str | None) -> list[Finding]:
    """What the whole text tells, each claim with its reason and its place."""
    everywhere = frozenset().union(*(one.frames for one in seen))
    told: list[Finding] = []
    for finding in paths().findings:
        if (finding.no_kernel and kernel is not None) or not finding.nowhere.isdisjoint(everywhere):
            continue
        hits = [one for one in seen if fits(finding.rule, one.frames)]
        if hits:
            lines = sorted({line for one in hits for line in one.lines})
            shown = ", ".join(map(str, lines[:6])) + (" …" if len(lines) > 6 else "")
            place = f"line{'s' if len(lines) > 1 else ''} {shown}; {sum(one.count for one in hits)} in all"
            told.append(Finding(finding.claim, f"{finding.rule.text} ({place})"))
    return told
