"""What a finished page gets: styles, the live script, the bar, the source of its cells."""

import json

from docutils import nodes
from sphinx.application import Sphinx

from kvmbook.assets import live_folder
from kvmbook.cells import code_cells

BAR = """
<div class="live-bar" data-state="static" hidden>
<button type="button">Run this page</button>
<span role="status" aria-live="polite">A picture so far. The button, or any use of a widget, runs this page’s Python in
your browser.</span>
</div>
"""


def complete(app: Sphinx, pagename: str, templatename: str, context: dict, doctree: nodes.document | None) -> None:
    app.add_css_file("km.css", priority=900)  # after the widgets' own styles, which it changes
    if doctree is None:
        return
    live = is_live(app, pagename)
    if live or has_widgets(app, pagename):
        app.add_css_file(f"{live_folder()}/live.css")
        app.add_js_file(f"{live_folder()}/live.js", defer="defer")
    if live:
        context["body"] = with_bar(context["body"], code_cells(app, pagename))


def is_live(app: Sphinx, pagename: str) -> bool:
    return str(app.env.metadata.get(pagename, {}).get("live", "")).lower() == "true"


def has_widgets(app: Sphinx, pagename: str) -> bool:
    """MyST-NB keeps the widgets' state in a script that it writes into the page."""
    files = getattr(app.env, "nb_metadata", {}).get(pagename, {}).get("js_files", {})
    return any("widget" in key for key in files)


def with_bar(body: str, cells: list[dict]) -> str:
    data = json.dumps({"cells": cells}).replace("<", "\\u003c")  # a "</script>" in a cell must not end this one
    insert = f'{BAR}<script type="application/json" id="live-cells">{data}</script>'
    head, end, rest = body.partition("</h1>")
    return head + end + insert + rest if end else insert + body
