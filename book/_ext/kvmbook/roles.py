"""Roles by which a page takes a value from the facts instead of typing it.

    {since}`avic_auto`          since 6.18; "from 7.2 on (stable: 6.12.114)"; with (inferred) or (recalled) where it is
    {release}`x2avic`           6.0
    {until}`avic_auto`          up to 6.17
    {stable}`cr8_recomputed_on_ppr`   6.12.114
    {default}`avic 6.12`        N: a parameter's default
    {bit}`IRQWIN 7.3`           8: an inhibit's number; {bits}`IRQWIN`: all of them, with their releases
    {mask}`PIT_REINJ 6.12`      0x200; {reason}`0x200 6.1`: SEV

{Since} and {Until} stand at the beginning of a sentence. The first four take a behaviour of facts/changes, a
parameter or an inhibit. `plain` gives a role's text to whoever has no Sphinx, as a notebook that is downloaded.
"""

from collections.abc import Callable, Iterator

from docutils import nodes
from docutils.parsers.rst.states import Inliner
from sphinx.application import Sphinx

from kvmmodel.facts import told

ROLES: dict[str, Callable[..., str]] = {
    "since": told.since,
    "release": told.release,
    "until": told.until,
    "stable": told.stable,
    "default": told.default,
    "bit": told.bit,
    "bits": told.bits,
    "mask": told.mask,
    "reason": told.reason,
}
AS_CODE = ("default", "mask", "reason")


def plain(role: str, text: str) -> str:
    """What {role}`text` says. ValueError, in one line, for what the facts don't have, and for no role of these."""
    teller = ROLES.get(role.lower())
    if teller is None:
        raise ValueError(f"no role {role!r}: expected one of {', '.join(ROLES)}")
    try:
        said = teller(*text.split())
        return said[0].upper() + said[1:] if role[0].isupper() else said
    except TypeError:
        raise ValueError(f"role {role} does not take {text!r}: see kvmbook/roles.py") from None


def wrong(role: str, text: str) -> Iterator[str]:
    """What is wrong with a role on a page; roles that are not of these are Sphinx's."""
    if role.lower() in ROLES:
        try:
            plain(role, text)
        except ValueError as error:
            yield f"{role} of {text}: {error}"


def add_to(app: Sphinx) -> None:
    for role in ROLES:
        app.add_role(role, _made)


def _made(
    name: str, rawtext: str, text: str, lineno: int, inliner: Inliner, options: object = None, content: object = None
) -> tuple[list[nodes.Node], list[nodes.system_message]]:
    try:
        said = plain(name, text)
    except ValueError as error:
        message = inliner.reporter.error(str(error), line=lineno)
        return [inliner.problematic(rawtext, rawtext, message)], [message]
    made = (nodes.literal if name in AS_CODE else nodes.inline)(text=said)
    made["km_name"] = said if name == "reason" else text.split(maxsplit=1)[0]  # whose row it is
    return [made], []
