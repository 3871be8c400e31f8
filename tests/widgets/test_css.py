"""The style sheet keeps what the visual language promises: contrast in both themes, no text below 12 px, no fetches."""

from __future__ import annotations

import re

import pytest

from kvmmodel.widgets.parts import css

# what the tokens that come from the theme are in the book
THEME = {
    "light": {"ink": "#222832", "muted": "#48566b", "paper": "#ffffff"},
    "dark": {"ink": "#ced6dd", "muted": "#9ca4af", "paper": "#121212"},
}
BLOCK = {"light": r"html\{", "dark": r"html\[data-theme=dark\]\{", "lab": r"body\[data-jp-theme-light=false\]\{"}


def tokens(theme: str) -> dict[str, str]:
    body = re.search(r"^" + BLOCK[theme] + r"(.*?)\}", css(), re.S | re.M)
    assert body
    return dict(re.findall(r"--km-([a-z-]+):(#[0-9a-f]{6})", body[1]))


def luminance(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    lin = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * lin[0] + 0.7152 * lin[1] + 0.0722 * lin[2]


def contrast(a: str, b: str) -> float:
    low, high = sorted((luminance(a), luminance(b)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("token", ["ink", "muted", "guest", "hw", "kvm", "sched", "dev", "bad"])
def test_what_is_read_on_paper_has_contrast(theme: str, token: str) -> None:
    known = THEME[theme] | tokens(theme)
    assert contrast(known[token], known["paper"]) >= 4.5


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_text_on_yellow_and_borders_with_a_meaning(theme: str) -> None:
    known = THEME[theme] | tokens(theme)
    assert contrast(known["on-now"], known["now"]) >= 4.5
    assert contrast(known["now-edge"], known["now"]) >= 3
    assert contrast(known["rule"], known["paper"]) >= 3
    for lane in ("guest", "hw", "kvm", "sched", "dev"):
        assert contrast(known[lane], known["now"]) >= 3
        assert contrast(known[lane], known[f"{lane}-t"]) >= 3


def test_a_dark_notebook_has_the_dark_book_s_colours() -> None:
    assert tokens("dark").items() <= tokens("lab").items()


def test_no_text_is_smaller_than_twelve_pixels() -> None:
    declared = re.findall(r"(?:font|font-size|--km-fs[-a-z]*):([^;}]*)", css())
    sizes = [
        float(n) * (16 if unit == "rem" else 1) for d in declared for n, unit in re.findall(r"([\d.]+)(px|rem)\b", d)
    ]
    assert len(sizes) > 15
    assert min(sizes) >= 12
    assert not [d for d in declared if re.search(r"[\d.]em\b", d) and "max(12px" not in d]


def test_nothing_is_fetched() -> None:
    assert not re.search(r"@import|@font-face|url\((?!\"data:image/svg)", css())


def test_every_rule_is_closed() -> None:
    text = re.sub(r"/\*.*?\*/|\"[^\"]*\"", "", css(), flags=re.S)
    assert text.count("{") == text.count("}")
