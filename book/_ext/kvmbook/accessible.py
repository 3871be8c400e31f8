"""For readers who hear or type a page: what the theme and the notebook extension leave open is mended in its HTML."""

import re

from sphinx.application import Sphinx

# A Markdown table without heads still gets cells for them, and a header cell without words is none.
EMPTY_HEAD = re.compile(r'<th class="head[^"]*">(?:<p></p>)?</th>')
# The folded source of a cell says "Show code cell source", and was given another name.
OTHER_NAME = '<summary aria-label="Toggle hidden content">'

# Entries of a bibliography: the role is deprecated, and not one of the list that they stand in.
OLD_ENTRY = 'role="doc-biblioentry"'

# The parameters of a call, a line each: Sphinx makes a list of descriptions without terms.
PARAMETERS = re.compile(r'(<span class="sig-paren">\(</span>)\s*<dl>(.*?)</dl>\s*', re.DOTALL)


def mend(body: str) -> str:
    body = EMPTY_HEAD.sub("<td></td>", body).replace(OTHER_NAME, "<summary>")
    body = PARAMETERS.sub(lambda found: found[1] + _lines(found[2]), body)
    return body.replace(OLD_ENTRY, 'role="listitem"')


def _lines(parameters: str) -> str:
    return parameters.replace("<dd>", '<span class="km-param">').replace("</dd>", "</span>").strip()


def complete(app: Sphinx, pagename: str, templatename: str, context: dict, doctree: object) -> None:
    if "body" in context:
        context["body"] = mend(context["body"])
