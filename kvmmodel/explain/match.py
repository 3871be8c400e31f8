"""Compare recorded stacks with the stacks that the model emitted when it ran.

A recorded stack is matched if its KVM frames, in order, are a subsequence of one emitted stack. Frames outside KVM
decide nothing: those that the emitted stack lacks are listed. A cut outer end does no harm, as a subsequence may end
early.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from kvmmodel.explain.normalise import Part
from kvmmodel.explain.runs import Emitted

#: Emitted stacks by kernel release, each a tuple of names, innermost first, spelled as that release spells them.
Corpus = Mapping[str, frozenset[tuple[str, ...]]]

MATCHED, KNOWN, UNKNOWN = "matched", "known", "unknown"


@dataclass(frozen=True, slots=True)
class Match:
    """How a stack compares with those that the model emitted."""

    verdict: str  # matched; known: all of KVM's frames are, but no emitted stack fits; unknown: one of them isn't
    kernels: tuple[str, ...] = ()  # the releases in which an emitted stack fits
    unknown: tuple[str, ...] = ()  # KVM's frames that nobody knows
    outside: tuple[str, ...] = ()  # frames outside KVM that the emitted stack lacks
    by: str = ""  # of these releases the one whose stack fits best
    stack: Emitted | None = None  # that stack, where the corpus knows its run


@dataclass(frozen=True, slots=True)
class Index:
    """The corpus of some kernels, by function, so that a look-up sees only stacks that have the rarest frame."""

    stacks: Mapping[str, tuple[tuple[str, ...], ...]]
    having: Mapping[str, Mapping[str, tuple[int, ...]]]
    cache: dict[tuple[Part, ...], Match] = field(default_factory=dict)


def kernels_for(kernel: str | None, names: Iterable[str]) -> list[str]:
    """The releases to compare with: the recording's, else its series; all if it isn't known or its series never ran."""
    ordered = sorted(names, key=_release)
    if kernel is None:
        return ordered
    if kernel in ordered:
        return [kernel]
    series = _release(kernel)[:2]
    return [name for name in ordered if _release(name)[:2] == series] or ordered


def _release(name: str) -> tuple[int, ...]:
    return tuple(int(part) if part.isdigit() else -1 for part in name.split("."))


def index(corpus: Corpus, kernel: str | None = None) -> Index:
    stacks: dict[str, tuple[tuple[str, ...], ...]] = {}
    having: dict[str, dict[str, tuple[int, ...]]] = {}
    for name in kernels_for(kernel, corpus):
        stacks[name] = tuple(sorted(corpus[name]))
        lists: dict[str, list[int]] = {}
        for number, stack in enumerate(stacks[name]):
            for function in set(stack):
                lists.setdefault(function, []).append(number)
        having[name] = {function: tuple(numbers) for function, numbers in lists.items()}
    return Index(stacks, having)


def is_subsequence(short: Sequence[str], long: Sequence[str]) -> bool:
    rest = iter(long)
    return all(name in rest for name in short)


def match(parts: tuple[Part, ...], where: Index) -> Match:
    """Sort one normalised stack into matched, known or unknown. A stack without any KVM frame is never matched."""
    if parts not in where.cache:
        where.cache[parts] = _match(parts, where)
    return where.cache[parts]


def _match(parts: tuple[Part, ...], where: Index) -> Match:
    kvm = [part.name for part in parts if part.kvm]
    outside = [part.name for part in parts if not part.kvm]
    best: tuple[str, ...] = ()
    score = -1
    kernels: list[str] = []
    for kernel in where.stacks if kvm else ():
        fits = _fitting(kvm, where, kernel)
        if fits:
            kernels.append(kernel)
        for stack in fits:
            common = len(set(outside).intersection(stack))
            if common > score:
                best, score = stack, common
    if kernels:
        return Match(MATCHED, tuple(kernels), (), tuple(name for name in outside if name not in best))
    return unmatched(parts)


def unmatched(parts: tuple[Part, ...]) -> Match:
    """Nothing fits: known or unknown."""
    unknown = tuple(part.name for part in parts if part.kvm and not part.known)
    outside = tuple(part.name for part in parts if not part.kvm)
    nothing = len(outside) == len(parts) and bool(parts)  # of KVM; the innermost frame is what was asked about
    return Match(UNKNOWN if unknown or (nothing and not parts[0].known) else KNOWN, (), unknown, outside)


def _fitting(kvm: Sequence[str], where: Index, kernel: str) -> list[tuple[str, ...]]:
    """The emitted stacks of one kernel in which these frames appear in this order."""
    lists = [where.having[kernel].get(name, ()) for name in kvm]
    return [stack for n in min(lists, key=len) if is_subsequence(kvm, stack := where.stacks[kernel][n])]
