"""The list of open points."""

import xml.etree.ElementTree as ET

from kvmmodel.facts import open_points as facts
from kvmmodel.widgets.open_points import open_points


def test_each_point_has_all_its_choices_and_one_is_marked_as_taken() -> None:
    shown = ET.fromstring(str(open_points()))
    points = list(facts.open_points().values())
    answers = shown.findall("dd")
    assert [dt.findtext("code") for dt in shown.findall("dt")] == [point.id for point in points]
    for point, answer in zip(points, answers, strict=True):
        items = answer.findall("ul/li")
        assert [item.findtext("code") for item in items] == list(point.choices)
        assert [item.findtext("code") for item in items if item.find("b") is not None] == [point.default]
