"""A line chart as SVG, by hand: no library is worth its weight for one line and two axes."""

import math
from collections.abc import Sequence
from xml.sax.saxutils import escape

__all__ = ["chart"]

_WIDTH, _HEIGHT = 720, 400
_LEFT, _RIGHT, _TOP, _BOTTOM = 70, 30, 50, 60
_STEPS = 5
_MAX_LABELS = 12


def chart(title: str, x_title: str, y_title: str, points: Sequence[tuple[str, float]]) -> str:
    """An SVG document with one line through `points`.

    A point is its label on the x axis, where all are equally far apart, and its value, which is not negative.
    """
    top = _nice(max((value for _, value in points), default=0.0))
    across, up = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM

    def place(index: int, value: float) -> tuple[float, float]:
        share = (index + 0.5) / len(points)
        return _LEFT + across * share, _TOP + up * (1 - value / top)

    parts = [_text(_WIDTH / 2, 26, title, 16, "middle"), _text(_WIDTH / 2, _HEIGHT - 12, x_title, 12, "middle")]
    parts.append(_text(12, _TOP - 14, y_title, 12, "start"))
    for step in range(_STEPS + 1):
        value = top * step / _STEPS
        y = _TOP + up * (1 - step / _STEPS)
        parts.append(f'<path d="M{_LEFT} {y:.1f}H{_WIDTH - _RIGHT}" stroke="#d0d7de"/>')
        parts.append(_text(_LEFT - 8, y + 4, f"{value:,.10g}", 12, "end"))
    places = [place(index, value) for index, (_, value) in enumerate(points)]
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    parts.append(f'<polyline points="{line}" fill="none" stroke="#0969da" stroke-width="2"/>')
    between_labels = math.ceil(len(points) / _MAX_LABELS)
    for index, ((x, y), (label, value)) in enumerate(zip(places, points, strict=True)):
        tip = f"<title>{escape(label)}: {value:,.2f}</title>"
        parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="#0969da">{tip}</circle>')
        if index % between_labels == 0:
            parts.append(_text(x, _HEIGHT - _BOTTOM + 20, label, 12, "middle"))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" '
        f'aria-label="{escape(title, {chr(34): "&quot;"})}" font-family="system-ui, sans-serif">'
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="#ffffff"/>{"".join(parts)}</svg>\n'
    )


def _text(x: float, y: float, text: str, size: int, anchor: str) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}" fill="#1f2328">{escape(text)}</text>'
    )


def _nice(value: float) -> float:
    """The next of 1, 2, 2.5, 5, 10 and their powers of ten that is not below `value`."""
    if value <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in (1, 2, 2.5, 5, 10) if step * power >= value)
