"""Readers without JavaScript see a widget's static picture: the text/html that the widget offers besides its view."""

from typing import Any

from docutils import nodes
from sphinx.transforms.post_transforms import SphinxPostTransform

WIDGET = "application/vnd.jupyter.widget-view+json"


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
            picture = nodes.raw("", f'<noscript class="live-noscript">{html}</noscript>', format="html")
            bundle.parent.insert(bundle.parent.index(bundle) + 1, picture)
