"""'This was decoded by SLIC', judged from the PSNR of a re-compression: what it catches, and whom it accuses wrongly.

A picture is accused when its PSNR is at most a threshold: what self-destructs has a low one.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

CAUGHT = 0.99


def threshold(secured: Sequence[float], share: float = CAUGHT) -> float:
    """The lowest threshold in dB that catches at least `share` of the PSNRs of SLIC's pictures (at least one)."""
    return sorted(secured)[max(0, math.ceil(share * len(secured) - 1e-9) - 1)]


def false_alarm_rate(innocent: Sequence[float], threshold_db: float) -> float:
    """The share of other pictures' PSNRs, at least one, that a threshold accuses."""
    return sum(value <= threshold_db for value in innocent) / len(innocent)


def operating_curve(secured: Sequence[float], innocent: Sequence[float]) -> list[tuple[float, float]]:
    """(false alarms, catches), both shares, from (0, 0) to (1, 1): one point for each threshold that matters."""
    points = [(0.0, 0.0)]
    for value in sorted({*secured, *innocent}):
        points.append((false_alarm_rate(innocent, value), false_alarm_rate(secured, value)))
    return points


def area_under(curve: Sequence[tuple[float, float]]) -> float:
    """The area under an operating curve: 1 tells all apart, 0.5 is a coin."""
    return sum((right - left) * (low + high) / 2 for (left, low), (right, high) in itertools.pairwise(curve))
