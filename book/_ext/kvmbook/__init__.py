"""Sphinx extension of this book: pages whose cells run in the reader's browser.

A page with ``live: true`` in its front matter gets the bar that starts Python and the source of its cells. Its widgets
have a static picture for readers without JavaScript. Nothing is loaded from another host.
"""

from sphinx.application import Sphinx

from kvmbook import assets, cells, noscript, page, results


def setup(app: Sphinx) -> dict:
    app.connect("config-inited", assets.add_static_paths)
    app.connect("doctree-resolved", cells.mark)
    app.connect("html-page-context", page.complete)
    app.add_post_transform(noscript.AddStaticPictures)
    results.setup(app)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
