"""Where the text comes from: a file, a recording's folder or standard input; and which kernel it was made on."""

import re
import sys
from pathlib import Path

from kvmmodel.explain.parse import find


class ExplainError(Exception):
    """The input can't be explained; the message is one line for the user."""


_RELEASES = (
    re.compile(r"^Linux (?:version )?(?:\S+ )?(\d+\.\d+\.\d+)\S*", re.MULTILINE),  # uname -a, dmesg
    re.compile(r"\bLinux version (\d+\.\d+\.\d+)"),
    re.compile(r"(?:Not tainted|Tainted: [A-Z ]+) (\d+\.\d+\.\d+)\S* #"),  # the head of an oops
    re.compile(r"^\s*(?:kernel:?\s+|\S*[$#] uname -r\s+)?(\d+\.\d+\.\d+)[-+]\S+\s*$", re.MULTILINE),  # uname -r
    re.compile(r"^# os ?release : (\d+\.\d+\.\d+)", re.MULTILINE),  # perf's header
)
# Debian up to 12 calls every kernel of a series X.Y.0-ABI; further along the line it says what it is: Debian 6.1.176-1.
_DEBIAN = re.compile(r"\b(\d+\.\d+)\.0-\d[\w.+-]*(?= .*\bDebian (\1\.\d+)-)")


def kernel_of(text: str) -> str | None:
    """The release that the text names, as X.Y.Z. None if it names none, or more than one."""
    exact = {f"{series}.0": release for series, release in _DEBIAN.findall(text)}
    named = {exact.get(match, match) for pattern in _RELEASES for match in pattern.findall(text)}
    return named.pop() if len(named) == 1 else None


def read(path: str | Path | None) -> tuple[str, str | None]:
    """Read a file, a recording's folder, or standard input (None or "-"). Returns the text and its kernel, if known."""
    if path is None or str(path) == "-":
        text = _decode(sys.stdin.buffer.read(), "standard input")
        return text, kernel_of(text)
    path = Path(path)
    try:
        if path.is_dir():
            return _folder(path)
        text = _decode(path.read_bytes(), str(path))
    except OSError as error:
        raise ExplainError(f"{path}: {error.strerror or error}") from None
    return text, kernel_of(text)


def _folder(path: Path) -> tuple[str, str | None]:
    """A recording: those of its files that contain stacks or graphs. Its 00-system.txt has the release."""
    texts = [_decode(file.read_bytes(), str(file)) for file in sorted(path.glob("*.txt"))]
    parts = [text for text in texts if find(text)]
    system = path / "00-system.txt"
    kernel = kernel_of(system.read_text(encoding="utf-8", errors="replace")) if system.is_file() else None
    if not parts:
        raise ExplainError(f"{path}: no file in this folder has a call stack or function graph")
    return "\n".join(parts), kernel


def is_text(text: str) -> bool:
    """Whether this can be a text at all, or bytes that were read as one."""
    return "\0" not in text and text.count("\ufffd") <= len(text) // 10


def _decode(data: bytes, name: str) -> str:
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return data.decode("utf-16", errors="replace")
    text = data.decode("utf-8-sig", errors="replace")
    if not is_text(text):
        raise ExplainError(f"{name}: not a text; expected call stacks or function graphs as text")
    return text
