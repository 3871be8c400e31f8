"""Where a cell's outputs go, and an Output widget's, which others may change behind the sink's back."""

from types import SimpleNamespace

from kvmlive import sinks
from kvmlive.output_widget import of_widget


def stream(text):
    return {"output_type": "stream", "name": "stdout", "text": text}


def test_a_widgets_outputs_are_set_when_they_are_flushed():
    widget = SimpleNamespace(outputs=())
    sink = of_widget(widget)
    sink.emit(stream("a"))
    sink.emit(stream("b"))
    assert widget.outputs == ()
    sinks.flush()
    assert widget.outputs == (stream("ab"),)


def test_what_others_put_into_the_widget_stays():
    widget = SimpleNamespace(outputs=())
    sink = of_widget(widget)
    sink.emit(stream("a"))
    sinks.flush()
    widget.outputs = ()
    sink.emit(stream("b"))
    sinks.flush()
    assert widget.outputs == (stream("b"),)


def test_clear_with_wait_keeps_the_old_until_there_is_something_new():
    widget = SimpleNamespace(outputs=(stream("old"),))
    sink = of_widget(widget)
    sink.clear(wait=True)
    sinks.flush()
    assert widget.outputs == (stream("old"),)
    sink.emit(stream("new"))
    sinks.flush()
    assert widget.outputs == (stream("new"),)
