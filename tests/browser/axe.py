"""axe-core on a page: the rules for readers who hear, type or enlarge it. It comes from node_modules."""

from bookpage import ROOT
from playwright.sync_api import Page

AXE = ROOT / "node_modules" / "axe-core" / "axe.min.js"

RUN = """async () => {
    const { violations } = await axe.run(document, { resultTypes: ['violations'] });
    const place = node => `${node.target.join(' ')} ${node.html.slice(0, 120)}`;
    return violations.flatMap(({ id, nodes }) => nodes.map(node => `${id}: ${place(node)}`));
}"""


def violations(page: Page, scheme: str) -> list[str]:
    """What axe finds on the page as it is now, in the light or the dark colours."""
    page.emulate_media(
        color_scheme=scheme, reduced_motion="reduce"
    )  # without fading, so that colours are the final ones
    page.wait_for_function("scheme => document.documentElement.dataset.theme === scheme", arg=scheme)
    if not page.evaluate("'axe' in window"):
        page.evaluate(AXE.read_text(encoding="utf-8"))
    found: list[str] = page.evaluate(RUN)
    return found
