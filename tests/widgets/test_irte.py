"""The IOMMU's entry as a field bar."""

import re
from xml.etree import ElementTree

from kvmmodel.silicon.iommu import Irte, words
from kvmmodel.trace.story import IrteState
from kvmmodel.widgets import irte
from kvmmodel.widgets.devices import device_explained
from kvmmodel.widgets.ipi import ipi_story


def state(**fields):
    return IrteState(40, *words(Irte(**fields)))


def test_posted():
    entry = state(guest_mode=True, vector=0x63, ga_root_ptr=0x1_0000_2000, ga_tag=0x1002, is_run=True, destination=5)
    assert irte.fields(entry) == (
        ("page", "115:76", "0x100002000"),
        ("vector", "71:64", "0x63"),
        ("GA tag", "63:32", "0x1002"),
        ("destination", "31:8", "CPU 5"),
        ("guest mode", "7", "1"),
        ("is_run", "6", "1"),
        ("GALogIntr", "2", "0"),
    )


def test_remapped_the_same_bits_mean_something_else():
    found = {name: value for name, _, value in irte.fields(state(vector=0x22, destination=6))}
    assert found == {
        "page": "—",
        "vector": "0x22",
        "GA tag": "—",
        "destination": "CPU 6",
        "guest mode": "0",
        "dest mode": "physical",
        "type": "Fixed",
    }


def test_what_a_step_changed_is_marked():
    story = device_explained("halted", "on")
    changed = next(i for i, step in enumerate(story.steps) if step.label == "`is_run` := 0, GALogIntr 1")
    assert re.findall("<mark>(.*?)</mark>", irte.draw(story, changed)) == ["was CPU 5", "0", "1"]
    assert "<mark>" not in irte.draw(story, changed + 1)
    ElementTree.fromstring(irte.draw(story, changed))


def test_no_bar_in_a_story_of_no_device():
    assert irte.draw(ipi_story(), 0) == ""
