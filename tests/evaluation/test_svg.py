"""Axes of plots, and words that must not break the drawing."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest

from slic_cli.evaluation import svg


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(0, 40, [0, 10, 20, 30, 40]), (0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1.0]), (26, 48, [30, 35, 40, 45])],
)
def test_ticks_are_round(low: float, high: float, expected: list[float]) -> None:
    assert svg.Axis(low, high, 0, 100).ticks() == pytest.approx(expected)


def test_axis_maps_and_holds() -> None:
    axis = svg.Axis(0, 50, 100, 200)
    assert [axis.at(value) for value in (-5, 0, 25, 50, float("inf"))] == [100, 100, 150, 200, 200]
    assert svg.Axis(0, 1, 90, 10).at(0.25) == 70  # upwards


def test_words_are_escaped() -> None:
    drawing = svg.svg(10, 10, [svg.text(1, 2, "<a & b>")], 'x < "y"')
    tree = ElementTree.fromstring(drawing)
    assert [element.text for element in tree] == ['x < "y"', "<a & b>"]
