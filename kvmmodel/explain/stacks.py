"""Readers of stacks. Each looks at a line and says whether its kind of block begins there, and where it ends.

A reader gets all lines and an index. It returns None if nothing of its kind begins there, else the stack and the index
of the first line after it. A block that breaks off is returned with what it had, marked as cut, never dropped.
"""

import re
from collections.abc import Callable, Sequence

from kvmmodel.explain.text import Frame, Stack, frame_line

Lines = Sequence[str]
Found = tuple[Stack, int] | None
Reader = Callable[[Lines, int], Found]

# Where a kernel stack begins at its outer end.
OUTER = re.compile(
    r"^(entry_|asm_|ret_from_fork|secondary_startup_64|common_startup_64|x86_64_start_|start_kernel$|kthread$|__x64_sys_)"
)


def _frames(lines: Lines, at: int) -> tuple[list[Frame], int]:
    """Read frames from `at` on. If the first has an offset, each must be as firm, else prose could join a cut block."""
    frames: list[Frame] = []
    firm: bool | None = None
    index = at
    while index < len(lines):
        line = lines[index]
        if not line.strip():
            # Pasted text may have empty lines between frames; two in a row, or one before something else, end it.
            after = frame_line(lines[index + 1]) if index + 1 < len(lines) and frames and firm else None
            if after is None or not after.firm:
                break
            index += 1
            continue
        found = frame_line(line)
        if found is None or found.doubt:
            break
        if firm is None:
            firm = found.firm
        elif firm and not found.firm:
            break
        frames.append(found.frame)
        index += 1
    return frames, index


_MAP_OPEN = re.compile(r"^\s*(@\w*)\[(?P<keys>[^\[\]]*)$")
_MAP_CLOSE = re.compile(r"^(?P<keys>(?:[^\]]|\](?!:))*)\]:(?P<value>.*)$")
_BUCKET = re.compile(r"^\s*(?:\[[^\]]*[\])]|\(\.\.\., ?-?\d+\))\s+(\d+)\s*\|")


def bpftrace_map(lines: Lines, at: int) -> Found:
    """`@name[` or `@[comm, ` … frames … `]: 12`. The value may also be statistics, or a histogram on the next lines."""
    opened = _MAP_OPEN.match(lines[at])
    if opened is None:
        return None
    keys = [opened[1][1:], opened["keys"].strip(" ,\t")]
    frames: list[Frame] = []
    index = at + 1
    while True:
        more, index = _frames(lines, index)
        if not frames:
            frames = more  # a second stack in the same key is the user's
        if index >= len(lines):
            break
        line = lines[index]
        if closed := _MAP_CLOSE.match(line):
            keys.append(closed["keys"].strip(" ,\t"))
            count, index = _map_value(lines, index + 1, closed["value"])
            return Stack(tuple(frames), count, at + 1, "bpftrace map", _key(keys), cut=not frames), index
        if line.lstrip().startswith(","):
            keys.append(line.strip(" ,\t"))
            index += 1
            continue
        if not line.strip() and index + 1 < len(lines) and _MAP_CLOSE.match(lines[index + 1]):
            index += 1
            continue
        break
    if not frames:
        return None
    return Stack(tuple(frames), 1, at + 1, "bpftrace map", _key(keys), cut=True), index


def _map_value(lines: Lines, index: int, value: str) -> tuple[int, int]:
    if number := re.match(r"\s*(?:count )?(\d+)", value):
        return int(number[1]), index
    total = 0
    while index < len(lines) and (bucket := _BUCKET.match(lines[index])):
        total += int(bucket[1])
        index += 1
    return max(total, 1), index


def _key(keys: Sequence[str]) -> str:
    return ", ".join(key for key in keys if key)


_HIST_OPEN = re.compile(r"^\s*\{\s*(?P<keys>.*?)\s*(?:\w+\.)?(?:common_)?stacktrace:\s*$")
_HIST_CLOSE = re.compile(r"^(?P<keys>[^}]*)\}(?:.*?hitcount[^:]*:\s*(?P<count>\d+))?")


def tracefs_hist(lines: Lines, at: int) -> Found:
    """`{ common_stacktrace:` … frames … `} hitcount: 12`; older kernels say `stacktrace`, and other keys may follow."""
    opened = _HIST_OPEN.match(lines[at])
    if opened is None:
        return None
    frames, index = _frames(lines, at + 1)
    keys = [opened["keys"].strip(" ,")]
    closed = _HIST_CLOSE.match(lines[index]) if index < len(lines) else None
    if closed is None:
        return Stack(tuple(frames), 1, at + 1, "tracefs hist", _key(keys), cut=True), index
    keys.append(closed["keys"].strip(" ,\t"))
    count = int(closed["count"]) if closed["count"] else 1
    return Stack(tuple(frames), count, at + 1, "tracefs hist", _key(keys), cut=closed["count"] is None), index + 1


_STACK_TRACE = re.compile(r"<stack trace ?>\s*$")
_ARROW = re.compile(
    r"^\s*=> (?P<name>[A-Za-z_][\w.$]*|0x[0-9a-f]+|[0-9a-f]{16})(?:\+(?P<offset>0x[0-9a-f]+)(?:/0x[0-9a-f]+)?)?"
    r"(?: \[(?P<module>\w+)\])?(?: [(<][0-9a-fx]+[)>])?\s*$",
    re.ASCII,
)


def ftrace(lines: Lines, at: int) -> Found:
    """`<stack trace>`, then ` => func` lines. Such lines without the head are the rest of a stack that was cut."""
    head = bool(_STACK_TRACE.search(lines[at]))
    if not head and not (_ARROW.match(lines[at]) and at + 1 < len(lines) and _ARROW.match(lines[at + 1])):
        return None
    frames: list[Frame] = []
    index = at + 1 if head else at
    while index < len(lines) and (match := _ARROW.match(lines[index])):
        offset = int(match["offset"], 16) if match["offset"] else None
        frames.append(Frame(match["name"], offset, match["module"], lines[index].strip()))
        index += 1
    return Stack(tuple(frames), 1, at + 1, "ftrace", cut=not head or not frames), index


_CALL_TRACE = re.compile(r"\bCall Trace:\s*$")
_RIP = re.compile(r"^\s*RIP: (?:[0-9a-f]+:)?(.+?)\s*$")
_TRACE_MARK = re.compile(r"^\s*</?(?:TASK|IRQ|NMI|SOFTIRQ|#?D[BF]|EOI|ENTRY\w*)>\s*$")


def call_trace(lines: Lines, at: int) -> Found:
    """A kernel warning or oops. Frames with a question mark are leftovers on the stack, not callers: dropped."""
    if not _CALL_TRACE.search(lines[at]):
        return None
    frames: list[Frame] = []
    for back in range(at - 1, max(at - 40, -1), -1):  # the innermost frame is where RIP points
        if _CALL_TRACE.search(lines[back]):
            break
        if (rip := _RIP.match(lines[back])) and (found := frame_line(rip[1])) and found.frame.offset is not None:
            frames.append(found.frame)
            break
    index = at + 1
    any_line = False
    while index < len(lines):
        if not _TRACE_MARK.match(lines[index]):
            found = frame_line(lines[index])
            if found is None or not (found.firm or found.doubt):
                break
            any_line = True
            if not found.doubt:
                frames.append(found.frame)
        index += 1
    return Stack(tuple(frames), 1, at + 1, "call trace", cut=not any_line), index


def perf_script(lines: Lines, at: int) -> Found:
    """`ffffffff81012345 func+0x1a ([kernel.kallsyms])` lines under a sample's head. User frames are left out."""
    frames: list[Frame] = []
    index = at
    while index < len(lines) and (found := frame_line(lines[index])) and found.address and found.dso is not None:
        user = found.dso.startswith(("/", "[vdso", "[unknown", "[heap", "[stack", "anon")) and not found.frame.module
        if not user and found.frame.name != "[unknown]":
            frames.append(found.frame)
        index += 1
    if index == at or not frames:
        return None
    head = lines[at - 1].split() if at and not lines[at - 1][:1].isspace() else []
    return Stack(tuple(frames), 1, at + 1, "perf script", head[0] if head else ""), index


def proc_stack(lines: Lines, at: int) -> Found:
    """`[<0>] func+0x1a/0x80 [kvm]`, as in /proc/PID/stack."""
    frames: list[Frame] = []
    index = at
    while index < len(lines) and (found := frame_line(lines[index])) and found.proc:
        frames.append(found.frame)
        index += 1
    return (Stack(tuple(frames), 1, at + 1, "proc stack"), index) if frames else None


_NUMBERED = re.compile(
    r"^\s*#(?P<n>\d+)\s+(?:\[[0-9a-f]+\]\s+|0x[0-9a-f]+ in\s+)?(?P<name>[A-Za-z_][\w.$]*)"
    r"(?:\+(?P<offset>0x[0-9a-f]+)(?:/0x[0-9a-f]+)?)?(?:\s*\(.*\).*|\s+at\s.*|\s+\[\w+\])?\s*$",
    re.ASCII,
)


def debugger(lines: Lines, at: int) -> Found:
    """`#0  func (file.c:12:3)`, numbered from 0: drgn, crash, gdb."""
    frames: list[Frame] = []
    index = at
    while index < len(lines) and (match := _NUMBERED.match(lines[index])) and int(match["n"]) == len(frames):
        offset = int(match["offset"], 16) if match["offset"] else None
        frames.append(Frame(match["name"], offset, None, lines[index].strip()))
        index += 1
    return (Stack(tuple(frames), 1, at + 1, "debugger"), index) if len(frames) > 1 else None


_FOLDED = re.compile(r"^\s*(?P<frames>[^;\s][^;]*(?:;[^;]+)+) (?P<count>\d+)\s*$")
_FOLDED_FRAME = re.compile(
    r"^(?P<name>[A-Za-z_][\w.$]*?|0x[0-9a-f]+)(?:\+(?P<offset>0x[0-9a-f]+)(?:/0x[0-9a-f]+)?)?"
    r"(?:`?(?:_?\[(?P<module>\w+)\]))?$",
    re.ASCII,
)


def folded(lines: Lines, at: int) -> Found:
    """`comm;outermost;…;innermost 12`: the input of flame graphs, as offcputime -f and stackcollapse-*.pl print it."""
    if ";" not in lines[at] or (match := _FOLDED.match(lines[at])) is None:
        return None
    parts = match["frames"].split(";")
    outer = next((i for i, part in enumerate(parts) if OUTER.match(part)), None)
    if outer is None:  # no outer end to go by: what can't be a function is the command, or divides user from kernel
        odd = [i for i, part in enumerate(parts) if not _FOLDED_FRAME.match(part)]
        outer = odd[-1] + 1 if odd and all(i < 2 or parts[i] in ("-", "--") for i in odd) else 0 if not odd else None
    if outer is None:
        return None
    frames: list[Frame] = []
    for part in reversed(parts[outer:]):
        one = _FOLDED_FRAME.match(part)
        if one is None:
            return None
        module = one["module"] if one["module"] != "k" else None  # "_[k]" only says: a kernel frame
        frames.append(Frame(one["name"], int(one["offset"], 16) if one["offset"] else None, module, part))
    if len(frames) < 2:
        return None
    return Stack(tuple(frames), int(match["count"]), at + 1, "folded", parts[0] if outer else ""), at + 1


def bare(lines: Lines, at: int) -> Found:
    """At least two lines of `func+123` in a row: bpftrace's print(kstack), or a paste without its head."""
    first = frame_line(lines[at])
    if first is None or not first.firm or first.doubt or first.frame.offset is None:
        return None
    frames, index = _frames(lines, at)
    return (Stack(tuple(frames), 1, at + 1, "bare"), index) if len(frames) > 1 else None


# The most telling first: what `bare` takes is what nobody else wanted.
READERS: tuple[Reader, ...] = (
    bpftrace_map,
    tracefs_hist,
    ftrace,
    call_trace,
    perf_script,
    proc_stack,
    debugger,
    folded,
    bare,
)
