"""The chart of a load: well-formed, with every point in its place."""

import xml.etree.ElementTree as ET

import pytest

from jasaweb_rt.bench.chart import chart

SVG = "{http://www.w3.org/2000/svg}"


def drawn(points: list[tuple[str, float]], title: str = "Delays") -> ET.Element:
    return ET.fromstring(chart(title, "share", "ms", points))  # noqa: S314  # it is ours


def heights(root: ET.Element) -> list[float]:
    return [float(circle.attrib["cy"]) for circle in root.iter(f"{SVG}circle")]


def test_every_point_is_drawn_and_the_higher_value_stands_higher() -> None:
    [low, high, middle] = heights(drawn([("a", 1.0), ("b", 9.0), ("c", 5.0)]))
    assert high < middle < low


def test_nothing_but_zeros_lies_on_the_axis() -> None:
    assert heights(drawn([("a", 0.0), ("b", 0.0)])) == [340.0, 340.0]


@pytest.mark.parametrize("value", [0.003, 1.0, 7.3, 99_999.0])
def test_the_highest_point_stays_below_the_top(value: float) -> None:
    assert 50.0 <= heights(drawn([("a", value)]))[0] < 340.0


def test_text_is_escaped_and_many_labels_are_thinned_out() -> None:
    root = drawn([(f"<{number}>", float(number)) for number in range(100)], title='"Storms" & <load>')
    assert root.attrib["aria-label"] == '"Storms" & <load>'
    assert len(heights(root)) == 100
    labels = [text.text for text in root.iter(f"{SVG}text") if (text.text or "").startswith("<")]
    assert labels[0] == "<0>"
    assert len(labels) <= 12
