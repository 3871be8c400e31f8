"""``with Output():`` without a kernel. ipywidgets leaves the capture to the front end, which sees no streams here."""

from typing import Any

from kvmlive import sinks
from kvmlive.shell import show_error


def of_widget(widget: Any) -> sinks.Sink:
    """Honours ``append_stdout()`` and ``out.outputs = ()``, which go past the sink."""
    return sinks.Sink(lambda outputs: setattr(widget, "outputs", tuple(outputs)), lambda: list(widget.outputs))


def _enter(self: Any) -> Any:
    if not hasattr(self, "_kvmlive_sink"):
        self._kvmlive_sink = of_widget(self)
    sinks.push(self._kvmlive_sink)
    return self


def _leave(self: Any, kind: Any, error: BaseException | None, tb: Any) -> bool:
    if error is not None:
        show_error(error)
    sinks.remove(self._kvmlive_sink)
    return True  # shown is handled, as in IPython


def install_output_widget() -> None:
    from ipywidgets import Output

    Output.__enter__, Output.__exit__ = _enter, _leave
