"""MyST Markdown made plain: what JupyterLab cannot show becomes Markdown that it can, links lead somewhere or are text.

Text goes in, text comes out; who knows the book's pages is a ``Links``. Not supported: roles inside a table's raw HTML,
and directives that compute something: of those stays the body.
"""

import re
from collections.abc import Callable, Mapping
from typing import Protocol

from kvmbook import questions, results, roles

# What a role's text becomes in plain Markdown. Whoever adds a role to the book adds it here, unless it is in roles.py;
# others give their text.
ROLES: dict[str, Callable[[str], str]] = {
    "kbd": lambda text: f"<kbd>{text}</kbd>",
    "sub": lambda text: f"<sub>{text}</sub>",
    "sup": lambda text: f"<sup>{text}</sup>",
    "code": lambda text: f"`{text}`",
    "cite": lambda text: f"[{text}]",
    "result": results.in_words,
}
PAGES = {"doc", "ref", "numref", "any", "download"}  # roles whose target may be a page or a label
DROPPED = {"toctree", "tableofcontents", "contents", "raw", "index", "only"}
# What the build makes from other files.
MADE = {"bibliography": "a list", "names": "a list", "results": "a table", "eval-rst": "descriptions from the code"}
# Directives whose argument says what Markdown stands in their place.
TABLES: dict[str, Callable[[str], str]] = {"questions": questions.as_markdown}
CODE = {"code", "code-block", "sourcecode"}
PICTURES = {"figure", "image"}


class Links(Protocol):
    def resolve(self, target: str) -> tuple[str, str]:
        """Of a link's target: the title of what it leads to, and the address to write; "" for what there is none of."""
        ...


FENCE = re.compile(r"^(?P<indent> {0,3})(?P<fence>`{3,}|~{3,}|:{3,})[ \t]*(?P<info>.*)$")
DIRECTIVE = re.compile(r"^\{(?P<name>[\w:+-]+)\}\s*(?P<argument>.*)$")
LABEL_OR_COMMENT = re.compile(r"^(\([\w:.+-]+\)=|%.*|\{[.#][^}`]*\})[ \t]*$\n?", re.M)
DEFINITION = re.compile(r"^(?P<term>\S.*)\n(?::[ \t]+)", re.M)
INLINE = re.compile(
    r"""
    \{(?P<role>[\w:+-]+)\}(?P<ticks>`+)(?P<body>.+?)(?<!`)(?P=ticks)(?!`)
    | (?P<code>(?<!`)(?P<ticks2>`+)(?!`).+?(?<!`)(?P=ticks2)(?!`))
    | \{\{[ ]*(?P<value>\w+)[ ]*\}\}
    | (?P<picture>!?)\[(?P<text>(?:`[^`]*`|\[[^\]]*\]|[^\[\]`])*)\]
      \((?P<target><[^<>]*>|[^()\s]*)(?P<title>\s+"[^"]*")?\)
    | (?<=[\])`*])(?P<attributes>\{[.\#][^}]*\})
    """,
    re.X | re.S,
)


def markdown(text: str, links: Links, values: Mapping[str, str]) -> str:
    """``values`` stand for the page's ``{{ name }}``; a name without a value stays as it is."""
    out: list[str] = []
    plain: list[str] = []

    def flush() -> None:
        if plain:
            out.append(_text("\n".join(plain), links, values))
            plain.clear()

    lines = text.split("\n")
    at = 0
    while at < len(lines):
        opened = FENCE.match(lines[at])
        if not opened:
            plain.append(lines[at])
            at += 1
            continue
        flush()
        end = _end(lines, at, opened["fence"])
        out.append(_block(lines[at : end + 1], lines[at + 1 : end], opened["info"], links, values))
        at = end + 1
    flush()
    return re.sub(r"\n{3,}", "\n\n", "\n".join(out)).strip("\n")


def _end(lines: list[str], start: int, fence: str) -> int:
    """The line that closes the fence, or the end."""
    closing = re.compile(rf"^ {{0,3}}{re.escape(fence[0])}{{{len(fence)},}}[ \t]*$")
    return next((n for n in range(start + 1, len(lines)) if closing.match(lines[n])), len(lines))


def _block(whole: list[str], body: list[str], info: str, links: Links, values: Mapping[str, str]) -> str:
    found = DIRECTIVE.match(info)
    if not found and not whole[0].lstrip().startswith(":"):
        return "\n".join(whole)  # code: stays as it is
    name, argument = (found["name"], found["argument"]) if found else ("", "")
    body, options = _without_options(body)
    if name in DROPPED:
        return ""
    if name in TABLES:
        return _text(TABLES[name](argument), links, values)
    if name in MADE:
        _, address = links.resolve("")
        page = f"[page in the book]({address})" if address else "page in the book"
        return f"*The {page} has {MADE[name]} here.*"
    if name in CODE:
        return "\n".join([f"```{argument}", *body, "```"])
    inner = markdown("\n".join(body), links, values)
    if name in PICTURES:
        return f"{_picture(options.get('alt', ''), argument, links)}\n\n{inner}".strip()
    if name == "glossary":
        return re.sub(r"^(?=[^\s*])(.+)$", r"**\1**", "\n".join(body), flags=re.M).replace("\n  ", "\n")
    title = _text(argument or ("" if name in ("", "table", "list-table") else name.capitalize()), links, values)
    quoted = [f"**{title}**", "", *inner.split("\n")] if title else inner.split("\n")
    return "\n".join(f"> {line}".rstrip() for line in quoted)


def _without_options(body: list[str]) -> tuple[list[str], dict[str, str]]:
    options = {}
    while body and (option := re.match(r"^:([\w-]+):\s*(.*)$", body[0])):
        options[option[1]] = option[2]
        body = body[1:]
    return body, options


def _picture(alt: str, target: str, links: Links) -> str:
    _, address = links.resolve(target)
    return f"![{alt}]({address})" if address else alt


def _text(text: str, links: Links, values: Mapping[str, str]) -> str:
    def replaced(match: re.Match[str]) -> str:
        if match["code"]:
            return match["code"]
        if match["attributes"]:
            return ""
        if match["value"]:
            return values.get(match["value"], match[0])
        if match["role"]:
            return _role(match["role"], match["body"], links)
        inner, target = _text(match["text"], links, values), match["target"].strip("<>")
        if match["picture"]:
            return _picture(inner, target, links)
        title, address = links.resolve(target)
        shown = inner or title or target
        return f"[{shown}]({address}{match['title'] or ''})" if address else shown

    text = LABEL_OR_COMMENT.sub("", text)
    text = DEFINITION.sub(lambda m: f"**{m['term']}**: ", text)
    return INLINE.sub(replaced, text)


def _role(role: str, body: str, links: Links) -> str:
    if role in ROLES:
        return ROLES[role](body)
    if role.lower() in roles.ROLES:
        said = roles.plain(role, body)
        return f"`{said}`" if role in roles.AS_CODE else said
    named = re.match(r"^(?P<text>.*\S)\s*<(?P<target>[^<>]+)>$", body, re.S)
    shown, target = (named["text"], named["target"]) if named else ("", body)
    if role not in PAGES:
        return shown or body
    title, address = links.resolve(target)
    shown = shown or title or target
    return f"[{shown}]({address})" if address else shown
