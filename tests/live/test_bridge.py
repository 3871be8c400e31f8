"""The Python side of a live page, run here under CPython: cells, outputs, errors, display ids."""

import asyncio
import json
import sys
from contextlib import redirect_stderr, redirect_stdout

import pytest

from kvmlive import channel, display, shell, sinks


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[dict]:
    """All messages to the page, with a fresh ``__main__`` as in the browser."""
    messages: list[dict] = []
    monkeypatch.setattr(channel, "_send", lambda text, buffers: messages.append(json.loads(text)))
    monkeypatch.setitem(sys.modules, "__main__", sys.modules["__main__"])
    shell.reset()
    return messages


def run(source: str, cell: int = 1) -> bool:
    with redirect_stdout(sinks.Stream("stdout")), redirect_stderr(sinks.Stream("stderr")):
        return asyncio.run(shell.run_cell("7", cell, source))


def outputs(sent: list[dict]) -> list[dict]:
    return [message for message in sent if message["type"] == "outputs"][-1]["outputs"]


def test_the_last_expression_is_shown_and_the_run_is_answered(sent: list[dict]) -> None:
    assert run("x = 20\nx + 1")
    assert outputs(sent)[0]["data"] == {"text/plain": "21"}
    assert sent[-1] == {"type": "done", "msg_id": "7", "ok": True}


def test_cells_share_their_names_and_a_semicolon_keeps_silent(sent: list[dict]) -> None:
    run("x = 20")
    run("x;", cell=2)
    assert outputs(sent) == []
    run("x", cell=3)
    assert outputs(sent)[0]["data"]["text/plain"] == "20"


def test_prints_are_joined_by_stream(sent: list[dict]) -> None:
    run("import sys\nprint('a')\nprint('b')\nprint('c', file=sys.stderr)")
    assert [(o["name"], o["text"]) for o in outputs(sent)] == [("stdout", "a\nb\n"), ("stderr", "c\n")]


def test_endless_output_is_cut(sent: list[dict]) -> None:
    run("for i in range(3): print('x' * 150_000)")
    text = outputs(sent)[0]["text"]
    assert len(text) < sinks.MOST_TEXT + 1000
    assert text.startswith("[earlier output dropped]")


def test_an_error_shows_the_cells_lines_and_not_the_bridge(sent: list[dict]) -> None:
    assert not run("def f():\n    return {}['vector']\nf()")
    error = outputs(sent)[0]
    assert error["ename"] == "KeyError"
    assert "return {}['vector']" in error["traceback"][0]
    assert "shell.py" not in error["traceback"][0]
    assert sent[-1]["ok"] is False


def test_a_syntax_error_and_an_exit_are_shown_too(sent: list[dict]) -> None:
    run("x = = 1")
    assert outputs(sent)[0]["ename"] == "SyntaxError"
    run("raise SystemExit(3)")
    assert outputs(sent)[0]["ename"] == "SystemExit"


def test_await_works_at_the_top(sent: list[dict]) -> None:
    run("import asyncio\nawait asyncio.sleep(0, 'done')")
    assert outputs(sent)[0]["data"]["text/plain"] == "'done'"


def test_a_display_can_be_updated(sent: list[dict]) -> None:
    run("handle = display('one', display_id=True)\nhandle.update('two')")
    assert [o["data"]["text/plain"] for o in outputs(sent)] == ["'two'"]


def test_rich_objects_offer_their_own_types() -> None:
    class Rich:
        def _repr_html_(self) -> str:
            return "<b>x</b>"

    bundle = display.mimebundle(Rich())
    assert bundle["text/html"] == "<b>x</b>"
    assert "Rich" in bundle["text/plain"]
    assert set(display.mimebundle(Rich)) == {"text/plain"}  # the class itself is no picture
