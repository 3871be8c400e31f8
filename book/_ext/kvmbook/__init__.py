"""Sphinx extension of this book: pages whose cells run in the reader's browser, and the site around them.

A page with ``live: true`` in its front matter gets the bar that starts Python and the source of its cells. Its widgets
have a static picture for readers without JavaScript. A page with code is offered as a notebook, too. The table of
questions is a directive. Names and values on a page are looked up in kvmmodel's facts. Nothing is loaded from another
host.
"""

from sphinx.application import Sphinx

from kvmbook import (
    accessible,
    assets,
    cells,
    names,
    noscript,
    notebooks,
    notfound,
    page,
    published,
    questions,
    results,
    roles,
    search,
    tables,
)


def setup(app: Sphinx) -> dict:
    app.connect("config-inited", assets.add_static_paths)
    app.connect("config-inited", published.configure, priority=400)  # before other extensions look
    app.connect("doctree-resolved", cells.mark)
    app.connect("html-page-context", published.describe, priority=400)  # before the Open Graph extension
    app.connect("html-page-context", notfound.add_script)
    app.connect("html-page-context", page.complete)
    app.connect("source-read", names.warn)
    app.connect("doctree-resolved", names.link)
    roles.add_to(app)
    tables.add_to(app)
    app.connect("html-page-context", page.add_download, priority=600)  # after the theme
    app.connect("build-finished", notebooks.write_all)
    app.connect("config-inited", search.rank)
    app.connect("builder-inited", search.index_what_counts)
    app.connect("html-page-context", search.add_script)
    app.connect("html-page-context", noscript.hide_buttons)
    app.connect("build-finished", noscript.be_light)
    app.connect("html-page-context", accessible.complete)
    questions.setup(app)
    app.add_post_transform(noscript.AddStaticPictures)
    results.setup(app)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
