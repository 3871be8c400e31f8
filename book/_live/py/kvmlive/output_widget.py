"""``with Output():`` without a kernel. ipywidgets leaves the capture to the front end, which sees no streams here."""

from typing import Any

from kvmlive import sinks
from kvmlive.shell import show_error


class WidgetSink(sinks.Sink):
    def __init__(self, widget: Any) -> None:
        super().__init__()
        self.widget = widget

    def emit(self, output: dict) -> None:
        self._pull()
        super().emit(output)

    def clear(self, wait: bool = False) -> None:
        self._pull()
        super().clear(wait)

    def _pull(self) -> None:
        """Honour ``append_stdout()`` and ``out.outputs = ()``, which go past the sink."""
        if not self.changed:
            self.outputs = list(self.widget.outputs)

    def publish(self) -> None:
        self.widget.outputs = tuple(self.outputs)


def _enter(self: Any) -> Any:
    if not hasattr(self, "_kvmlive_sink"):
        self._kvmlive_sink = WidgetSink(self)
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
