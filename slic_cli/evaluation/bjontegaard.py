"""Comparing rate-distortion curves: Bjontegaard's differences, and the difference at one rate.

G. Bjontegaard, "Calculation of average PSNR differences between RD-curves", VCEG-M33, 2001: cubics through four or more
points of PSNR and the logarithm of the rate, integrated over what the curves have in common.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Point = tuple[float, float]  # bits per pixel, PSNR in dB
Array = npt.NDArray[np.float64]

POINTS = 4  # that a cubic needs


def bd_psnr(reference: Sequence[Point], test: Sequence[Point]) -> float | None:
    """How many dB `test` is above `reference` on average over the rates they share; None if that is undefined."""
    return _mean_difference(*(_columns(curve) for curve in (reference, test)))


def bd_rate(reference: Sequence[Point], test: Sequence[Point]) -> float | None:
    """By what percentage the rate of `test` differs at equal PSNR (below 0: it needs less); None if undefined."""
    (rate_a, psnr_a), (rate_b, psnr_b) = (_columns(curve) for curve in (reference, test))
    difference = _mean_difference((psnr_a, rate_a), (psnr_b, rate_b))
    return None if difference is None else float(100 * (np.exp(difference) - 1))


def _columns(curve: Sequence[Point]) -> tuple[Array, Array]:
    finite = {point for point in curve if math.isfinite(point[1])}  # equal pictures have no PSNR to fit
    points = np.array(sorted(finite), np.float64).reshape(-1, 2)
    return np.log(points[:, 0]), points[:, 1]


def _mean_difference(a: tuple[Array, Array], b: tuple[Array, Array]) -> float | None:
    """The mean of b's y less a's y over the x they share, each a cubic fitted to its points."""
    if min(len(a[0]), len(b[0])) < POINTS:
        return None
    low, high = max(a[0].min(), b[0].min()), min(a[0].max(), b[0].max())
    if not low < high:
        return None
    areas = []
    for x, y in (a, b):
        if len(set(x)) < POINTS:
            return None
        integral = np.polyint(np.polyfit(x - low, y, 3))
        areas.append(float(np.polyval(integral, high - low)))
    return (areas[1] - areas[0]) / float(high - low)


def psnr_at(curve: Sequence[Point], rate_bpp: float) -> float | None:
    """PSNR of a curve at a rate, linear in its logarithm between two points; None outside the curve."""
    log_rates, psnrs = _columns(curve)
    place = float(np.log(rate_bpp))
    if not len(log_rates) or not log_rates[0] <= place <= log_rates[-1]:
        return None
    return float(np.interp(place, log_rates, psnrs))


def mean_gain(reference: Sequence[Point], test: Sequence[Point]) -> tuple[float | None, int]:
    """Mean of `test`'s PSNR less `reference`'s at the rates of `test`'s points, and how many of them counted."""
    pairs = [(psnr, psnr_at(reference, rate)) for rate, psnr in test]
    gains = [psnr - other for psnr, other in pairs if other is not None and math.isfinite(psnr)]
    return (float(np.mean(gains)) if gains else None), len(gains)
