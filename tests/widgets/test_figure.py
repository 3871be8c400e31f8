"""What every figure promises, whatever the run: properties over generated stories, facts about hand-made ones."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from dataclasses import replace
from html import unescape

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvmmodel.trace.story import ApicState, Badge, Column, Group, StackFrame, Step, Story
from kvmmodel.widgets import apic, figure, glyphs, sequence, stack, wide
from kvmmodel.widgets.svg import cut, plain, runs, width
from tests.widgets.widget_stories import device, doorbell, halted, lost

KINDS = [*glyphs.shapes(), "never heard of"]
words = st.text(st.characters(codec="utf-8", exclude_categories=("Cs",)), max_size=60)
labels = st.one_of(words, st.sampled_from(["set IRR `0x43`", '`a_b` < `c` & "d"', "`", "<script>alert(1)</script>"]))


@st.composite
def stories(draw: st.DrawFn) -> Story:
    """Any run: one to seven columns in one to three groups, up to 25 steps, labels of any text."""
    lane = st.sampled_from(["guest", "hw", "kvm", "sched", "dev", "elsewhere"])
    columns = [Column(f"c{i}", draw(lane), draw(labels)) for i in range(draw(st.integers(1, 7)))]
    first = draw(st.integers(0, len(columns)))
    groups = tuple(Group(draw(labels), tuple(part)) for part in (columns[:first], columns[first:]) if part)
    ids = st.sampled_from([c.id for c in columns] + ["unknown"])
    bars = st.lists(st.tuples(ids, st.sampled_from(["runs", "blocked"])), max_size=4, unique_by=lambda b: b[0]).map(
        tuple
    )
    bits = st.integers(0, (1 << 256) - 1) | st.integers(0, 255).map(lambda n: 1 << n) | st.just(0)
    byte = st.integers(0, 255)
    modes = st.sampled_from(["IN_GUEST_MODE", "OUTSIDE_GUEST_MODE"])
    state = st.builds(
        ApicState, st.just(0), byte, bits, bits, bits, byte, byte, modes, st.just(("EVENT",)), st.just("blocked")
    )
    states = st.tuples(state) | st.tuples(state, state.map(lambda s: replace(s, vcpu=1)))
    frame = st.builds(StackFrame, labels, st.sampled_from(["kvm", "kvm_amd", "kernel"]), st.booleans())
    step = st.builds(
        Step, st.sampled_from(KINDS), ids, st.none() | ids, labels, labels, labels, labels, bars,
        st.lists(frame, max_size=20).map(tuple), labels, states,
    )  # fmt: skip
    badge = st.builds(Badge, st.sampled_from(["recorded", "source", "mail", "manual", "inferred", "recalled"]), labels)
    steps = tuple(draw(st.lists(step, min_size=1, max_size=25)))
    badges = tuple(draw(st.lists(badge, max_size=3)))
    end = st.none() | labels
    return Story(draw(labels), draw(labels), groups, draw(bars), draw(states), steps, badges, draw(end), draw(end))


@st.composite
def moments(draw: st.DrawFn) -> tuple[Story, int]:
    story = draw(stories())
    return story, draw(st.integers(0, len(story.steps) - 1))


def parsed(html: str) -> ET.Element:
    return ET.fromstring(f"<body>{html}</body>")


def words_of(element: ET.Element) -> str:
    return "".join(element.itertext())


def legible(text: str) -> str:
    """The text as XML may carry it: no control characters, line ends as the parser gives them."""
    text = re.sub("[^\\t\\n\\r\\x20-\\ud7ff\\ue000-\\ufffd\\U00010000-\\U0010ffff]", "\ufffd", text)
    return text.replace("\r\n", "\n").replace("\r", "\n")


def flat(text: str) -> str:
    return " ".join(text.split())


@settings(max_examples=60, deadline=None)
@given(moments())
def test_any_moment_of_any_run_is_well_formed_and_says_where_it_is(moment: tuple[Story, int]) -> None:
    story, index = moment
    page = parsed(figure.static(story, index))
    diagrams = [svg for svg in page.iter("svg") if svg.get("class", "").startswith(("km-w", "km-n"))]
    assert len(diagrams) == 2
    for svg in diagrams:
        assert svg.get("role") == "img"
        spoken = svg.get("aria-label") or ""
        assert spoken.startswith(f"Step {index + 1} of {len(story.steps)}: ")
        assert flat(legible(plain(story.steps[index].label))) in flat(spoken)
        assert len([g for g in svg.iter("g") if g.get("class", "").startswith("km-row")]) == len(story.steps)
    rows = [li for ol in page.iter("ol") if ol.get("class") == "km-steps" for li in ol]
    assert len(rows) == len(story.steps)
    assert [i for i, li in enumerate(rows) if li.get("aria-current") == "step"] == [index]
    for li, step in zip(rows, story.steps, strict=True):
        assert legible(plain(step.label)) in words_of(li)


@settings(max_examples=30, deadline=None)
@given(moments())
def test_ids_are_unique_and_every_texture_that_is_used_exists(moment: tuple[Story, int]) -> None:
    story, index = moment
    page = parsed(
        figure.render(story, index, id="one") + figure.render(story, index, id="two") + figure.static(story, index)
    )
    ids = [e.get("id") for e in page.iter() if e.get("id")]
    assert len(ids) == len(set(ids))
    used = {m for e in page.iter() for m in re.findall(r"url\(#([^)]+)\)", e.get("fill", ""))}
    assert used <= set(ids)


@settings(max_examples=30, deadline=None)
@given(moments())
def test_labels_stay_inside_the_wide_drawing(moment: tuple[Story, int]) -> None:
    story, _ = moment
    for row in range(len(story.steps)):
        spot = wide.place(story, row)
        long = width(spot.text, bold=True)
        left = {"start": spot.x, "middle": spot.x - long / 2, "end": spot.x - long}[spot.anchor]
        if len(plain(spot.text)) > 2:
            assert left >= wide.LEFT - 1
            assert left + long <= wide.RIGHT + 1


@given(words)
def test_backticks_only_mark(text: str) -> None:
    assert plain(text).replace("`", "") == text.replace("`", "")
    assert text.count("`") % 2 == plain(text).count("`") % 2
    assert not any(part == "" for part, _ in runs(text))


@given(labels, st.floats(20, 300))
def test_a_cut_label_fits_and_says_that_it_is_cut(text: str, room: float) -> None:
    short = cut(text, room)
    assert short == text or (short.endswith("…") and (width(short) <= room or len(plain(short)) <= 2))


def test_text_from_a_story_is_never_markup() -> None:
    story = halted()
    evil = replace(
        story, title="<img src=x>", steps=(replace(story.steps[0], label="<b onclick='x'>", sentence="a & b < c"),)
    )
    html = figure.static(evil, 0)
    assert "<img" not in html
    assert "<b onclick" not in html
    assert "a & b < c" in unescape(html)


@pytest.mark.parametrize("make", [halted, doorbell, lost, device])
def test_each_step_keeps_every_lane_and_row_where_it_was(make: object) -> None:
    story = make()  # type: ignore[operator]
    sizes = {re.findall(r'viewBox="0 0 720 ([\d.]+)"', figure.render(story, i))[0] for i in range(len(story.steps))}
    assert len(sizes) == 1


def test_the_present_step_is_yellow_in_the_sentence_the_row_the_stack_and_the_bit() -> None:
    page = parsed(figure.render(halted(), 3))
    say = next(e for e in page.iter("div") if e.get("class") == "km-say")
    assert words_of(say) == "Step 4 · KVM on CPU 2KVM sets bit 0x43 in its IRR."
    assert sum(e.get("class") == "km-band" for e in page.iter()) == 1
    assert [words_of(e) for e in page.iter("mark")] == ["0x43"]
    assert sum(e.get("class") == "km-bit now" for e in page.iter()) == 1
    acting = [words_of(e) for e in page.iter("li") if e.get("aria-current") == "true"]
    assert acting == ["__apic_accept_irqkvm"]


def test_a_run_without_kernel_code_says_so() -> None:
    assert "No kernel stack." in figure.render(doorbell(), 4)


def test_a_long_stack_is_folded_away_but_complete() -> None:
    story = halted()
    html = stack.draw(story, story.steps[7])
    page = parsed(html)
    assert [words_of(e) for e in page.iter("summary")] == ["9 more, down to the ioctl"]
    names = [words_of(e.find("span")) for e in page.iter("li")]  # type: ignore[arg-type]
    assert names == [f.name for f in story.steps[7].stack]


def test_the_verdict_of_a_broken_run_comes_at_its_end_only() -> None:
    story = lost()
    shown = ["Lost wake-up" in figure.render(story, i) for i in range(len(story.steps))]
    assert shown == [False] * 6 + [True]
    assert all("Broken on purpose." in figure.render(story, i) for i in range(len(story.steps)))


def test_a_label_keeps_off_bars_of_running_code_where_it_can() -> None:
    spot = wide.place(halted(), 8)  # to the left, KVM on CPU 2 is still running
    assert spot.anchor == "start"
    assert wide.place(doorbell(), 4).lift  # neither side has room: above its own arrow


def test_bitmaps_as_text() -> None:
    assert apic.listed(0) == "empty"
    assert apic.listed(1 << 0x43 | 1 << 0xEF) == "0x43 0xef"
    assert apic.listed((1 << 10) - 1) == "0x00 0x01 0x02 0x03 0x04 and 5 more"


def test_optional_rows_stay_for_the_whole_run() -> None:
    story = halted()
    for i in range(len(story.steps)):
        assert re.findall("<dt>(.*?)</dt>", figure.render(story, i)).count("requests") == 1


def test_an_unknown_kind_is_a_dot_and_a_step_past_the_end_is_the_last() -> None:
    assert glyphs.shape("never heard of") == glyphs.shapes()["dot"]
    assert sequence.draw(lost(), 99) == sequence.draw(lost(), 6)


def test_every_glyph_is_well_formed() -> None:
    for kind in glyphs.shapes():
        ET.fromstring(f"<g>{glyphs.shape(kind)}</g>")
    assert {glyphs.shape(kind) for kind in glyphs.ALIASES}.isdisjoint({glyphs.shapes()["dot"]})
