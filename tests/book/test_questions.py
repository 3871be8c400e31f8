"""Every line of the notes that asks, and each of the 21 questions of users, leads to a section that is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from kvmbook.questions import Question, Target, answered, asked, read, target

BOOK = Path(__file__).parents[2] / "book"
LISTS = read(BOOK / "questions.toml")
ALL = [*LISTS["notes"], *LISTS["users"]]
PARTS = yaml.safe_load((BOOK.parent / "_toc.yml").read_text())["parts"]
TOC = {Path(entry["file"]).name for part in PARTS for entry in part["chapters"]}


def name(question: Question) -> str:
    return question.said or str(question.number)


def headings(page: str) -> list[str]:
    """The headings of a page as written, without those in its code cells and other fences."""
    text = re.sub(r"^```.*?^```", "", (BOOK / f"{page}.md").read_text(encoding="utf8"), flags=re.S | re.M)
    return re.findall(r"^#{1,3} (.+)$", text, re.M)


@pytest.mark.parametrize("question", ALL, ids=name)
def test_a_question_has_words_an_answer_and_a_section(question: Question) -> None:
    assert question.text.strip()
    assert len(question.answer.split()) >= 5
    assert question.to
    for goal in question.to:
        assert goal.page in TOC
        found = headings(goal.page)
        assert goal.heading is None or found.count(goal.heading) == 1, f"{goal.page} has {found}"


def test_all_of_the_users_questions_are_there() -> None:
    assert sorted(question.number for question in LISTS["users"]) == list(range(1, 22))
    assert all(question.sources for question in LISTS["users"])


def test_the_notes_lines_are_as_they_were_written() -> None:
    """Chinese for the most part, each line once; the names that stand alone are the notes' two headings."""
    said = [question.said for question in LISTS["notes"]]
    assert len(set(said)) == len(said) >= 26
    assert [line for line in said if not re.search(r"[\u4e00-\u9fff]", line)] == ["svm_enable_irq_window", "vgif"]


def test_what_asks_with_a_question_mark_is_there() -> None:
    marked = {question.said.removesuffix("?").strip() for question in LISTS["notes"] if question.said.endswith("?")}
    assert marked >= {
        "x2apic 和 x2avic 是啥关系",
        "难道是 apic 来模拟的吗",
        "到底中断是如何注入的",
        "server 上也是吗",
        "如何理解 cr8 intercept",
        "这里是在动态的计算,到底是为了什么",
        "看看这个 cat /sys/module/kvm_amd/parameters/avic 如何理解",
    }


def test_an_address_is_one_of_a_source_or_left_out() -> None:
    for question in LISTS["users"]:
        for text, address in question.sources:
            assert text
            assert not address or address.startswith("https://")


def test_a_target_with_a_heading_links_to_its_section_and_one_without_to_its_page() -> None:
    assert target("cr8: The computation") == Target("cr8", "The computation")
    assert target("cr8").link() == "[](cr8.md)"
    assert target("avic-default: Why `enable_ipiv` is N where `avic` is Y").link() == (
        "[](<avic-default.md#why-enable_ipiv-is-n-where-avic-is-y>)"
    )


def test_a_row_as_markdown() -> None:
    row = Question(
        "", 7, "Why?", "Because.", (target("cr8: The computation"),), (("a mail", ""), ("x 1", "https://x/1"))
    )
    assert asked(row) == ["**7.** Why?", "*a mail; [x 1](https://x/1)*"]
    assert answered(row) == ["Because.", "→ [](<cr8.md#the-computation>) (cr8)"]
