"""What a text can contain, as plain data: stacks, function graphs, and the lines they come from."""

import re
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Frame:
    """One line of a stack. ``name`` is as written, suffixes included; a bare address is a name too."""

    name: str
    offset: int | None = None
    module: str | None = None
    raw: str = ""


@dataclass(frozen=True, slots=True)
class Stack:
    """A stack in a text, and where it is."""

    frames: tuple[Frame, ...]  # innermost first
    count: int
    line: int  # 1-based, where the block begins
    format: str
    key: str = ""  # what else the block was keyed by: a map's name, a command, a histogram's other keys
    cut: bool = False  # the block's beginning or end is missing


@dataclass(frozen=True, slots=True)
class Call:
    """One call of a function graph. Duration in us, None where the recording has none."""

    name: str
    module: str | None
    duration_us: float | None
    children: tuple["Call", ...] = ()


@dataclass(frozen=True, slots=True)
class Graph:
    """The calls that one CPU (or one task, where the recording names tasks) made in one block of lines."""

    roots: tuple[Call, ...]
    line: int
    cpu: int | None
    task: str | None = None
    cut: bool = False


# dmesg and journal prefixes: "Nov 22 10:00:00 host kernel: [  123.456789][ T1234] "
_LOG_PREFIX = re.compile(
    r"^(?:[A-Z][a-z]{2} +\d+ \d\d:\d\d:\d\d \S+ kernel: )?(?:<\d+>)?(?:\[ *\d+\.\d+\](?:\[ *[A-Z]?\d+\])? ?)?"
)
_QUOTE = re.compile(r"^(?:> ?)+")


def lines_of(text: str) -> list[str]:
    """Split into lines, with mail quotes and log prefixes taken off. Line n of the text stays item n - 1."""
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    return [_LOG_PREFIX.sub("", _QUOTE.sub("", line), count=1) for line in lines]


_FRAME = re.compile(
    r"""^\s*
    (?P<proc>\[<(?:0x)?[0-9a-f]*>\]\s*)?              # /proc/PID/stack and old oopses
    (?P<doubt>\?\s+)?                                 # the unwinder isn't sure
    (?:(?P<address>(?:0x)?[0-9a-f]{6,16})\s+(?=\S))?  # perf, and bpftrace's stack mode "perf"
    (?P<name>[A-Za-z_][\w.$]*|0x[0-9a-f]+|[0-9a-f]{16}|\[unknown\])
    (?:\+(?P<offset>0x[0-9a-f]+|[0-9]+)(?:/(?:0x)?[0-9a-f]+)?)?
    (?:\s+\[(?P<module>[\w-]+)(?:\s[0-9a-f]+)?\])?    # [kvm], or with the module's build ID
    (?:\s+\((?P<dso>[^()]*)\))?
    \s*$""",
    re.VERBOSE | re.ASCII,
)
_KO = re.compile(r"([^/]+)\.ko(?:\.\w+)?$")


@dataclass(frozen=True, slots=True)
class FrameLine:
    """A line that reads like a frame, with what is needed to decide which kind of block it belongs to."""

    frame: Frame
    proc: bool
    doubt: bool
    address: bool
    dso: str | None

    @property
    def firm(self) -> bool:
        """Has it an offset or is it an address? A lone word may as well be prose."""
        return self.frame.offset is not None or self.frame.name[0] in "0[" or self.frame.name[0].isdigit()


def frame_line(line: str) -> FrameLine | None:
    if len(line) > 500:  # no frame is that long, and a pattern should not have to find that out slowly
        return None
    match = _FRAME.match(line)
    if match is None:
        return None
    dso = match["dso"]
    module = match["module"]
    if module is None and dso is not None:
        module = _module_of(dso)
    offset = None if match["offset"] is None else int(match["offset"], 0 if match["offset"].startswith("0x") else 10)
    frame = Frame(match["name"], offset, module, line.strip())
    return FrameLine(frame, match["proc"] is not None, match["doubt"] is not None, match["address"] is not None, dso)


def _module_of(dso: str) -> str | None:
    """The kernel module that perf's name of a binary means: "[kvm]" or "/lib/modules/…/kvm-amd.ko.xz"."""
    if match := _KO.search(dso):
        return match[1].replace("-", "_")
    if dso.startswith("[") and not dso.startswith(("[kernel", "[guest", "[unknown", "[vdso")):
        return dso.strip("[]").replace("-", "_")
    return None
