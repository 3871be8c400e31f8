"""The picture that stands for the book where a link to it is shown: ``make card`` writes book/_static/card.png.

Chromium draws it once; the file is kept in the repository, as a build has no browser. It carries the sum of its
drawing, so that a test notices when the two part.
"""

import hashlib
import struct
import sys
import zlib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "browser")]

from kvmmodel.widgets.svg import el

TARGET = ROOT / "book" / "_static" / "card.png"
WIDTH, HEIGHT = 1200, 630
INK, MUTED, LINE = "#222832", "#48566b", "#d1d5da"
NOW, NOW_EDGE = "#ffefb8", "#946200"
# Lane, colour, tint: as in km.css.
GUEST, HARDWARE = ("guest", "#1f6fc4", "#e6eff9"), ("hardware", "#9a5800", "#faeedd")
KVM, SCHEDULER = ("KVM", "#6d0f56", "#f7e8f4"), ("scheduler", "#6b7584", "#eef0f2")
LANES = (GUEST, HARDWARE, KVM, SCHEDULER, KVM, HARDWARE, GUEST)
STEPS = ("WRMSR", "exit", "wake", "run", "inject", "handler")  # each leads from one lane to the next
LEFT, LANE, TOP, ROW = 64, 153, 312, 41


def middle(lane: int) -> float:
    return LEFT + LANE * (lane + 0.5)


def text(x: float, y: float, words: str, size: int, fill: str = INK, **more: object) -> str:
    return el("text", words, x=x, y=y, font_size=size, fill=fill, **more)


def lane(number: int) -> str:
    name, colour, tint = LANES[number]
    x = LEFT + LANE * number
    return (
        el("rect", x=x + 3, y=TOP, width=LANE - 6, height=HEIGHT - TOP - 32, fill=tint)
        + el("rect", x=x + 3, y=TOP, width=LANE - 6, height=4, fill=colour)
        + text(middle(number), TOP - 14, name, 22, colour, font_weight=600, text_anchor="middle")
    )


def step(number: int) -> str:
    start, end, y = middle(number), middle(number + 1), TOP + 38 + ROW * number
    colour = LANES[number][1]
    return (
        el("path", d=f"M{start} {y}H{end - 16}", stroke=colour, stroke_width=4, fill="none")
        + el("path", d=f"M{end - 20} {y - 9}L{end - 4} {y}L{end - 20} {y + 9}Z", fill=colour)
        + el("circle", cx=start, cy=y, r=7, fill=colour)
        + text((start + end) / 2 - 6, y - 12, STEPS[number], 21, INK, text_anchor="middle")
    )


def drawing() -> str:
    last = TOP + 38 + ROW * (len(STEPS) - 1)
    band = el("rect", x=LEFT, y=last - 31, width=LANE * 7, height=50, fill=NOW)
    edge = el("rect", x=LEFT, y=last - 31, width=6, height=50, fill=NOW_EDGE)
    return el(
        "svg",
        el("rect", width=WIDTH, height=HEIGHT, fill="#fff"),
        el("rect", x=LEFT, y=52, width=WIDTH - 2 * LEFT, height=4, fill=INK),
        text(LEFT, 124, "How KVM on AMD delivers interrupts", 50, font_weight=600),
        text(LEFT, 182, "A book that answers by running it: a model with the kernel’s names,", 28, MUTED),
        text(LEFT, 220, "in your browser, checked against recordings of real kernels", 28, MUTED),
        el("path", d=f"M{LEFT} 250H{WIDTH - LEFT}", stroke=LINE, stroke_width=2),
        *map(lane, range(len(LANES))),
        band,
        edge,
        *map(step, range(len(STEPS))),
        xmlns="http://www.w3.org/2000/svg",
        width=WIDTH,
        height=HEIGHT,
        viewBox=f"0 0 {WIDTH} {HEIGHT}",
        font_family="DejaVu Sans, sans-serif",
    )


def digest() -> str:
    return hashlib.sha256(drawing().encode()).hexdigest()


def chunks(png: bytes) -> dict[bytes, bytes]:
    """A PNG's chunks, the last of each kind."""
    found, at = {}, 8
    while at < len(png):
        (size,) = struct.unpack(">I", png[at : at + 4])
        found[png[at + 4 : at + 8]] = png[at + 8 : at + 8 + size]
        at += size + 12
    return found


def signed(png: bytes) -> bytes:
    """The PNG with the drawing's sum in a text chunk, right after the header chunk of 25 bytes."""
    body = b"tEXt" + b"drawing\0" + digest().encode()
    chunk = struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
    return png[:33] + chunk + png[33:]


def main() -> None:
    from bookpage import launch
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = launch(playwright)
        page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT})
        page.set_content(f"<style>body{{margin:0}}svg{{display:block}}</style>{drawing()}")
        TARGET.write_bytes(signed(page.screenshot(type="png")))
        browser.close()
    print(f"{TARGET.relative_to(ROOT)}: {TARGET.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
