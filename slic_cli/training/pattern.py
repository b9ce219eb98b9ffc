"""The pattern of lightness (slic_cli/transform/pattern.py) that carriers draw along with their wave.

Its waves are 11 to 3.8 pixels long, none of them along rows or columns, where photographs and the blocks of codecs have
most, and none of two even numbers of periods, which blocks of 8 pixels have. Of 400 draws of phases these are the ones
whose sum is least like a row of blocks' edges, and flat.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from slic_cli.transform.pattern import LUMA, PERIOD

WAVES = (  # periods across and down, and phases
    (1, 1, -1.32),
    (1, 2, 0.95),
    (2, 1, 2.51),
    (1, 3, 2.65),
    (3, 1, 1.00),
    (3, 3, 2.53),
    (-1, 1, 2.31),
    (-1, 2, 0.90),
    (-2, 1, 0.93),
    (-1, 3, -0.22),
    (-3, 1, 0.43),
    (-3, 3, 0.78),
)


def pattern_tile(levels: float) -> Tensor:
    """(3, PERIOD, PERIOD) in [0, 1] units, whose luma has a root mean square of so many 8-bit levels.

    Each colour has as much of it as luma has of the colour, which is the least error for so much luma.
    """
    rows, columns = torch.meshgrid(*[2 * math.pi / PERIOD * torch.arange(PERIOD)] * 2, indexing="ij")
    luma = torch.stack([torch.cos(across * columns + down * rows + phase) for across, down, phase in WAVES]).sum(0)
    shares = torch.tensor(LUMA)
    return levels / 255 * (shares / shares.square().sum())[:, None, None] * luma / luma.square().mean().sqrt()


def pattern_levels(tile: Tensor) -> float:
    """How many levels of the pattern (3, PERIOD, PERIOD) has, least squares of its luma."""
    shares, one = torch.tensor(LUMA), pattern_tile(1.0)
    luma, own = ((shares[:, None, None] * part).sum(0) for part in (tile.cpu(), one))
    return ((luma * own).sum() / own.square().sum()).item()
