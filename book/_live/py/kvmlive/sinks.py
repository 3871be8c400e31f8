"""Where outputs go: a cell's list of outputs, or an Output widget's. The innermost sink gets them."""

import sys
import time
from collections.abc import Callable
from typing import Any

from kvmlive import channel

MOST_TEXT = 200_000  # characters of one stream that are kept, so that a loop that prints cannot fill the page
PUBLISH_EVERY = 0.25  # seconds between two looks at a cell that prints while it runs


class Sink:
    """A list of outputs in nbformat's form. ``show`` puts it where it is seen; ``shown`` reads back what is there, if
    others may have changed it."""

    def __init__(self, show: Callable[[list[dict]], None], shown: Callable[[], list[dict]] | None = None) -> None:
        self.show, self.shown = show, shown
        self.outputs: list[dict] = []
        self.clear_on_next = False
        self.changed = False

    def emit(self, output: dict) -> None:
        self._read_back()
        if self.clear_on_next:
            self.outputs, self.clear_on_next = [], False
        last = self.outputs[-1] if self.outputs else {}
        if output["output_type"] == "stream" and last.get("name") == output["name"]:
            self.outputs[-1] = {**last, "text": _shortened(last["text"] + output["text"])}
        else:
            self.outputs.append(output)
        self.touch()

    def clear(self, wait: bool = False) -> None:
        self._read_back()
        self.clear_on_next = wait
        if not wait:
            self.outputs = []
            self.touch()

    def touch(self) -> None:
        self.changed = True
        _changed[id(self)] = self

    def _read_back(self) -> None:
        if self.shown is not None and not self.changed:
            self.outputs = self.shown()


def of_cell(cell: int) -> Sink:
    return Sink(lambda outputs: channel.post({"type": "outputs", "cell": cell, "outputs": outputs}))


_changed: dict[int, Sink] = {}
_stack: list[Sink] = []
_nowhere = of_cell(-1)  # what a widget's callback prints belongs to no cell; the page logs its errors


def push(sink: Sink) -> None:
    _stack.append(sink)


def remove(sink: Sink) -> None:
    """Take out the innermost entry of ``sink``."""
    for i in range(len(_stack) - 1, -1, -1):
        if _stack[i] is sink:
            del _stack[i]
            return


def current() -> Sink:
    return _stack[-1] if _stack else _nowhere


def flush() -> None:
    global _published
    while _changed:
        _, sink = _changed.popitem()
        sink.changed = False
        sink.show(sink.outputs)
    _nowhere.outputs = []
    _published = time.monotonic()


_published = 0.0


class Stream:
    """``sys.stdout`` and ``sys.stderr``."""

    encoding, errors, closed = "utf-8", "strict", False

    def __init__(self, name: str) -> None:
        self.name = name

    def write(self, text: str) -> int:
        if text:
            current().emit({"output_type": "stream", "name": self.name, "text": str(text)})
            if time.monotonic() - _published > PUBLISH_EVERY:
                flush()
        return len(text)

    def writelines(self, lines: Any) -> None:
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        pass

    def isatty(self) -> bool:
        return False


def _shortened(text: str) -> str:
    return text if len(text) <= MOST_TEXT else "[earlier output dropped]\n" + text[-MOST_TEXT // 2 :]


def install_streams() -> None:
    sys.stdout, sys.stderr = Stream("stdout"), Stream("stderr")
