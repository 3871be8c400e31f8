"""The answer as it is drawn: the verdict in words, each path beside the model's, links, and what nobody knows."""

import xml.etree.ElementTree as ET
from functools import cache
from pathlib import Path

import pytest

from kvmmodel.explain.report import answer, ask
from kvmmodel.explain.search import Search
from kvmmodel.widgets.explain import EXAMPLE
from kvmmodel.widgets.explained import FULL, MOST, Shown, draw, heading, link, refused, static, verdict

DATA = Path(__file__).parents[1] / "evidence" / "data"


def block(frames, count=1):
    return "@[\n" + "".join(f"    {name}+1\n" for name in frames.split()) + f"]: {count}\n"


SYNC = "apic_update_ppr kvm_set_cr8 svm_vcpu_run"


def explained(text, kernel="6.12"):
    asked = ask(text, kernel)
    search = Search(asked.wanted(), asked.kernel)
    while not search.settled:
        search.step()
    return Shown(answer(asked, search.match, search.kernels), search.open, told="reader" if kernel else "")


@cache
def example():
    return explained(EXAMPLE)


def parsed(html):
    return ET.fromstring(f"<x>{html}</x>")


def text(html):
    return " ".join(" ".join(parsed(html).itertext()).split())


def all_by(html, css):
    return [one for one in parsed(html).iter() if css in (one.get("class") or "").split()]


def test_the_verdict_comes_first_and_is_what_a_screen_reader_gets():
    (first, *_), (found, *_) = parsed(draw(example())), all_by(draw(example()), "km-found")
    assert first[0].get("class") == "km-found"
    assert "".join(found.itertext()).startswith("The model takes both paths, too.")


def test_findings_have_their_reason():
    (claim, because), *_ = all_by(draw(example()), "km-tells")[0]
    assert "".join(claim.itertext()).startswith("A PV EOI was used, so AVIC was not active on that vCPU")
    assert "".join(because.itertext()).endswith("(line 1; 124 in all)")


def test_each_path_has_its_story_its_page_its_run_and_its_frames_beside_the_models():
    often, rare = all_by(draw(example()), "km-one")
    words = " ".join("".join(often.itertext()).split())
    assert words.startswith("467 times line 11, bpftrace map")
    assert "After every #VMEXIT" in words
    assert "kernel 6.12, scenario lab, Zen 4, avic=N." in words
    assert "8 of 8 recorded frames in the model" in words
    rows = [row for row in often.iter("tr") if row.get("class")]
    assert sum("same" in row.get("class") for row in rows) == 8
    recorded = ["".join(row[0].itertext()) for row in rows if row[0].text is not None or len(row[0])]
    assert "svm_vcpu_run+1260" in recorded
    (page,) = (a for a in rare.iter("a"))
    assert page.get("href") == "pv-eoi.html"


def test_a_link_works_beside_the_other_pages_and_names_the_file_where_links_do_not_work():
    (line,) = parsed(link("book/ppr.html"))
    anchor, file = line
    assert (anchor.get("href"), anchor.get("target")) == ("ppr.html", "_blank")
    assert "".join(anchor.itertext()) == "Why is apic_update_ppr still hot with AVIC on?"
    assert file.text == " book/ppr.md"


@pytest.mark.parametrize(
    ("words", "kernel", "said"),
    [
        (block(SYNC), "6.12", ("eoi", "The model takes this path, too.", "1 distinct stack, seen 1 time.")),
        (block(SYNC) * 2, None, ("eoi", "The model takes this path, too.",
                                 "1 distinct stack, seen 2 times. This is on 5.10 to 7.3.")),
        (block("kvm_frobnicate svm_vcpu_run"), None, ("no", "The model takes it in no run.",
                                                     "1 distinct stack, seen 1 time. Not known: `kvm_frobnicate`.")),
        (block(SYNC) + block("schedule do_syscall_64"), "6.12",
         ("eoi", "The model takes this path, too.", "2 distinct stacks, seen 2 times. "
          "1 stack without any function of KVM: not compared.")),
        (block("schedule do_syscall_64"), "6.12", ("dot", "There is no function of KVM in it.",
                                                   "1 distinct stack, seen 1 time.")),
        (block(SYNC) + block("kvm_frobnicate svm_vcpu_run"), "6.12",
         ("no", "The model takes 1 of 2 paths.", "2 distinct stacks, seen 2 times. Not known: `kvm_frobnicate`.")),
    ],
)  # fmt: skip
def test_the_verdict_in_words(words, kernel, said):
    assert verdict(explained(words, kernel)) == said


def test_stacks_that_no_one_release_has_may_be_of_several_hosts():
    old = "kvm_x2apic_icr_write handle_fastpath_set_msr_irqoff"
    new = "__kvm_x2apic_icr_write __handle_fastpath_wrmsr"
    assert verdict(explained(block(old) + block(new), None))[2].endswith(
        "No one release has all of them: the text may be of several hosts."
    )


def test_a_function_that_the_chosen_release_lacks_says_that_the_choice_may_be_wrong():
    html = draw(explained(block("kvm_x2apic_icr_write handle_fastpath_set_msr_irqoff"), "7.3"))
    shown = "".join(parsed(html).itertext())
    assert "No run of the model has it." in shown
    assert "handle_fastpath_set_msr_irqoff is not in the model of 7.3; in 5.10 to 6.12 it is." in shown


def test_frames_that_nobody_knows_are_marked():
    (frames,) = all_by(draw(explained(block("kvm_frobnicate svm_vcpu_run"))), "km-stack")
    assert ["".join(one.itertext()).strip() for one in frames] == ["kvm_frobnicatenot known", "svm_vcpu_runkvm_amd"]


def test_a_graph_is_told_by_kinds_of_calls_and_not_beyond_its_root():
    shown = explained((DATA / "notes" / "interrupts.txt").read_text(encoding="utf-8"), None)
    html = draw(shown)
    assert "Function graph, line 102, CPU 26 1 call, 9 ways down to a leaf: 9 matched" in text(html)
    graph = all_by(html, "km-one")[-1]
    cells = ["".join(row[-1].itertext()) for row in graph.iter("tr") if row.get("class")]
    assert cells[-1].startswith("svm_complete_interrupt_delivery")
    assert "Together they are on 6.1 to 6.12." in text(html)


def test_a_whole_recording_shows_the_most_frequent_in_full_and_the_others_short():
    shown = explained((DATA / "6.12.95-avic0-nrips" / "20-hist-stacks.txt").read_text(encoding="utf-8"), "6.12.95")
    ones = all_by(draw(shown), "km-one")
    assert len(ones) == 87 <= MOST
    assert [bool(list(one.iter("table"))) for one in ones[:FULL]] == [True] * FULL
    assert not any(list(one.iter("table")) for one in ones[FULL:])
    counts = [int(one[0].text.split()[0]) for one in ones]
    assert counts == sorted(counts, reverse=True)


def test_more_stacks_than_a_page_can_show_are_counted():
    names = [f"kvm_made_up_{number}" for number in range(MOST + 3)]
    html = draw(explained("".join(block(f"{name} svm_vcpu_run") for name in names)))
    assert len(all_by(html, "km-one")) == MOST
    assert "3 rarer ones are left out here" in text(html)


@pytest.mark.parametrize("hostile", ["<script>alert(1)</script>", "&amp;\x01", "a\"'>`x`"])
def test_what_a_reader_writes_stays_text(hostile):
    made = explained(f"{hostile}\n@{hostile}[\n" + block(SYNC)[3:] + f"@[{hostile},\n" + block(SYNC)[3:])
    for html in (heading(made), draw(made), static(made, hostile), refused(hostile)):
        assert not list(parsed(html).iter("script"))
