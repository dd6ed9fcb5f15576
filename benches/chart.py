"""Draws figures of programs set side by side, as the SVG that the README shows."""

import html
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Bar", "draw"]

_WIDTH = 760
_MARGIN = 24
_LABELS = 184
"""Room for the names, left of the bars."""
_VALUES = 152
"""Room for the numbers, right of them."""
_ROW, _THICKNESS = 30, 18
_HEAD, _PANEL_HEAD, _PANEL_GAP, _LINE = 62, 40, 22, 17

# It has a background of its own, since the page that shows it may be light or dark without the picture being told.
_STYLE = """\
  svg { --ground: #ffffff; --edge: #d0d7de; --ink: #1f2328; --faint: #59636e; --ours: #0969da; --other: #8c959f; }
  @media (prefers-color-scheme: dark) {
    svg { --ground: #0d1117; --edge: #30363d; --ink: #e6edf3; --faint: #9198a1; --ours: #4493f8; --other: #6e7681; }
  }
  text { font: 13px system-ui, -apple-system, "Segoe UI", "Noto Sans", "DejaVu Sans", sans-serif; fill: var(--ink); }
  .title { font-size: 17px; font-weight: 600; }
  .panel { font-weight: 600; }
  .faint { fill: var(--faint); font-size: 12px; }
  .number { paint-order: stroke; stroke: var(--ground); stroke-width: 5px; }
  .note { fill: var(--faint); font-weight: 400; }
  .ours { font-weight: 600; }
  .ground { fill: var(--ground); stroke: var(--edge); }
  .bar { fill: var(--other); }
  .bar.ours { fill: var(--ours); }
  .floor { stroke: var(--ink); stroke-dasharray: 3 3; }"""


@dataclass(frozen=True)
class Bar:
    """One program's figure."""

    panel: str
    """What is measured, in words; bars of the same panel stand below one another."""
    label: str
    """Which program."""
    value: float
    """Times the floor's."""
    note: str
    """What stands behind the value."""
    is_ours: bool


def draw(title: str, bars: Sequence[Bar], method: Sequence[str]) -> str:
    """The picture, with a line for the floor at 1.

    Args:
        title: its heading.
        bars: what it shows. Programs stand in the order of their values in the first panel, in all panels.
        method: how the figures were taken, and when, a line each.
    """
    panels = list(dict.fromkeys(bar.panel for bar in bars))
    first = sorted((bar for bar in bars if bar.panel == panels[0]), key=lambda bar: bar.value)
    order = {bar.label: place for place, bar in enumerate(first)}
    parts, top = [], _HEAD
    for panel in panels:
        rows = sorted((bar for bar in bars if bar.panel == panel), key=lambda bar: order.get(bar.label, len(order)))
        parts += _panel(panel, rows, top)
        top += _PANEL_HEAD + _ROW * len(rows) + _PANEL_GAP
    foot = [_text(_MARGIN, top + 10 + _LINE * row, html.escape(line), "faint") for row, line in enumerate(method)]
    height = top + _LINE * len(method) + _MARGIN // 2 + 6
    numbers = (f"{bar.panel}. {bar.label}: {bar.value:.2f}, {bar.note}." for bar in bars)
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{height}" '
            f'viewBox="0 0 {_WIDTH} {height}" role="img" aria-labelledby="title description">',
            f'<title id="title">{html.escape(title)}</title>',
            f'<desc id="description">{html.escape(" ".join((*numbers, *method)))}</desc>',
            f"<style>\n{_STYLE}\n</style>",
            f'<rect class="ground" x="0.5" y="0.5" width="{_WIDTH - 1}" height="{height - 1}" rx="8"/>',
            _text(_MARGIN, 38, html.escape(title), "title"),
            *parts,
            *foot,
            "</svg>\n",
        ]
    )


def _panel(title: str, bars: Sequence[Bar], top: int) -> list[str]:
    left, right = _MARGIN + _LABELS, _WIDTH - _MARGIN - _VALUES
    scale = (right - left) / max(1.0, *(bar.value for bar in bars))
    below, floor = top + _PANEL_HEAD + _ROW * len(bars), left + scale
    shapes, words = [], [_text(_MARGIN, top + 16, html.escape(title), "panel")]
    for row, bar in enumerate(bars):
        kind = " ours" if bar.is_ours else ""
        width = max(1.0, bar.value * scale)
        middle = top + _PANEL_HEAD + _ROW * (row + 0.5)
        value = f'{bar.value:.2f}<tspan class="note" dx="8">{html.escape(bar.note)}</tspan>'
        shapes.append(
            f'<rect class="bar{kind}" x="{left}" y="{middle - _THICKNESS / 2:g}" width="{width:.1f}" '
            f'height="{_THICKNESS}" rx="2"/>'
        )
        words += [
            _text(left - 10, middle + 4.5, html.escape(bar.label), f"label{kind}", anchor="end"),
            _text(left + width + 8, middle + 4.5, value, f"number{kind}"),
        ]
    shapes.append(
        f'<line class="floor" x1="{floor:.1f}" x2="{floor:.1f}" y1="{top + _PANEL_HEAD - 4}" y2="{below + 2}"/>'
    )
    words.append(_text(floor, top + _PANEL_HEAD - 9, "floor", "faint", anchor="middle"))
    return shapes + words


def _text(x: float, y: float, content: str, kind: str, anchor: str = "start") -> str:
    return f'<text class="{kind}" x="{x:.4g}" y="{y:g}" text-anchor="{anchor}">{content}</text>'
