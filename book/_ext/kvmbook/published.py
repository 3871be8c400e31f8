"""What others see of a page: search engines (canonical address, sitemap), and who shows a link to it (Open Graph)."""

import re
from html import escape

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.config import Config
from sphinx.errors import ConfigError

from kvmbook import assets, notfound, site

CARD = "_static/card.png"  # tools/card.py makes it
CARD_WIDTH, CARD_HEIGHT = 1200, 630
CARD_SAYS = "An interrupt on its way from one vCPU to another, through guest, hardware, KVM and the host's scheduler"
ENOUGH = 200  # characters of a description: whole sentences, at least one, none after this many
SENTENCE_END = re.compile(r"(?<=[.?!])\s+(?=[A-Z“‘(])")


def configure(app: Sphinx, config: Config) -> None:
    """All absolute addresses come from the site's address."""
    try:
        address = site.address()
    except ValueError as error:
        raise ConfigError(str(error)) from error
    config.html_baseurl = config.ogp_site_url = address
    config.ogp_site_name = config.html_title
    config.ogp_type = "article"
    config.ogp_social_cards = {"enable": False}
    config.ogp_image = CARD
    config.ogp_image_alt = CARD_SAYS
    config.ogp_custom_meta_tags = [
        f'<meta property="og:image:width" content="{CARD_WIDTH}" />',
        f'<meta property="og:image:height" content="{CARD_HEIGHT}" />',
        '<meta name="twitter:card" content="summary_large_image" />',
    ]
    config.sitemap_url_scheme = "{link}"
    config.sitemap_excludes = ["search.html", "genindex.html", f"{notfound.NAME}.html"]
    notfound.configure(config)
    config.myst_substitutions = {**config.myst_substitutions, **substitutions()}


def substitutions() -> dict[str, str]:
    """What pages may say by ``{{ name }}``: what the build knows."""
    built = assets.wheel()
    link = f'<a href="../_static/{built.name}" download>{built.name}</a>' if built else "a wheel"
    return {"going_live": assets.going_live(), "wheel": link}


def describe(app: Sphinx, pagename: str, templatename: str, context: dict, doctree: nodes.document | None) -> None:
    """The short answer's first sentences, before the Open Graph extension looks for a description."""
    if doctree is None:
        return
    text = escape(description(doctree), quote=True)
    context["metatags"] += f'<meta name="description" content="{text}" />\n'
    context["meta"] = {**(context["meta"] or {}), "og:description": text}


def description(doctree: nodes.document) -> str:
    """The first whole sentences of the page's first paragraph."""
    paragraph = next((p for p in doctree.findall(nodes.paragraph) if not isinstance(p.parent, nodes.Admonition)), None)
    sentences = SENTENCE_END.split(" ".join(paragraph.astext().split())) if paragraph is not None else []
    chosen = sentences[:1]
    for sentence in sentences[1:]:
        if len(" ".join([*chosen, sentence])) > ENOUGH:
            break
        chosen.append(sentence)
    return " ".join(chosen)
