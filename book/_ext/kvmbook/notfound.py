"""The page for an address that does not exist. A host shows it at any depth, so its links begin with the site's path.

Where the site lies elsewhere than BOOK_URL says, a script looks for it and writes the page anew with the right links;
without JavaScript that one case stays without style.
"""

import json
from html import escape
from pathlib import Path

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.config import Config

from kvmbook import site
from kvmbook.assets import live_folder

NAME = "404"
SCRIPT = Path(__file__).with_name("notfound.js")


def configure(config: Config) -> None:
    config.notfound_pagename = NAME
    config.notfound_urls_prefix = site.path()
    config.notfound_context = {"title": "No such page", "body": body(site.path(), config.html_title)}


def body(root: str, book: str) -> str:
    return (
        "<h1>No such page</h1>"
        f'<p>There is nothing at this address. <a href="{root}book/intro.html">{escape(book)}</a> lists the questions '
        f'that this book answers; <a href="{root}search.html">the search</a> finds functions, registers and words.</p>'
    )


def add_script(app: Sphinx, pagename: str, templatename: str, context: dict, doctree: nodes.document | None) -> None:
    if pagename != NAME:
        return
    known = json.dumps({"root": site.path(), "file": f"_static/{live_folder()}/files.json"})
    script = f"<script>({SCRIPT.read_text(encoding='utf8').strip()})({known})</script>"
    context["metatags"] = f'{context.get("metatags", "")}<meta name="robots" content="noindex" />\n{script}\n'
