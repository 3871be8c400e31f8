"""A recorded stack beside the model's: what matches, what is folded, and what the model lacks."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET

import pytest

from kvmmodel.widgets import evidence, page
from tests.widgets.widget_stories import ACCEPT, frames

RECORDED = [f"{f.name}+{i * 7}" for i, f in enumerate(ACCEPT) if not f.folded]


def verdict(html: str) -> str:
    return "".join(ET.fromstring(html).find("p").itertext())  # type: ignore[union-attr]


def test_all_frames_matched_is_said_first() -> None:
    html = evidence.draw(RECORDED, ACCEPT, "`bpftrace`, field note")
    assert verdict(html) == "12 of 12 recorded frames matched 7 more in the model, folded by the compiler"
    assert re.findall(r'<tr class="(\w+) ', html) == ["folded" if f.folded else "same" for f in ACCEPT]


def test_a_frame_that_the_model_lacks_is_named_in_its_place() -> None:
    html = evidence.draw([RECORDED[0], "strange_thing+1", *RECORDED[1:]], ACCEPT, "x")
    assert verdict(html).startswith("12 of 13 recorded frames matched")
    assert html.count("not in the model") == 1
    assert re.findall(r'<tr class="(\w+) ', html).index("lost") <= 2


def test_a_frame_outside_the_model_is_listed_but_not_counted() -> None:
    html = evidence.draw(["__schedule+4", *RECORDED], ACCEPT, "x", outside={"__schedule"})
    assert verdict(html).startswith("12 of 12")
    assert "outside the model" in html


def test_the_order_counts() -> None:
    a, b = frames("outer_a inner_b")
    rows = evidence.align(["inner_b", "outer_a"], (a, b))
    assert sum(1 for r in rows if r.recorded and r.model) == 1


@pytest.mark.parametrize(
    "recorded", ["kvm_vcpu_kick", "kvm_vcpu_kick+0x1a/0x80", "kvm_vcpu_kick.part.0+12", "kvm_vcpu_kick+0x1a/0x80 [kvm]"]
)
def test_spellings_of_one_frame(recorded: str) -> None:
    assert evidence.name_of(recorded) == "kvm_vcpu_kick"


def test_top_of_a_page() -> None:
    known = page.how_known(("source", "6.1 to 7.3"), ("recalled", ""))
    assert "read in source · 6.1 to 7.3" in known
    assert known._repr_html_() == known
    held = page.kernels(["6.12", "6.1", "7.2"], {"5.10": "same outcome, other code"})
    assert re.findall(r'class="km-kernel[^>]*>([^<]+)<', held) == ["5.10 ±", "6.1", "6.12", "7.2"]
    with pytest.raises(ValueError, match="unknown badge"):
        page.how_known(("guessed", ""))
