"""The inhibit board: what a VM's mask is on each release, how it came about, and what the board says of it."""

import xml.etree.ElementTree as ET

import pytest

from kvmmodel.facts.inhibits import reasons
from kvmmodel.facts.releases import kernel, series
from kvmmodel.widgets.inhibit_board import (
    answer,
    decoded,
    draw,
    heading,
    inhibit_board,
    inhibit_trace,
    reasons_table,
    static,
)
from kvmmodel.widgets.inhibit_run import SWITCHES, board
from kvmmodel.widgets.parts import styled

QUIET = {"pit": False, "x2apic": False}
SINCE_6_1 = series()[2:]
ALONE = {
    "sev": ("SEV", "6.1", "sev_guest_init"),
    "extint": ("IRQWIN", "5.10", "svm_enable_irq_window"),
    "autoeoi": ("HYPERV", "5.15", "synic_update_vector"),
    "id": ("APIC_ID_MODIFIED", "6.1", "kvm_recalculate_apic_map"),
    "ldr": ("LOGICAL_ID_ALIASED", "6.6", "kvm_recalculate_apic_map"),
    "base": ("APIC_BASE_MODIFIED", "6.1", "__kvm_apic_set_base"),
    "blockirq": ("BLOCKIRQ", "6.1", "kvm_arch_vcpu_guestdbg_update_apicv_inhibit"),
}


def parsed(html):
    return ET.fromstring(f"<x>{html}</x>")


def text(html):
    return " ".join("".join(parsed(html).itertext()).split())


@pytest.mark.parametrize("name", series())
def test_qemus_default_is_inhibited_on_every_release(name):
    made = board(name)
    assert "PIT_REINJ" in made.inhibits
    assert ("X2APIC" in made.inhibits) == (name in ("5.10", "5.15"))
    assert made.moments[-1].label == "create PIT"
    assert answer(made)[0].startswith("No.")


@pytest.mark.parametrize("name", series())
def test_nothing_special_is_not(name):
    made = board(name, **QUIET)
    assert (made.mask, made.own) == (0, frozenset())
    assert answer(made)[0] == "Yes. No reason is set."
    assert made.moments[-1].inhibits == set()


@pytest.mark.parametrize("key", ALONE)
@pytest.mark.parametrize("name", series())
def test_each_switch_sets_its_reason_where_the_release_has_it(name, key):
    reason, since, _ = ALONE[key]
    made = board(name, **QUIET, **{key: True})
    has = series().index(name) >= series().index(since)
    wanted = {reason} if has or reason == "HYPERV" else set()
    assert made.inhibits == wanted


@pytest.mark.parametrize("key", ALONE)
def test_the_function_that_set_it_comes_from_the_run(key):
    made = board("7.3", **QUIET, **{key: True})
    assert made.moments[-1].by == ALONE[key][2]


def test_another_vcpus_id_sets_three():
    made = board("6.18", **QUIET, alias=True)
    assert made.inhibits == {"PHYSICAL_ID_ALIASED", "APIC_ID_MODIFIED", "LOGICAL_ID_ALIASED"}
    assert board("6.1", **QUIET, alias=True).inhibits == {"APIC_ID_MODIFIED"}


@pytest.mark.parametrize("name", series())
def test_l2_is_in_no_mask_from_6_1_on(name):
    made = board(name, **QUIET, l2=True)
    if name in SINCE_6_1:
        assert (made.mask, made.own, made.moments[-1].own) == (0, {"NESTED"}, {"NESTED"})
        assert answer(made)[0] == "Not on vCPU 0, as long as it runs L2."
        assert "in no mask" in text(draw(made))
    else:
        assert (made.inhibits, made.own) == ({"NESTED"}, frozenset())


def test_a_window_beside_another_reason_is_lazily_set_since_7_1():
    assert "IRQWIN" in board("6.18", extint=True).inhibits
    assert "IRQWIN" not in board("7.3", extint=True).inhibits
    assert "IRQWIN" in board("7.3", extint=True, blockirq=True).inhibits


@pytest.mark.parametrize("name", series())
def test_with_the_module_off(name):
    made = board(name, off=True)
    assert "DISABLED" in made.inhibits
    assert answer(made)[0] == "No. The module has AVIC off, for every VM."


@pytest.mark.parametrize("name", series())
@pytest.mark.parametrize("on", [{}, QUIET, {switch.key: switch.key != "off" for switch in SWITCHES}])
def test_every_reason_of_the_release_is_on_the_board_once(name, on):
    made = board(name, **on)
    root = parsed(heading(made) + draw(made))
    opened = [title.findtext("code", "") for title in root.iterfind(".//div[@class='km-set']/h4")]
    opened = ["".join(title.find("code").itertext()) for title in root.iterfind(".//div[@class='km-set']/h4")]
    clear = ["".join(item.find("code").itertext()) for item in root.iterfind(".//ul[@class='km-clear']/li")]
    assert sorted(opened + clear) == sorted(one.name for one in reasons(kernel(name)))
    cells = root.findall(".//ol[@class='km-mask']/li")
    assert [cell.get("title") for cell in reversed(cells)] == [one.name for one in reasons(kernel(name))]
    assert sum(cell.get("class") == "set" for cell in cells) == len(made.inhibits)


def test_the_mask_is_told_in_words():
    image = parsed(draw(board("6.18"))).find(".//*[@role='img']")
    assert image.get("aria-label") == "apicv_inhibit_reasons = 0x200: bit 9, PIT_REINJ"


def test_what_to_change_is_an_option_where_there_is_one():
    shown = text(draw(board("6.18")))
    for option in ("-global kvm-pit.lost_tick_policy=discard", "-machine pit=off", "-machine kernel-irqchip=split"):
        assert option in shown
    assert "To change it: leave it there." in text(draw(board("6.18", **QUIET, base=True)))


def test_a_bit_means_what_its_release_says():
    assert "PIT_REINJ, bit 9" in text(decoded("0x200", "6.12").split("</style>")[1])
    assert "SEV, bit 9" in text(decoded(0x200, "6.1").split("</style>")[1])
    assert "SEV" not in decoded("0x200", "6.12").split('class="km-set"')[1]


@pytest.mark.parametrize(("value", "words"), [("PIT", "no mask in 'PIT'"), ("0x2000", "bits 0 to 12")])
def test_what_is_no_mask_gets_one_line(value, words):
    with pytest.raises(ValueError, match=words) as caught:
        decoded(value)
    assert "\n" not in str(caught.value)


def test_the_table_and_the_trace():
    rows = parsed(reasons_table("7.3")).findall(".//tbody/tr")
    assert [row.findtext("th") for row in rows][6:9] == ["6", "vCPU", "8"]
    assert inhibit_trace("6.12", pit="reinject").splitlines()[:3] == [
        "kvm_apicv_inhibit_changed: set reason=2, inhibits=0x4 ABSENT",
        "kvm_apicv_inhibit_changed: cleared reason=2, inhibits=0x0",
        "kvm_apicv_inhibit_changed: set reason=9, inhibits=0x200 PIT_REINJ",
    ]
    assert inhibit_trace("5.15", pit="reinject", x2apic=False) == "kvm_apicv_update_request: deactivate bit=4"


def test_the_widget_follows_its_controls():
    widget = inhibit_board()
    assert widget.board.mask == 0x200
    widget.choose(pit=False)
    assert answer(widget.board)[0].startswith("Yes")
    widget.choose("5.15")
    assert widget.board.inhibits == {"X2APIC"}
    with pytest.raises(KeyError):
        widget.choose(hpet=True)


def test_readers_without_scripts_get_the_first_board():
    widget = inhibit_board(css=False)
    widget.choose(pit=False)
    picture = widget._repr_mimebundle_()["text/html"]
    assert picture == static(board("6.18"))
    assert inhibit_board()._repr_mimebundle_()["text/html"] == styled(picture)


def test_a_switch_that_there_is_not():
    with pytest.raises(KeyError):
        board("6.18", hpet=True)
