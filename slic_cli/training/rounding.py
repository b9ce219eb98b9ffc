"""Rounding that lets gradients pass."""

from __future__ import annotations

from torch import Tensor


def straight_through_round(values: Tensor) -> Tensor:
    """round(values) forward; the identity backward (Bengio et al. 2013)."""
    return values + (values.round() - values).detach()


def to_eight_bits(pictures: Tensor) -> Tensor:
    """Pictures in [0, 1] as an 8-bit file holds them: clamped and rounded to 1/255."""
    return straight_through_round(pictures.clamp(0, 1) * 255) / 255
