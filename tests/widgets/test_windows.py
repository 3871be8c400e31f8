"""The options board: what it says, and that it follows its controls."""

import xml.etree.ElementTree as ET
from collections import Counter

import pytest

from kvmmodel.facts.releases import series
from kvmmodel.widgets.windows import CHOICES, command, done, draw, exits, heading, static, told, verdict, windows_board
from kvmmodel.widgets.windows_run import Options, run


def text(html):
    return " ".join(" ".join(ET.fromstring(f"<x>{html}</x>").itertext()).split())


@pytest.mark.parametrize("kernel", series())
@pytest.mark.parametrize("broken", [False, True])
def test_every_release_can_be_drawn(kernel, broken):
    made = run(Options(kernel=kernel, avic=True), broken)
    shown = text(heading(made) + draw(made) + static(made))
    assert ("Broken on purpose" in shown) == broken
    assert ("QEMU refuses this: hv-avic is not supported by this kernel" in shown) == (kernel == "5.10")


def test_the_command_has_what_the_options_require():
    assert command(Options()) == (
        "qemu-system-x86_64 -accel kvm -cpu host,hv-relaxed,hv-vpindex,hv-synic,hv-time,hv-stimer,hv-vapic ..."
    )
    assert command(Options(stimer="direct", avic=True, vapic=False, pit="discard", x2apic=False, svm=False)) == (
        "qemu-system-x86_64 -accel kvm -cpu host,hv-relaxed,hv-vpindex,hv-synic,hv-time,hv-stimer,hv-stimer-direct,"
        "hv-avic,-x2apic,-svm -global kvm-pit.lost_tick_policy=discard ..."
    )


def test_what_the_guest_is_told_and_does():
    camp = run(Options())
    assert told(camp) == ("use Hyper-V's MSRs for EOI, ICR and TPR (bit 3)",)
    assert done(camp)[1] == "has a source in its SynIC with AutoEOI"
    both = run(Options(avic=True))
    assert told(both) == ("do not use AutoEOI (bit 9)",)
    assert done(both) == ("uses its own x2APIC for EOIs and IPIs", "has a source in its SynIC and none with AutoEOI")
    none = run(Options(synic=False, stimer="off", vapic=False, x2apic=False))
    assert (told(none), done(none)) == (("nothing that matters here",), ("uses its own xAPIC for EOIs and IPIs",))


def test_a_cell_of_the_bill_names_its_exits_the_most_frequent_first():
    assert exits(Counter({"hlt": 1, "msr": 20})) == "21: `msr` 20, `hlt` 1"
    assert exits(Counter()) == "0"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (Options(pit="discard"), "Stuck."),
        (Options(pit="discard", avic=True), "Nothing changes."),
        (Options(), "Nothing lost."),
        (Options(pit="discard", stimer="direct"), "Nothing lost."),
    ],
)
def test_the_verdict_on_the_rule_that_is_left_out(options, said):
    made = run(options, broken=True)
    assert verdict(made)[0] == said
    assert said in text(draw(made))


def test_the_widget_follows_its_controls():
    widget = windows_board()
    assert widget.result is not None
    assert widget.result.board.inhibits == {"HYPERV", "PIT_REINJ"}
    widget.choose(pit="discard", avic=True)
    assert widget.result.active == (True, True)
    widget.choose(broken=True)
    assert widget.result.broken
    bundle = widget._repr_mimebundle_()
    assert "No. Two reasons inhibit it" in bundle["text/html"]
    classes = {name for child in widget.children[2].children for name in child._dom_classes}
    assert {f"km-choice-{choice.key}" for choice in CHOICES} | {"km-break"} <= classes


def test_a_vm_that_cannot_be_made_is_one_line(monkeypatch):
    widget = windows_board()
    monkeypatch.setattr("kvmmodel.widgets.windows.run", lambda *_: 1 / 0)
    widget.choose(kernel="6.12")
    assert widget.result is None
    assert widget.error == "This VM could not be made. ZeroDivisionError: division by zero"
