"""Two runs side by side: what faces what."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from kvmmodel.trace import align
from kvmmodel.trace.story import StackFrame, Step, Story

WORDS = st.lists(st.sampled_from("abc"), max_size=7)


def common(left, right):
    """The length of the longest common subsequence, the slow way."""
    if not left or not right:
        return 0
    if left[0] == right[0]:
        return 1 + common(left[1:], right[1:])
    return max(common(left[1:], right), common(left, right[1:]))


@given(WORDS, WORDS)
def test_both_sides_are_whole_and_as_much_as_possible_is_equal(left, right):
    pairs = align.align(left, right)
    assert [i for i, _ in pairs if i is not None] == list(range(len(left)))
    assert [j for _, j in pairs if j is not None] == list(range(len(right)))
    facing = [(i, j) for i, j in pairs if i is not None and j is not None]
    assert all(left[i] == right[j] for i, j in facing)
    assert len(facing) == common(left, right)


def test_what_only_the_left_has_comes_first():
    assert align.align("axb", "ayb") == [(0, 0), (1, None), (None, 1), (2, 2)]


def step(label, *names):
    return Step("read", "k", None, label, "", "", "", (), tuple(StackFrame(n, "kvm") for n in names), "", ())


def story(*steps):
    return Story("t", "s", (), (), (), steps)


def test_marks_of_steps():
    left = story(step("a", "f"), step("b", "g", "f"), step("only left"))
    right = story(step("a", "f"), step("b", "h", "f"), step("only right"))
    rows = align.steps(left, right)
    assert [row.mark for row in rows] == ["=", "±", "−", "+"]
    assert [(row.left and row.left.label, row.right and row.right.label) for row in rows[2:]] == [
        ("only left", None),
        (None, "only right"),
    ]


def test_the_same_words_in_another_lane_are_another_step():
    one = step("a", "f")
    assert [row.mark for row in align.steps(story(one), story(replace(one, at="g")))] == ["−", "+"]


def test_marks_of_frames():
    rows = align.frames(step("a", "in", "fast", "out"), step("a", "in", "slow", "slower", "out"))
    assert [(row.left or row.right).name + row.mark for row in rows] == ["in=", "fast−", "slow+", "slower+", "out="]
