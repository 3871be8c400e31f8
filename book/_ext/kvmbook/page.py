"""What a finished page gets: styles, the live script, the bar with the notebook's link, the source of its cells."""

import json
from functools import cache

from docutils import nodes
from sphinx.application import Sphinx

from kvmbook.assets import STYLE, going_live, live_folder
from kvmbook.cells import code_cells, notebook

# Without JavaScript the button and what it says stay hidden, and the link is all there is.
BAR = """
<div class="live-bar" data-state="static">{run}
<a class="live-notebook" href="{name}.ipynb" download>Download as a notebook</a>
</div>
"""
RUN = """
<button type="button" hidden>Run this page</button>
<span role="status" aria-live="polite" hidden>A picture so far. The button, or any use of a widget, runs this page’s
Python in your browser. That loads {size}, once.</span>
<noscript>Pictures and text. With JavaScript this page runs in your browser.
<a href="{first}">All pages</a></noscript>"""


def complete(app: Sphinx, pagename: str, templatename: str, context: dict, doctree: nodes.document | None) -> None:
    app.add_css_file("km.css", priority=900)  # after the widgets' own styles, which it changes
    if doctree is None:
        return
    cells = notebook(app, pagename)
    live = is_live(app, pagename)
    app.add_css_file(f"{live_folder()}/live.css")
    if live or has_widgets(app, pagename):
        app.add_js_file(f"{live_folder()}/live.js", defer="defer")
    context["body"] = context["body"].replace(own_style(), "")  # outputs bring it along; the page has it already
    run = ""
    if live:
        first = context["pathto"](app.config.root_doc)
        run = RUN.format(size=going_live(), first=first) + source(code_cells(cells))
    name = pagename.rpartition("/")[2]
    context["body"] = below_title(context["body"], BAR.format(run=run, name=name))


def add_download(app: Sphinx, pagename: str, templatename: str, context: dict, doctree: nodes.document | None) -> None:
    """The notebook among the theme's downloads, after the theme has made them."""
    if doctree is None:
        return
    link = {
        "type": "link",
        "url": context["pathto"](f"{pagename}.ipynb", 1),
        "text": ".ipynb",
        "icon": "fas fa-code",
        "tooltip": "Download notebook",
        "label": "download-notebook-button",
    }
    for group in context.get("header_buttons", []):
        if group.get("label") == "download-buttons":
            group["buttons"].insert(0, link)


def is_live(app: Sphinx, pagename: str) -> bool:
    return str(app.env.metadata.get(pagename, {}).get("live", "")).lower() == "true"


def has_widgets(app: Sphinx, pagename: str) -> bool:
    """MyST-NB keeps the widgets' state in a script that it writes into the page."""
    files = getattr(app.env, "nb_metadata", {}).get(pagename, {}).get("js_files", {})
    return any("widget" in key for key in files)


@cache
def own_style() -> str:
    return f"<style>{STYLE.read_text(encoding='utf8')}</style>"


def source(cells: list[dict]) -> str:
    data = json.dumps({"cells": cells}).replace("<", "\\u003c")  # a "</script>" in a cell must not end this one
    return f'<script type="application/json" id="live-cells">{data}</script>'


def below_title(body: str, insert: str) -> str:
    head, end, rest = body.partition("</h1>")
    return head + end + insert + rest if end else insert + body
