"""Thresholds and operating curves, worked out by hand."""

from __future__ import annotations

import math

import pytest

from slic_cli.evaluation.detection import area_under, false_alarm_rate, operating_curve, threshold


def test_threshold_catches_at_least_the_share() -> None:
    values = [float(value) for value in range(100, 0, -1)]
    assert threshold(values) == 99.0  # 99 of 100 are at most 99
    assert threshold(values[:24]) == 100.0  # 99% of 24 are all of them
    assert threshold(values, 0.5) == 50.0
    assert threshold([7.0]) == 7.0


def test_false_alarms_are_those_at_the_threshold_and_below() -> None:
    assert false_alarm_rate([10.0, 20.0, 30.0, math.inf], 20.0) == 0.5
    assert false_alarm_rate([10.0], 9.9) == 0


def test_curve_of_an_overlap() -> None:
    curve = operating_curve([1, 3], [2, 4])
    assert curve == [(0, 0), (0, 0.5), (0.5, 0.5), (0.5, 1), (1, 1)]
    assert area_under(curve) == 0.75  # three of four pairs are ranked right


@pytest.mark.parametrize(
    ("secured", "innocent", "area"),
    [([1, 2], [3, 4], 1.0), ([3, 4], [1, 2], 0.0), ([5, 5], [5, 5], 0.5), ([1, 1, 5], [5, 9], 11 / 12)],
)
def test_area(secured: list[float], innocent: list[float], area: float) -> None:
    assert area_under(operating_curve(secured, innocent)) == pytest.approx(area)
