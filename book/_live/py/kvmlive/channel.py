"""The one way out to the page."""

import json
from collections.abc import Callable, Iterable
from typing import Any

_send: Callable[[str, list], Any] | None = None

# The id of the page's message that is being handled: answers carry it.
parent_id = ""


def connect(send: Callable[[str, list], Any]) -> None:
    global _send
    _send = send


def post(message: dict, buffers: Iterable = ()) -> None:
    if _send is not None:
        _send(json.dumps(message, default=str), list(buffers))
