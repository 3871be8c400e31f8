"""Pictures of each page of the built book: wide and phone, light and dark, static and live; into _build/shots."""

import sys
from itertools import product
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests" / "browser"))

from bookpage import BUILT, Site, go_live, launch, serving

OUT = ROOT / "_build" / "shots"
SIZES = {"wide": (1280, 900), "phone": (390, 844)}


def shoot(browser: Browser, site: Site, name: str, size: str, theme: str) -> None:
    width, height = SIZES[size]
    context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=theme)
    page = context.new_page()
    page.goto(site.page(name))
    page.wait_for_load_state("networkidle")
    stem = f"{Path(name).name}-{size}-{theme}"
    page.screenshot(path=OUT / f"{stem}-static.png", full_page=True)
    if page.locator(".live-bar button").count():
        go_live(page)
        page.screenshot(path=OUT / f"{stem}-live.png", full_page=True)
    context.close()
    print(f"  {stem}", flush=True)


def main() -> None:
    OUT.mkdir(parents=True, exist_ok=True)
    pages = sorted(str(p.relative_to(BUILT).with_suffix("")) for p in (BUILT / "book").rglob("*.html"))
    with serving(BUILT) as site, sync_playwright() as playwright:
        browser = launch(playwright)
        for name, size, theme in product(pages, SIZES, ("light", "dark")):
            shoot(browser, site, name, size, theme)
        browser.close()
    print(f"Pictures are in {OUT.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
