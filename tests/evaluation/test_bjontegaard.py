"""Bjontegaard's differences where they are known beforehand, and against the usual way of computing them."""

from __future__ import annotations

import math

import numpy as np
import pytest

from slic_cli.evaluation.bjontegaard import Point, bd_psnr, bd_rate, mean_gain, psnr_at
from slic_cli.evaluation.paper import BALLE2018_KODAK

CURVE = list(BALLE2018_KODAK)


def test_a_curve_moved_upwards() -> None:
    raised = [(rate, psnr + 1.5) for rate, psnr in CURVE]
    assert bd_psnr(CURVE, raised) == pytest.approx(1.5)
    assert bd_psnr(raised, CURVE) == pytest.approx(-1.5)
    assert (bd_rate(CURVE, raised) or 0) < 0


def test_a_curve_at_twice_the_rate() -> None:
    dearer = [(2 * rate, psnr) for rate, psnr in CURVE]
    assert bd_rate(CURVE, dearer) == pytest.approx(100)
    assert bd_rate(dearer, CURVE) == pytest.approx(-50)


def test_against_the_usual_computation() -> None:
    other: list[Point] = [(0.2, 27.0), (0.5, 31.1), (1.1, 36.0), (1.9, 40.2), (2.4, 41.5)]
    fits = [np.polyfit(np.log10([p[0] for p in curve]), [p[1] for p in curve], 3) for curve in (CURVE, other)]
    grid = np.linspace(math.log10(0.2), math.log10(1.66), 20001)  # the rates they share
    difference = np.polyval(fits[1], grid) - np.polyval(fits[0], grid)
    mean = float((difference[1:] + difference[:-1]).mean()) / 2
    assert bd_psnr(CURVE, other) == pytest.approx(mean, abs=1e-6)


def test_points_need_not_be_in_order() -> None:
    assert bd_psnr(CURVE[::-1], [(r, p + 1) for r, p in CURVE]) == pytest.approx(1)


@pytest.mark.parametrize("other", [[], CURVE[:3], [(r + 9, p) for r, p in CURVE], [CURVE[0]] * 5])
def test_what_cannot_be_compared(other: list[Point]) -> None:
    """Too few points, no rate in common, or one point over and over."""
    assert bd_psnr(CURVE, other) is None
    assert bd_psnr(other, CURVE) is None


def test_psnr_between_two_rates() -> None:
    curve = [(1.0, 30.0), (4.0, 36.0)]
    assert psnr_at(curve, 2.0) == pytest.approx(33)  # half way in octaves
    assert psnr_at(curve, 4.0) == 36
    assert psnr_at(curve, 4.1) is psnr_at(curve, 0.9) is psnr_at([], 1.0) is None


def test_mean_gain_counts_what_can_be_compared() -> None:
    gain, points = mean_gain([(1.0, 30.0), (4.0, 36.0)], [(2.0, 34.0), (4.0, 35.0), (5.0, 90.0)])
    assert points == 2
    assert gain == pytest.approx(0)  # 1 dB above, 1 dB below, one outside
    assert mean_gain([(1.0, 30.0)], [(2.0, 34.0)]) == (None, 0)


def test_equal_pictures_are_no_points() -> None:
    lossless = (9.0, math.inf)
    assert bd_psnr([*CURVE, lossless], [*((r, p + 1) for r, p in CURVE), lossless]) == pytest.approx(1)
    assert mean_gain([*CURVE, (9.5, 60.0)], [lossless]) == (None, 0)
