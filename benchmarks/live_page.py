"""How long a reader waits: click to live with a fresh browser profile, and the answer to one step. Printed, not judged.

Loopback has no network time: going live fetches some 20 MB, 13 MB where the server compresses.
"""

import statistics
import sys
from pathlib import Path

from playwright.sync_api import Playwright, sync_playwright

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "browser"))

from bookpage import BUILT, LIVE, Site, go_live, launch, open_page, serving

RUNS, STEPS = 5, 20
MARKS = (
    "performance.getEntriesByName('live:ready')[0].startTime - performance.getEntriesByName('live:asked')[0].startTime"
)
# From pressing "forward" to the changed picture, in the page's own time, up to the next frame.
STEP = """live => new Promise(done => {
  const button = document.querySelector(live + '.km-fwd'), figure = document.querySelector(live + '.km-figure');
  const started = performance.now();
  const watch = new MutationObserver(() => {
    watch.disconnect(); requestAnimationFrame(() => done(performance.now() - started)); });
  watch.observe(figure, { childList: true, subtree: true, characterData: true, attributes: true });
  button.click();
})"""


def one_run(playwright: Playwright, site: Site) -> tuple[float, list[float], int]:
    browser = launch(playwright)  # a new browser has an empty cache
    page = browser.new_page()
    requests: list[str] = []
    page.context.on("request", lambda request: requests.append(request.url))
    open_page(page, site)
    go_live(page)
    live = page.evaluate(MARKS)
    steps = []
    for _ in range(STEPS):
        button = page.locator(f"{LIVE}.km-fwd")
        if button.is_disabled() or at_end(page.locator(f"{LIVE}.km-count").inner_text()):
            page.locator(f"{LIVE}.km-first").click()
            page.wait_for_timeout(200)
        steps.append(page.evaluate(STEP, LIVE))
    browser.close()
    return live, steps, len(requests)


def at_end(count: str) -> bool:
    numbers = [int(word) for word in count.split() if word.isdigit()]
    return len(numbers) == 2 and numbers[0] == numbers[1]


def main() -> None:
    with serving(BUILT) as site, sync_playwright() as playwright:
        runs = [one_run(playwright, site) for _ in range(RUNS)]
    lives = [live for live, _, _ in runs]
    steps = [step for _, some, _ in runs for step in some]
    shown = ", ".join(f"{live / 1000:.2f}" for live in lives)
    print(f"click to live, cold: median {statistics.median(lives) / 1000:.2f} s of {RUNS} ({shown})")
    print(f"a step's answer: median {statistics.median(steps):.0f} ms of {len(steps)} (most {max(steps):.0f} ms)")
    print(f"requests of the page and its worker: {runs[0][2]}")


if __name__ == "__main__":
    main()
