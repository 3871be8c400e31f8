"""The tables of the page on Windows guests: computed from runs, and equal to what was published where that can be."""

import xml.etree.ElementTree as ET

from kvmmodel.facts import load
from kvmmodel.widgets.windows_tables import ADVICE, advice_table, price_table, published_table, relations


def rows(html):
    return [["".join(cell.itertext()) for cell in row] for row in ET.fromstring(f"<x>{html}</x>").iter("tr")]


def test_which_advice_wins_by_release():
    head, *body = rows(advice_table())
    assert head == ["option", "5.10", "5.15", "6.1 to 7.3"]
    assert len(body) == len(ADVICE)
    assert body[0][1:] == ["no: HYPERV"] * 3
    assert body[1][1:] == ["QEMU refuses", "AVIC", "AVIC"]
    assert body[2][1:] == ["AVIC"] * 3
    assert body[4][1:] == ["no: X2APIC", "no: X2APIC", "AVIC"]
    assert body[5][1:] == ["no: NESTED", "no: NESTED", "AVIC"]
    assert body[-1][1:] == ["QEMU refuses", "no: NESTED, X2APIC", "AVIC"]


def test_the_price_of_each_way():
    _, *body = rows(price_table())
    assert [tuple(row[1:]) for row in body] == [
        ("no: HYPERV", "20: msr 10, interrupt 10", "20: msr 10, hlt 10; timer"),
        ("no: HYPERV", "30: msr 20, interrupt 10", "30: msr 20, hlt 10; timer"),
        ("on", "20: msr 20", "40: io 20, hlt 10, msr 10; RTC"),
        ("on", "0", "30: io 20, hlt 10; RTC"),
        ("on", "0", "20: msr 10, hlt 10; timer"),
    ]


def test_the_published_counts_say_what_the_model_says():
    """KVM injects all or nothing; with AVIC the bit is never armed; an MSR write for each IPI and each other EOI."""
    synic, avic = (one["counts"] for one in load("published_counts").values())
    assert synic["kvm_inj_virq"] / synic["kvm_apic_accept_irq"] > 0.98
    assert (avic["kvm_inj_virq"], avic["kvm_pv_eoi"]) == (0, 0)
    for counts in (synic, avic):
        by_msr = counts["kvm_apic_ipi"] + counts["kvm_eoi"] - counts["kvm_pv_eoi"]
        assert abs(counts["kvm_msr"] - by_msr) < 25
    assert relations(avic)[3:5] == ("99,294", "99,274")
    _, *body = rows(published_table())
    assert [row[4] for row in body] == ["0 of 10", "10 of 10", "0 of 10", "20", "20", "0, 0", "20"]
    assert [row[1:3] for row in body[5:]] == [["1,029, 1,029", "10, 9"], ["0", "0"]]  # the last EOI waits for an exit
    assert body[0][2] == "10 of 10"
    assert body[3][2] == body[4][2]
