"""The display functions, and the objects that say of a string what it is."""

import base64
from pathlib import Path
from typing import Any

from kvmlive.display import DisplayHandle, clear_output, display, publish_display_data, update_display

__all__ = [
    "HTML", "SVG", "Code", "DisplayHandle", "DisplayObject", "Image", "Markdown", "Pretty",
    "clear_output", "display", "publish_display_data", "update_display",
]  # fmt: skip


class DisplayObject:
    mime = "text/plain"

    def __init__(self, data: Any = None, url: Any = None, filename: str | None = None, metadata: Any = None) -> None:
        self.data = Path(filename).read_text() if filename is not None else data
        self.metadata = metadata or {}

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict:
        return {self.mime: self.data, "text/plain": f"<{type(self).__name__}>"}


class HTML(DisplayObject):
    mime = "text/html"

    def _repr_html_(self) -> str:
        return self.data


class SVG(DisplayObject):
    mime = "image/svg+xml"


class Markdown(DisplayObject):
    mime = "text/markdown"


class Pretty(DisplayObject):
    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict:
        return {"text/plain": self.data}


class Code(Pretty):
    def __init__(self, data: Any = None, language: str | None = None, **options: Any) -> None:
        super().__init__(data, **options)


class Image(DisplayObject):
    mime = "image/png"

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict:
        return {self.mime: base64.b64encode(self.data).decode(), "text/plain": "<Image>"}
