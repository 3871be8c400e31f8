"""Readers without JavaScript see a widget's static picture: the text/html that the widget offers besides its view.

Pictures and cells' HTML are not text to search: a search finds the page by what its author wrote.
"""

from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.transforms.post_transforms import SphinxPostTransform

WIDGET = "application/vnd.jupyter.widget-view+json"


class unsearched(nodes.General, nodes.Inline, nodes.Element):  # docutils names nodes in lower case
    """HTML, in the attribute ``html``, that Sphinx's index does not see: it indexes raw nodes, and this is none."""


def visit_html(visitor: Any, node: unsearched) -> None:
    visitor.body.append(node["html"])
    raise nodes.SkipNode


class AddStaticPictures(SphinxPostTransform):
    default_priority = 3  # just before MyST-NB picks one MIME type of each output and drops the others

    def run(self, **_: Any) -> None:
        for bundle in list(self.document.findall(nodes.container)):
            if bundle.get("nb_element") != "mime_bundle":
                continue
            by_type = {child["mime_type"]: child for child in bundle.children}
            if WIDGET not in by_type or "text/html" not in by_type:
                continue
            html = "".join(raw.astext() for raw in by_type["text/html"].findall(nodes.raw))
            picture = unsearched(html=f'<noscript class="live-noscript">{html}</noscript>')
            bundle.parent.insert(bundle.parent.index(bundle) + 1, picture)


class HideOutputsFromSearch(SphinxPostTransform):
    default_priority = 5  # after MyST-NB has picked

    def run(self, **_: Any) -> None:
        for output in self.document.findall(nodes.container):
            if output.get("nb_element") != "cell_code_output":
                continue
            for raw in list(output.findall(nodes.raw)):
                if "html" in raw.get("format", "").split():
                    raw.replace_self(unsearched(html=raw.astext()))


def setup(app: Sphinx) -> None:
    app.add_node(unsearched, html=(visit_html, None))
    app.add_post_transform(AddStaticPictures)
    app.add_post_transform(HideOutputsFromSearch)
