"""Baseline JPEG as a differentiable function: what encoder and decoder do to pixels, without the entropy coding.

The forward is libjpeg's (ITU-T T.81, with the tables of its Annex K): 8-bit YCbCr, chroma averaged 2 x 2, an 8 x 8 DCT,
the scaled standard tables, and a decoder with triangle-shaped ("fancy") chroma upsampling. Only the arithmetic is exact
where libjpeg's is fixed-point.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from slic_cli.training.rounding import straight_through_round

Rounding = Callable[[Tensor], Tensor]

BLOCK = 8
CHROMA = ("4:2:0", "4:4:4")
# T.81 Tables K.1 and K.2, in rows from the lowest vertical frequency to the highest.
_LUMA_TABLE = (
    (16, 11, 10, 16, 24, 40, 51, 61),
    (12, 12, 14, 19, 26, 58, 60, 55),
    (14, 13, 16, 24, 40, 57, 69, 56),
    (14, 17, 22, 29, 51, 87, 80, 62),
    (18, 22, 37, 56, 68, 109, 103, 77),
    (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101),
    (72, 92, 95, 98, 112, 100, 103, 99),
)
_CHROMA_TABLE = (
    (17, 18, 24, 47, 99, 99, 99, 99),
    (18, 21, 26, 66, 99, 99, 99, 99),
    (24, 26, 56, 99, 99, 99, 99, 99),
    (47, 66, 99, 99, 99, 99, 99, 99),
    *((99,) * 8,) * 4,
)
_AWAY_FROM_ZERO = 1 + 2.0**-18  # halves are frequent in eighths, and libjpeg rounds them away from zero
# JFIF's full-range YCbCr, less the 128 that centres the chroma.
TO_YCC = ((0.299, 0.587, 0.114), (-0.168736, -0.331264, 0.5), (0.5, -0.418688, -0.081312))
TO_RGB = ((1.0, 0.0, 1.402), (1.0, -0.344136, -0.714136), (1.0, 1.772, 0.0))


def cubic_round(v: Tensor) -> Tensor:
    """round(v) + (v - round(v))^3: rounding with a gradient of its own (Shin & Song 2017); off by 1/8 at most."""
    whole = v.round().detach()
    return whole + (v - whole) ** 3


def mix_channels(x: Tensor, matrix: tuple[tuple[float, float, float], ...]) -> Tensor:
    """A 3 x 3 matrix applied to the colours of each pixel of (n, 3, h, w); its rows are the channels of the result."""
    return torch.einsum("kc,nchw->nkhw", x.new_tensor(matrix), x)


def cosine_basis(size: int, device: torch.device) -> Tensor:
    """The orthonormal DCT-II of size x size blocks, both flattened in rows: (size^2 frequencies, size^2 places)."""
    place = torch.arange(size, dtype=torch.float64)
    one = torch.cos((2 * place[None] + 1) * place[:, None] * math.pi / (2 * size)) * math.sqrt(2 / size)
    one[0] /= math.sqrt(2)
    return torch.kron(one, one).to(device, torch.float32)


def to_blocks(planes: Tensor, size: int) -> Tensor:
    """(n, c, h, w), sides divisible by `size`, as (n, c, h / size, w / size, size^2): each block's places in a row."""
    n, c, height, width = planes.shape
    return planes.reshape(n, c, height // size, size, width // size, size).transpose(3, 4).flatten(4)


def from_blocks(blocks: Tensor, size: int) -> Tensor:
    """The inverse of `to_blocks`."""
    n, c, rows, columns, _ = blocks.shape
    return blocks.view(n, c, rows, columns, size, size).transpose(3, 4).reshape(n, c, rows * size, columns * size)


def quantisation_table(quality: int, chroma: bool) -> list[int]:
    """libjpeg's 64 quantiser steps, row by row, for a quality from 1 to 100, for luma or for chroma."""
    percent = 5000 // quality if quality < 50 else 200 - 2 * quality
    table = _CHROMA_TABLE if chroma else _LUMA_TABLE
    return [min(max((step * percent + 50) // 100, 1), 255) for row in table for step in row]


def simulate_jpeg(
    x: Tensor, quality: int, chroma: str = "4:2:0", rounding: Rounding = straight_through_round
) -> Tensor:
    """What JPEG at `quality`, 1 to 100, makes of float32 pictures (n, 3, h, w) in [0, 1]: the same shape and range.

    Any size will do. `chroma` is one of CHROMA. `rounding` quantises the DCT coefficients; the samples that libjpeg
    keeps in 8 bits are rounded straight through, so that only one factor on the way shapes the gradient.
    """
    height, width = x.shape[2:]
    per_chroma = 2 if chroma == "4:2:0" else 1
    unit = BLOCK * per_chroma
    x = _pad(straight_through_round(x.clamp(0, 1) * 255), -height % unit, -width % unit)
    ycc = straight_through_round(mix_channels(x, TO_YCC))
    luma = _code(ycc[:, :1] - 128, quality, rounding, is_chroma=False) + 128
    colour = ycc[:, 1:]
    if per_chroma == 2:
        colour = straight_through_round(_alternate(F.avg_pool2d(colour, 2), -0.125))
    colour = _code(colour, quality, rounding, is_chroma=True)
    if per_chroma == 2:
        seen = colour[:, :, : (height + 1) // 2, : (width + 1) // 2]
        colour = _alternate(F.interpolate(seen, scale_factor=2, mode="bilinear", align_corners=False), 0.03125)
    colour, luma = colour[:, :, :height, :width], luma[:, :, :height, :width]
    rgb = mix_channels(torch.cat([luma, straight_through_round(colour)], 1), TO_RGB)
    return straight_through_round(rgb).clamp(0, 255) / 255


def _pad(x: Tensor, below: int, right: int) -> Tensor:
    """Repeats the last row and column, as libjpeg fills its last blocks."""
    return F.pad(x, (0, right, 0, below), mode="replicate") if below or right else x


def _alternate(planes: Tensor, amount: float) -> Tensor:
    """Adds `amount` to the even columns and takes it from the odd: this is how libjpeg settles the rounding of ties."""
    columns = planes.new_full((planes.shape[3],), amount)
    columns[1::2] = -amount
    return planes + columns


def _code(planes: Tensor, quality: int, rounding: Rounding, is_chroma: bool) -> Tensor:
    """Samples (n, c, h, w) centred on 0, quantised in the DCT domain and rounded to what 8 bits hold."""
    basis, steps = _constants(quality, is_chroma, planes.device)
    frequencies = straight_through_round(to_blocks(planes, BLOCK) @ basis.T * 8)  # libjpeg's DCT ends in eighths
    levels = rounding(frequencies / (8 * steps) * _AWAY_FROM_ZERO)
    samples = from_blocks(levels * steps @ basis, BLOCK)
    return straight_through_round(samples).clamp(-128, 127)


@lru_cache(maxsize=512)
def _constants(quality: int, is_chroma: bool, device: torch.device) -> tuple[Tensor, Tensor]:
    """The DCT's basis and the quantiser steps (64,) of a table, on the device."""
    steps = torch.tensor(quantisation_table(quality, is_chroma), dtype=torch.float32, device=device)
    return cosine_basis(BLOCK, device), steps
