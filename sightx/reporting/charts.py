"""Charts as inline SVG: colours come from the style sheet, so they follow light and dark."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from sightx.reporting.html import text

Points = Sequence[tuple[float, float]]
_WIDTH, _HEIGHT = 460, 330
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 14, 12, 44
_COLOURS = 6  # classes s0 ... s5 of the style sheet
_MAX_POINTS = 400  # of a line: more are not visible, and make the file large
_ROOM = 0.04  # of the range of values, above and below


class Series(NamedTuple):
    """A line or markers of a chart.

    `mark` is line, step, dots or bars (with `lows` and `highs`, the ends of an interval).
    """

    name: str
    points: Points
    mark: str = "line"
    colour: int = 0
    dashed: bool = False
    lows: Sequence[float] = ()
    highs: Sequence[float] = ()


@dataclass(frozen=True)
class Axes:
    """The axes of a chart: names, and the ranges of values; None means that of the series."""

    x: str
    y: str
    x_range: tuple[float, float] | None = None
    y_range: tuple[float, float] | None = None
    whole: bool = False
    """Whether the values of x are whole numbers, such as epochs."""


def chart(axes: Axes, series: Sequence[Series], label: str) -> str:
    """Return an SVG of some series; `label` says what it shows to those who cannot see it."""
    shown = [one for one in series if one.points]
    if not shown:
        return ""
    frame = _Frame(axes, shown)
    body = [*frame.grid(), *(part for one in shown for part in _draw(frame, one))]
    legend = _legend([one for one in shown if one.name])
    svg = (
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{text(label)}">'
        f"{''.join(body)}</svg>"
    )
    return svg + legend


class _Frame:
    """The area of a chart: from values to positions."""

    def __init__(self, axes: Axes, series: Sequence[Series]) -> None:
        self._axes = axes
        points = [point for one in series for point in one.points]
        ends = [end for one in series for end in (*one.lows, *one.highs)]
        self.x = axes.x_range or _range([x for x, _ in points], room=False)
        self.y = axes.y_range or _range([*(y for _, y in points), *ends])

    def place(self, x: float, y: float) -> tuple[float, float]:
        """Return the position of a point; one outside of the ranges lies on their edge."""
        (x0, x1), (y0, y1) = self.x, self.y
        across = min(max((x - x0) / (x1 - x0), 0.0), 1.0)
        up = min(max((y - y0) / (y1 - y0), 0.0), 1.0)
        return (
            round(_LEFT + across * (_WIDTH - _LEFT - _RIGHT), 1),
            round(_HEIGHT - _BOTTOM - up * (_HEIGHT - _TOP - _BOTTOM), 1),
        )

    def grid(self) -> list[str]:
        """Return grid lines, numbers and names of the axes."""
        parts = []
        for value in _ticks(*self.y):
            x, y = self.place(self.x[0], value)
            parts.append(f'<line class="grid" x1="{x}" y1="{y}" x2="{_WIDTH - _RIGHT}" y2="{y}"/>')
            parts.append(f'<text x="{x - 6}" y="{y + 4}" text-anchor="end">{value:g}</text>')
        for value in _ticks(*self.x, least=1.0 if self._axes.whole else 0.0):
            x, y = self.place(value, self.y[0])
            parts.append(f'<line class="grid" x1="{x}" y1="{_TOP}" x2="{x}" y2="{y}"/>')
            parts.append(f'<text x="{x}" y="{y + 16}" text-anchor="middle">{value:g}</text>')
        middle = (_LEFT + _WIDTH - _RIGHT) / 2
        down = (_TOP + _HEIGHT - _BOTTOM) / 2
        parts.append(
            f'<text class="axis" x="{middle}" y="{_HEIGHT - 6}" text-anchor="middle">'
            f"{text(self._axes.x)}</text>"
        )
        parts.append(
            f'<text class="axis" transform="translate(13 {down}) rotate(-90)" '
            f'text-anchor="middle">{text(self._axes.y)}</text>'
        )
        return parts


def _draw(frame: _Frame, series: Series) -> list[str]:
    kind = f"s{series.colour % _COLOURS}" + (" dashed" if series.dashed else "")
    places = [frame.place(x, y) for x, y in series.points]
    if series.mark == "dots":
        return [f'<circle class="{kind}" cx="{x}" cy="{y}" r="4.5"/>' for x, y in places]
    parts = []
    if series.mark == "bars":
        for (x, _), low, high in zip(series.points, series.lows, series.highs, strict=True):
            (left, bottom), (_, top) = frame.place(x, low), frame.place(x, high)
            parts.append(f'<line class="{kind}" x1="{left}" y1="{bottom}" x2="{left}" y2="{top}"/>')
        parts += [f'<circle class="{kind}" cx="{x}" cy="{y}" r="3.5"/>' for x, y in places]
        return parts
    if series.mark == "step":
        places = [place for pair in _steps(places) for place in pair]
    return [f'<polyline class="{kind}" points="{_path(_thinned(places))}"/>']


def _steps(places: list[tuple[float, float]]) -> list[tuple[tuple[float, float], ...]]:
    """Return the corners of a staircase through some places."""
    first, pairs = places[:1], itertools.pairwise(places)
    return [tuple(first), *(((after[0], before[1]), after) for before, after in pairs)]


def _thinned(places: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return some of the places, evenly spread, with the first and the last."""
    if len(places) <= _MAX_POINTS:
        return places
    step = (len(places) - 1) / (_MAX_POINTS - 1)
    return [places[round(step * at)] for at in range(_MAX_POINTS)]


def _path(places: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{x:g},{y:g}" for x, y in places)


def _legend(series: Sequence[Series]) -> str:
    entries = "".join(
        f'<span class="key"><svg viewBox="0 0 22 10" aria-hidden="true">{_sample(one)}</svg>'
        f"{text(one.name)}</span>"
        for one in series
    )
    return f'<div class="legend">{entries}</div>' if entries else ""


def _sample(series: Series) -> str:
    kind = f"s{series.colour % _COLOURS}" + (" dashed" if series.dashed else "")
    if series.mark in ("dots", "bars"):
        return f'<circle class="{kind}" cx="11" cy="5" r="4"/>'
    return f'<polyline class="{kind}" points="0,5 22,5"/>'


def _range(values: Sequence[float], *, room: bool = True) -> tuple[float, float]:
    """Return the least and the greatest finite value, apart from each other."""
    finite = [value for value in values if math.isfinite(value)] or [0.0, 1.0]
    low, high = min(finite), max(finite)
    if low == high:
        return low - 0.5, high + 0.5
    extra = _ROOM * (high - low) if room else 0.0
    return low - extra, high + extra


def _ticks(low: float, high: float, *, least: float = 0.0) -> list[float]:
    """Return about five round numbers from low to high, `least` or more apart."""
    raw = (high - low) / 5
    power = 10.0 ** math.floor(math.log10(raw))
    factors = (1, 2, 5, 10) if least else (1, 2, 2.5, 5, 10)
    step = max(next(power * one for one in factors if power * one >= raw * 0.999), least)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [round(place * step, 10) for place in range(first, last + 1)]
