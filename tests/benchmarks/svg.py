"""Charts as small SVG files, without a plotting library: panels of labelled bars, and panels of lines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

_FONT = "font-family=\"system-ui, 'DejaVu Sans', sans-serif\""
_INK, _PALE, _GRID = "#1f2328", "#59636e", "#d1d9e0"
_BAR, _OURS, _BASE = "#9fb3c8", "#0b6e4f", "#57606a"
_WIDTH, _GAP = 440, 28


@dataclass(frozen=True)
class Bars:
    """A panel of bars.

    Attributes:
        title: above it.
        values: by label, in the order of the bars.
        texts: what is written at the end of each bar.
        base: the label that the others are compared with.
        ours: labels to bring out.
    """

    title: str
    values: dict[str, float]
    texts: dict[str, str]
    base: str = ""
    ours: Sequence[str] = ()


@dataclass(frozen=True)
class Line:
    """A panel of one line through points, from zero.

    Attributes:
        title: above it.
        points: x and y.
        last: what is written at the last point.
    """

    title: str
    points: Sequence[tuple[float, float]]
    last: str


def bar_chart(title: str, subtitle: str, panels: Sequence[Bars], *, longest: float = 30.0) -> str:
    """Panels of bars in two columns.

    Args:
        title, subtitle: above all.
        panels: in reading order.
        longest: in multiples of the base; a longer bar is cut there and marked.
    """
    rows = max(len(panel.values) for panel in panels)
    height = 46 + rows * 22
    parts = [_panel(index, height, _bars(panel, longest)) for index, panel in enumerate(panels)]
    return _page(title, subtitle, parts, height, len(panels))


def line_chart(title: str, subtitle: str, panels: Sequence[Line]) -> str:
    """Panels of lines in two columns."""
    height = 190
    parts = [_panel(index, height, _line(panel)) for index, panel in enumerate(panels)]
    return _page(title, subtitle, parts, height, len(panels))


def _page(title: str, subtitle: str, parts: Sequence[str], height: int, count: int) -> str:
    width = 2 * _WIDTH + 3 * _GAP
    whole = 76 + -(-count // 2) * (height + 14) + 8
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {whole}" width="{width}" height="{whole}" '
        f'role="img" aria-label="{escape(title, {chr(34): "&quot;"})}">\n'
        f'<rect width="{width}" height="{whole}" rx="8" fill="#ffffff"/>\n'
        + _text(_GAP, 36, title, 19, _INK, weight=600)
        + _text(_GAP, 58, subtitle, 12.5, _PALE)
    )
    return head + "".join(parts) + "</svg>\n"


def _panel(index: int, height: int, content: str) -> str:
    x = _GAP + index % 2 * (_WIDTH + _GAP)
    y = 76 + index // 2 * (height + 14)
    return f'<g transform="translate({x} {y})">\n{content}</g>\n'


def _text(x: float, y: float, text: str, size: float, colour: str, *, weight: int = 400, anchor: str = "start") -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" {_FONT} font-size="{size}" font-weight="{weight}" fill="{colour}" '
        f'text-anchor="{anchor}">{escape(text)}</text>\n'
    )


def _bars(panel: Bars, longest: float) -> str:
    left, room = 104, _WIDTH - 104 - 128
    limit = max(panel.values.values())
    if panel.base in panel.values:
        limit = min(limit, longest * panel.values[panel.base])
    parts = [_text(0, 20, panel.title, 14, _INK, weight=600)]
    for index, (label, value) in enumerate(panel.values.items()):
        y = 32 + index * 22
        cut = value > limit * 1.001
        length = max(2.0, min(value / limit, 1) * room)
        ours = label in panel.ours
        colour = _OURS if ours else _BASE if label == panel.base else _BAR
        weight = 600 if ours else 400
        parts.append(_text(left - 8, y + 13, label, 12.5, _INK, weight=weight, anchor="end"))
        parts.append(f'<rect x="{left}" y="{y + 1}" width="{length:.1f}" height="16" rx="2" fill="{colour}"/>\n')
        if cut:  # two strokes through the bar say that it goes on
            x = left + room - 22
            parts.append(f'<path d="M{x} {y + 19}l6 -20m7 0l-6 20" stroke="#ffffff" stroke-width="3"/>\n')
        parts.append(_text(left + length + 7, y + 13, panel.texts[label], 12.5, _INK, weight=weight))
    return "".join(parts)


def _line(panel: Line) -> str:
    left, top, room, tall = 8, 34, _WIDTH - 96, 118
    most_x = max(x for x, _ in panel.points) or 1
    most_y = max(y for _, y in panel.points) or 1
    places = [(left + x / most_x * room, top + tall - y / most_y * tall) for x, y in panel.points]
    path = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in places)
    bottom = top + tall
    parts = [
        _text(0, 20, panel.title, 14, _INK, weight=600),
        f'<path d="M{left} {bottom}h{room}" stroke="{_GRID}" stroke-width="1"/>\n',
        f'<path d="{path}" fill="none" stroke="{_OURS}" stroke-width="2.5" stroke-linejoin="round"/>\n',
        *(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" fill="{_OURS}"/>\n' for x, y in places),
        _text(places[-1][0] + 9, places[-1][1] + 4, panel.last, 12.5, _INK, weight=600),
        _text(left, bottom + 17, f"{panel.points[0][0]:,.0f}", 12, _PALE),
        _text(left + room, bottom + 17, f"{most_x:,.0f}", 12, _PALE, anchor="end"),
    ]
    return "".join(parts)
