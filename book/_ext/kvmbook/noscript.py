"""Readers without JavaScript see a widget's static picture: the text/html that the widget offers besides its view.

The theme's colours hang on an attribute that only a script sets to light or dark; without one a page is light. Its
buttons need scripts, too, and are not shown.
"""

from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.transforms.post_transforms import SphinxPostTransform

WIDGET = "application/vnd.jupyter.widget-view+json"
NO_BUTTONS = "<noscript><style>.article-header-buttons,.sidebar-toggle{display:none!important}</style></noscript>"


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


def hide_buttons(app: Sphinx, pagename: str, templatename: str, context: dict, doctree: nodes.document | None) -> None:
    context["metatags"] = f"{context.get('metatags', '')}{NO_BUTTONS}\n"


def be_light(app: Sphinx, exception: Exception | None) -> None:
    """What a page's root says until the theme's script, the first in the page, says what the reader wants."""
    if exception or app.builder.name != "html":
        return
    for path in Path(app.outdir).rglob("*.html"):
        text = path.read_text(encoding="utf8")
        path.write_text(text.replace('data-theme="auto">', 'data-theme="light">', 1), encoding="utf8")
