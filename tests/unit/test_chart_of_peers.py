"""The chart of the benchmarks."""

from xml.etree import ElementTree

from benches.chart import Bar, draw

SVG = "{http://www.w3.org/2000/svg}"
BARS = [
    Bar("Cost, less is better", "ours", 1.05, "6.3 µs", is_ours=True),
    Bar("Cost, less is better", "slow & <sure>", 5.25, "31 µs, at 4/s", is_ours=False),
    Bar("Cost, less is better", "near", 1.2, "7.2 µs", is_ours=False),
    Bar("Speed, more is better", "slow & <sure>", 0.2, "30,000/s", is_ours=False),
    Bar("Speed, more is better", "ours", 8.0, "1,200,000/s", is_ours=True),
]


def drawn() -> ElementTree.Element:
    return ElementTree.fromstring(draw("One message to many", BARS, ["how it was done", "on which day"]))  # noqa: S314  # our own words


def labels(picture: ElementTree.Element) -> list[str | None]:
    return [text.text for text in picture.iter(f"{SVG}text") if text.get("class", "").startswith("label")]


def test_programs_stand_in_the_order_of_the_first_panel_in_all() -> None:
    assert labels(drawn()) == ["ours", "near", "slow & <sure>", "ours", "slow & <sure>"]


def test_bars_are_as_long_as_their_values_and_the_line_is_at_one() -> None:
    picture = drawn()
    bars = [bar for bar in picture.iter(f"{SVG}rect") if bar.get("class", "").startswith("bar")]
    left, widths = float(bars[0].attrib["x"]), [float(bar.attrib["width"]) for bar in bars[:3]]
    line = next(picture.iter(f"{SVG}line"))
    assert [round(width / widths[0], 2) for width in widths] == [1.0, 1.14, 5.0]
    assert round(widths[0] / (float(line.attrib["x1"]) - left), 2) == 1.05


def test_who_cannot_see_it_is_told_all_of_it() -> None:
    picture = drawn()
    assert picture.get("role") == "img"
    names = picture.get("aria-labelledby", "").split()
    title, description = (next(part.text or "" for part in picture if part.get("id") == name) for name in names)
    assert title == "One message to many"
    for bar in BARS:
        assert f"{bar.panel}. {bar.label}: {bar.value:.2f}, {bar.note}." in description
    assert "how it was done on which day" in description
