"""Names on pages: every one is known to the facts, and what is not is told with its line."""

import re
from pathlib import Path
from types import SimpleNamespace

import pytest
from docutils import nodes
from docutils.utils import new_document

from kvmbook.known import wrong_in_literal, wrong_in_prose
from kvmbook.names import PAGE, link, wrong
from kvmbook.prose import pieces
from kvmmodel.facts import load
from kvmmodel.facts.functions import FUNCTIONS
from kvmmodel.facts.names import names
from kvmmodel.facts.releases import changes

BOOK = Path(__file__).parents[2] / "book"
PAGES = sorted(BOOK.glob("*.md"))
HOW = {"recorded", "source", "mail", "manual", "inferred", "recalled"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_names_nothing_that_the_facts_do_not_know(page):
    assert list(wrong(page.read_text(encoding="utf8"))) == []


@pytest.mark.parametrize(
    ("literal", "phrase"),
    [
        ("kvm_vcpu_kik", "function kvm_vcpu_kik"),
        ("kick()", "function kick"),
        ("apic_update_ppr <- kvm_set_cr9", "function kvm_set_cr9"),
        ("avik=1", "parameter avik"),
        ("avic=1 forced_avic=1", "function forced_avic"),
        ("IRQWINDOW", "name IRQWINDOW"),
        ("KVM_REQ_EVENTS", "name KVM_REQ_EVENTS"),
        ("-KVM_ENOTHING", "name -KVM_ENOTHING"),
        ("vcpu->mood", "member vcpu->mood"),
        ("arch/x86/kvm/svm/apic.c", "file arch/x86/kvm/svm/apic.c"),
        ("lapics.c", "file lapics.c"),
        ("0123456789ab", "commit 0123456789ab"),
        ("kvmmodel exlpain FILE", "command kvmmodel exlpain"),
        ("-machine pit=maybe", "option -machine pit=maybe"),
        ("Host(open_point={})", "argument open_point of Host"),
        ("create_vm(pv=[])", "argument pv of create_vm"),
        ("bpftrace -e 'tracepoint:kvm:kvm_apicv_inhibit_change { printf(1) }'", "function kvm_apicv_inhibit_change"),
    ],
)
def test_a_literal_with_a_wrong_name_is_told(literal, phrase):
    assert phrase in list(wrong_in_literal(literal))


@pytest.mark.parametrize(
    "literal",
    [
        "kvm_vcpu_kick",  # a function
        "__kvm_vcpu_kick",  # its name in other releases
        "avic=1 force_avic=1",  # parameters
        "IRQWIN",  # an inhibit
        "x2avic_eoi_read",  # an open point
        "cr8_recomputed_on_ppr",  # a behaviour
        "kvm_exit",  # a tracepoint
        "avic_unaccelerated_access",  # an exit reason as kvm_exit prints it
        "WRMSR 0x80b",  # an instruction
        "svm/avic.c",  # a file, by the end of its path
        "Host(..., open_points={...})",  # Python that exists
        "create_vm(pv_features=[])",
        "kvmmodel explain FILE",
        "0xfee000b0",  # what has no rule
        "AVIC enabled",
        "interrupt",
    ],
)
def test_what_is_known_passes(literal):
    assert list(wrong_in_literal(literal)) == []


@pytest.mark.parametrize(
    ("text", "phrases"),
    [
        ("Since 6.17 it is so.", []),
        ("6.12.117 has it, up to 5.19 none.", []),
        ("It came with 6.99.", ["release 6.99"]),
        ("Read in 6.12.118.", ["release 6.12.118"]),
        ("Section 15.29.6, Python 3.11 and 1.5 µs", []),
        ("commit ca2967de5a5b, not ca2967de5a5c", ["commit ca2967de5a5c"]),
        ("APIC_BASE and is_run, but no is_walking", ["name is_walking"]),
        ("KVM_REQ_NOTHING", ["name KVM_REQ_NOTHING"]),
    ],
)
def test_prose_is_checked_for_releases_commits_and_code(text, phrases):
    assert list(wrong_in_prose(text)) == phrases


def test_a_page_is_checked_by_its_pieces_and_told_by_line():
    page = "---\nlive: true\n---\n# A\n\nSee `kvm_none`,\nand {since}`gravity`.\n\n| a |\n|---|\n| `kvm_no_way` |\n"
    found = list(wrong(page))
    assert [line for line, _ in found] == [6, 7, 11]
    assert found[0][1] == "function kvm_none"
    assert found[1][1].startswith("since of gravity: no behaviour")


def test_what_the_build_puts_in_is_not_a_name():
    assert list(wrong("Some {{ going_live }} are loaded once.")) == []


def test_cells_are_not_prose_and_what_they_import_is_known():
    cell = (
        "```{code-cell} ipython3\n:tags: [hide-input]\nfrom kvmmodel.widgets.ppr import tpr_releases\n\nno_name()\n```"
    )
    page = f"{cell}\n\n`tpr_releases` runs.\n"
    assert list(wrong(page)) == []
    assert [piece.kind for piece in pieces(page)] == ["literal", "text"]


def test_every_row_of_the_tables_has_a_name_and_an_address_of_its_own():
    known = names()
    tables = (FUNCTIONS, load("params"), load("inhibits"), changes(), load("open_points"), *load("words").values())
    assert set(known) == {name for table in tables for name in table}
    anchors = [name.anchor for name in known.values()]
    assert len(set(anchors)) == len(anchors)


def test_words_say_what_they_are_where_they_were_read_and_how_they_are_known():
    for kind, table in load("words").items():
        for name, row in table.items():
            assert set(row) <= {"does", "source", "how"}, (kind, name)
            assert row["does"], name
            assert not row["does"].endswith("."), name
            assert row["source"], name
            assert row.get("how", "source") in HOW, name
            assert name not in FUNCTIONS, name
            assert name not in load("params"), name


def test_the_page_has_every_kind_of_row():
    listed = set(re.findall(r"```{names} (.*)", (BOOK / "names.md").read_text(encoding="utf8")))
    areas = {f"behaviour {change.area}" for change in changes().values()}
    modules = {f"function {function.module}" for function in FUNCTIONS.values()}
    words = set(load("words")) - {"file", "commit"}
    assert listed == {"release", "parameter", "bits", "inhibit", "open point"} | areas | modules | words


def linked(*sections: str) -> list[list[str]]:
    """The addresses that names lead to, by section: a section is its literals, with blanks between."""
    document = new_document("page")
    for text in sections:
        words = [nodes.literal(text=word) for word in text.split()]
        document += nodes.section(
            "", nodes.title("", "", nodes.literal(text="IRQWIN")), nodes.paragraph("", "", *words)
        )
    env = SimpleNamespace(found_docs={PAGE})
    builder = SimpleNamespace(get_relative_uri=lambda _, page: f"{page.partition('/')[2]}.html")
    link(SimpleNamespace(env=env, builder=builder), document, "book/page")
    return [[ref["refuri"] for ref in part.findall(nodes.reference)] for part in document.findall(nodes.section)]


def test_a_name_leads_to_its_row_at_its_first_mention_in_a_section_and_not_from_a_title():
    kick, window = "names.html#function-kvm_vcpu_kick", "names.html#inhibit-IRQWIN"
    assert linked("kvm_vcpu_kick IRQWIN kvm_vcpu_kick 0x41", "kvm_vcpu_kick") == [[kick, window], [kick]]


def test_instructions_and_what_nobody_knows_lead_nowhere():
    assert linked("HLT kvm_no_way interrupt") == [[]]
