"""A rough stand-in for lossy WebP (VP8, RFC 6386): its transforms and quantiser steps without its prediction.

VP8 codes what its prediction from neighbouring blocks leaves over, and libwebp adapts predictions, steps and filters to
the picture. All of that is left out; what remains is which frequencies of which blocks survive.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from slic_cli.training.jpeg_simulation import TO_RGB, TO_YCC, cosine_basis, from_blocks, mix_channels, to_blocks
from slic_cli.training.rounding import straight_through_round

_BLOCK = 4
_VIDEO_RANGE = 255 / 219  # VP8's luma has 220 levels
_DEAD_ZONE = 0.07  # libwebp rounds towards 0 by this much of a step
_FILTER_LIMIT = 0.25  # of a step: larger gaps are edges of the picture; by measurement against libwebp


def quantiser_step(quality: int) -> float:
    """The step between levels of an orthonormal transform of 8-bit samples, for libwebp's quality from 1 to 100."""
    share = quality / 100
    linear = 2 * share / 3 if share < 0.75 else 2 * share - 1
    index = 127 * (1 - math.pow(linear, 1 / 3))
    return (4 + index) / 2 * _VIDEO_RANGE


def simulate_webp(x: Tensor, quality: int) -> Tensor:
    """About what WebP at `quality`, 1 to 100, makes of float32 pictures (n, 3, h, w) in [0, 1]: the same shape.

    Sides are multiples of 16. Quantisation is rounded straight through.
    """
    step = quantiser_step(quality)
    ycc = mix_channels(x * 255, TO_YCC)
    luma = _smooth(_code(ycc[:, :1], step, joined=4), step)
    chroma = _smooth(_code(F.avg_pool2d(ycc[:, 1:], 2), step, joined=1), step)
    chroma = F.interpolate(chroma, scale_factor=2, mode="bilinear", align_corners=False)
    return mix_channels(torch.cat([luma, chroma], 1), TO_RGB) / 255


def _code(planes: Tensor, step: float, joined: int) -> Tensor:
    """Quantise (n, c, h, w) in 4 x 4 blocks, the means of `joined` x `joined` blocks transformed once more."""
    basis, across = cosine_basis(_BLOCK, planes.device), cosine_basis(joined, planes.device)
    frequencies = to_blocks(planes, _BLOCK) @ basis.T
    means, rest = frequencies[..., 0], frequencies[..., 1:]
    means = from_blocks(_quantise(to_blocks(means, joined) @ across.T, step) @ across, joined)
    return from_blocks(torch.cat([means[..., None], _quantise(rest, step)], 4) @ basis, _BLOCK)


def _quantise(values: Tensor, step: float) -> Tensor:
    levels = values / step
    return straight_through_round(levels - _DEAD_ZONE * levels.detach().sign()) * step


def _smooth(planes: Tensor, step: float) -> Tensor:
    """VP8's simple loop filter across the edges of blocks, where the step there is small enough to be an artefact."""
    for _ in range(2):  # columns, then rows
        blocks = planes.reshape(*planes.shape[:3], -1, _BLOCK)
        inner, outer = blocks[..., :-1, -2:], blocks[..., 1:, :2]
        gap = (3 * (outer[..., 0] - inner[..., 1]) + inner[..., 0] - outer[..., 1]) / 8
        gap = torch.where(gap.abs() < _FILTER_LIMIT * step, gap, torch.zeros_like(gap))
        change = F.pad(gap[..., None], (_BLOCK - 1, 0, 0, 1)) - F.pad(gap[..., None], (0, _BLOCK - 1, 1, 0))
        planes = (blocks + change).flatten(3).transpose(2, 3)
    return planes
