"""The colours of the pages, by the contrast that WCAG 2.2 (success criteria 1.4.3 and 1.4.11) asks for."""

from __future__ import annotations

import re

import pytest

from tests.support.scripted_server import STATIC

TEXT = [
    ("ink", "ground"),
    ("ink", "surface"),
    ("ink", "sunken"),
    ("ink", "tint"),
    ("muted", "ground"),
    ("muted", "surface"),
    ("muted", "tint"),
    ("accent-strong", "ground"),
    ("accent-strong", "surface"),
    ("accent-strong", "tint"),
    ("accent-strong", "sunken"),
    ("on-accent", "accent"),
    ("on-accent", "accent-strong"),
    ("bad", "bad-tint"),
    ("bad", "ground"),
    *((name, f"{name}-tint") for name in ("wait", "work", "look", "done")),
]
SHAPES = [("accent", "surface"), ("accent", "line"), ("field-line", "surface"), ("accent", "ground")]


def palettes() -> dict[str, dict[str, str]]:
    """Colour by name, of either scheme."""
    light, dark = re.findall(r":root \{(.*?)\}", (STATIC / "base.css").read_text(), re.DOTALL)
    of_light = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", light))
    return {"light": of_light, "dark": {**of_light, **dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", dark))}}


def luminance(colour: str) -> float:
    """Relative luminance as WCAG defines it."""

    def linear(value: int) -> float:
        share = value / 255
        return share / 12.92 if share <= 0.04045 else ((share + 0.055) / 1.055) ** 2.4

    red, green, blue = (linear(int(colour[start : start + 2], 16)) for start in (1, 3, 5))
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_and_shapes_stand_out(scheme: str) -> None:
    palette = palettes()[scheme]
    wanted = [(4.5, pair) for pair in TEXT] + [(3.0, pair) for pair in SHAPES]
    measured = {pair: (contrast(palette[pair[0]], palette[pair[1]]), least) for least, pair in wanted}
    assert {pair: values for pair, values in measured.items() if values[0] < values[1]} == {}
