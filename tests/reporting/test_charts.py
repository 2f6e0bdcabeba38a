"""Charts: positions of points, ticks, and what is left out."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from itertools import pairwise

import pytest

from sightx.reporting.charts import Axes, Series, chart


def svg_of(drawn: str) -> ET.Element:
    return ET.fromstring(drawn.partition("</svg>")[0] + "</svg>")


def test_points_are_at_their_places() -> None:
    axes = Axes("x", "y", (0, 1), (0, 1))
    svg = svg_of(chart(axes, [Series("a <b>", [(0, 0), (1, 1), (0.5, 2)])], "a & b"))
    (line,) = svg.iter("polyline")
    (left, bottom), (right, top), (middle, above) = (
        tuple(map(float, pair.split(","))) for pair in line.attrib["points"].split()
    )
    assert left < middle == (left + right) / 2 < right
    assert above == top < bottom  # a point above the range lies on its edge
    assert svg.attrib["aria-label"] == "a & b"
    labels = [part.text for part in svg.iter("text")]
    assert {"0", "0.2", "1", "x", "y"} <= set(labels)


def test_a_step_has_only_horizontal_and_vertical_lines() -> None:
    drawn = chart(
        Axes("x", "y", (0, 1), (0, 1)), [Series("", [(0, 0), (0.5, 1), (1, 1)], "step")], ""
    )
    (line,) = svg_of(drawn).iter("polyline")
    places = [pair.split(",") for pair in line.attrib["points"].split()]
    for (x0, y0), (x1, y1) in pairwise(places):
        assert x0 == x1 or y0 == y1


def test_intervals_are_bars_and_a_name_is_in_the_legend() -> None:
    series = Series("rate", [(0.5, 0.5)], "bars", lows=[0.4], highs=[0.6])
    drawn = chart(Axes("x", "y", (0, 1), (0, 1)), [series, Series("", [(0.1, 0.1)], "dots", 1)], "")
    svg = svg_of(drawn)
    bars = [one for one in svg.iter("line") if one.attrib["class"] == "s0"]
    assert len(bars) == 1
    assert len(list(svg.iter("circle"))) == 2
    assert re.findall(r"</svg>(\w+)</span>", drawn) == ["rate"]


def test_many_points_are_thinned_and_no_points_are_no_chart() -> None:
    points = [(float(x), float(x % 7)) for x in range(5000)]
    (line,) = svg_of(chart(Axes("x", "y"), [Series("", points)], "")).iter("polyline")
    assert len(line.attrib["points"].split()) == 400
    assert chart(Axes("x", "y"), [Series("", [])], "") == ""


@pytest.mark.parametrize("values", [[(1.0, 2.0)], [(0.0, 0.0), (1.0, 0.0)]])
def test_equal_values_have_a_range(values: list[tuple[float, float]]) -> None:
    assert "polyline" in chart(Axes("x", "y"), [Series("", values)], "")
