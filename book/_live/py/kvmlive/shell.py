"""Runs cells as IPython does: the last expression is shown, ``await`` works, tracebacks show the cell's own lines."""

import ast
import inspect
import linecache
import sys
import traceback
import types
from pathlib import PurePath
from typing import Any

from kvmlive import channel, sinks
from kvmlive.display import display, mimebundle

# As tracebacks have it: the compiled files of the browser do not name where they lie.
_OWN_FOLDER = str(PurePath((lambda: 0).__code__.co_filename).parent)


class _Events:
    def register(self, *_: Any) -> None:
        pass

    unregister = trigger = register


class _Formatter:
    def format(self, thing: Any, include: Any = None, exclude: Any = None) -> tuple[dict, dict]:
        return mimebundle(thing), {}


class Shell:
    """What ipywidgets asks of IPython's shell."""

    kernel = None
    events = _Events()
    display_formatter = _Formatter()
    user_ns: dict

    def showtraceback(self, exc_tuple: Any = None, **_: Any) -> None:
        show_error((exc_tuple or sys.exc_info())[1])


SHELL = Shell()


def get_ipython() -> Shell:
    return SHELL


def reset() -> None:
    """A fresh ``__main__`` for the page's cells."""
    main = types.ModuleType("__main__")
    main.__dict__.update(display=display, get_ipython=get_ipython)
    sys.modules["__main__"] = main
    SHELL.user_ns = main.__dict__


def show_error(error: BaseException) -> None:
    tb = error.__traceback__
    while tb is not None and tb.tb_frame.f_code.co_filename.startswith(_OWN_FOLDER):
        tb = tb.tb_next  # how the cell came to run is no news to the reader
    text = "".join(traceback.format_exception(type(error), error, tb))
    sinks.current().emit(
        {"output_type": "error", "ename": type(error).__name__, "evalue": str(error), "traceback": [text]}
    )


async def run_cell(msg_id: str, cell: int, source: str) -> bool:
    sink = sinks.of_cell(cell)
    sinks.push(sink)
    ok = True
    try:
        await _run(cell, source)
    except BaseException as error:  # SystemExit too: it must not end the page's Python
        ok = False
        show_error(error)
    finally:
        sinks.remove(sink)
        sink.touch()  # a run without outputs clears what the cell showed before
        sinks.flush()
        channel.post({"type": "done", "msg_id": msg_id, "ok": ok})
    return ok


async def _run(cell: int, source: str) -> None:
    name = f"<cell {cell}>"
    linecache.cache[name] = (len(source), None, source.splitlines(True), name)
    tree = ast.parse(source, name)
    last = None
    if tree.body and isinstance(tree.body[-1], ast.Expr) and not source.rstrip().endswith(";"):
        last = ast.Expression(tree.body.pop().value)
    await _evaluate(compile(tree, name, "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT))
    if last is None:
        return
    value = await _evaluate(compile(last, name, "eval", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT))
    if value is not None:
        SHELL.user_ns["_"] = value
        data = mimebundle(value)
        sinks.current().emit({"output_type": "execute_result", "data": data, "metadata": {}, "execution_count": None})


async def _evaluate(code: types.CodeType) -> Any:
    value = eval(code, SHELL.user_ns)
    return await value if code.co_flags & inspect.CO_COROUTINE else value
