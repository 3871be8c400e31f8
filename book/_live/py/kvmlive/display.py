"""IPython's display functions, as far as pages and ipywidgets use them."""

import base64
import inspect
import uuid
from typing import Any

from kvmlive import sinks

_REPRS = {
    "_repr_html_": "text/html",
    "_repr_svg_": "image/svg+xml",
    "_repr_png_": "image/png",
    "_repr_markdown_": "text/markdown",
}

# display id -> the sinks that show something under it
_shown: dict[str, list[sinks.Sink]] = {}


def mimebundle(thing: Any) -> dict:
    """What ``thing`` can be shown as, by MIME type; always with text/plain."""
    data: dict = {}
    if not inspect.isclass(thing):
        if hasattr(thing, "_repr_mimebundle_"):
            bundle = thing._repr_mimebundle_(include=None, exclude=None)
            data = dict((bundle[0] if isinstance(bundle, tuple) else bundle) or {})
        if not data:
            data = _from_reprs(thing)
    data.setdefault("text/plain", repr(thing))
    return data


def _from_reprs(thing: Any) -> dict:
    data = {}
    for method, mime in _REPRS.items():
        value = getattr(thing, method)() if hasattr(thing, method) else None
        if value is not None:
            data[mime] = base64.b64encode(value).decode() if isinstance(value, bytes) else value
    return data


def publish_display_data(
    data: dict, metadata: dict | None = None, *, transient: dict | None = None, update: bool = False, **_: Any
) -> None:
    output = {"output_type": "display_data", "data": data, "metadata": metadata or {}}
    display_id = (transient or {}).get("display_id")
    if display_id and update:
        for sink in _shown.get(display_id, ()):
            sink.outputs = [{**o, "data": data} if o.get("display_id") == display_id else o for o in sink.outputs]
            sink.touch()
        return
    if display_id:
        output["display_id"] = display_id
        _shown.setdefault(display_id, []).append(sinks.current())
    sinks.current().emit(output)


class DisplayHandle:
    def __init__(self, display_id: str | None = None) -> None:
        self.display_id = display_id or uuid.uuid4().hex

    def display(self, thing: Any, **options: Any) -> None:
        display(thing, display_id=self.display_id, **options)

    def update(self, thing: Any, **options: Any) -> None:
        update_display(thing, display_id=self.display_id, **options)


def display(
    *things: Any,
    metadata: dict | None = None,
    display_id: str | bool | None = None,
    raw: bool = False,
    clear: bool = False,
    update: bool = False,
    **_: Any,
) -> DisplayHandle | None:
    handle = DisplayHandle(None if display_id is True else display_id) if display_id else None
    if clear:
        clear_output(wait=True)
    for thing in things:
        transient = {"display_id": handle.display_id} if handle else None
        publish_display_data(thing if raw else mimebundle(thing), metadata, transient=transient, update=update)
    return handle


def update_display(thing: Any, *, display_id: str, **options: Any) -> None:
    display(thing, display_id=display_id, update=True, **options)


def clear_output(wait: bool = False) -> None:
    sinks.current().clear(wait)
