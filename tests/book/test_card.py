"""The picture that stands for the book where a link to it is shown."""

import struct
import sys
from pathlib import Path
from xml.etree import ElementTree

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tools"))

import card

SVG = "{http://www.w3.org/2000/svg}"


def test_the_kept_picture_is_today_s_drawing() -> None:
    kept = card.chunks(card.TARGET.read_bytes())
    assert kept[b"tEXt"] == b"drawing\0" + card.digest().encode(), "the drawing changed: make card"
    assert struct.unpack(">II", kept[b"IHDR"][:8]) == (card.WIDTH, card.HEIGHT) == (1200, 630)
    assert card.TARGET.stat().st_size < 100_000


def test_nothing_of_the_drawing_leaves_the_picture() -> None:
    """The title once ran out at the right. Widths are what letters of DejaVu Sans, a wide face, take on average."""
    for text in ElementTree.fromstring(card.drawing()).iter(f"{SVG}text"):
        size, x, words = float(text.get("font-size", 0)), float(text.get("x", 0)), text.text or ""
        width = len(words) * size * (0.63 if text.get("font-weight") else 0.56)
        assert size >= 20, "small text cannot be read in a preview"
        assert x + (width / 2 if text.get("text-anchor") else width) <= card.WIDTH


def test_each_step_leads_to_the_next_lane() -> None:
    assert len(card.STEPS) == len(card.LANES) - 1
    assert [name for name, *_ in card.LANES] == [name for name, *_ in reversed(card.LANES)], "lanes are mirrored"
