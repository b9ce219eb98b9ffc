"""Lapped start: transforms that begin as a lapped orthogonal one, of blocks of 16 pixels that reach over 32.

The first three levels take cosine transforms of 2, 4 and 8 pixels, all inside their blocks. The fourth makes of 4 x 4
of those blocks the lapped transform (Malvar and Staelin 1989) of the middle 16 x 16 pixels: a cosine transform of 16
after a rotation across each edge between blocks, as in time-domain lapped transforms (Tran, Liang and Tu 2003). Colours
are in principal axes. Training alone does not find the overlap: crops of 128 pixels punish it at their edges, where
the outer half of each basis function is missing. There the encoder makes up for it (`edges.py`), exactly so at the
start.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from slic_cli.training.activity import damp
from slic_cli.training.cheng2020 import Cheng2020
from slic_cli.training.hyperprior import Hyperprior
from slic_cli.training.residual_start import (
    axes_room,
    damp_residual_transforms,
    set_residual_lapped_layer,
    set_residual_layer,
)
from slic_cli.transform.edges import DEPTH, filter_edges

_BLOCK = 16  # pixels
_OWN, _LAPPED = slice(2, 4), slice(1, 5)  # the taps of five that a block's own halves, and the next ones too, fall on


@dataclass(frozen=True)
class Lapped:
    """Weights (out, in, 5, 5) of the four levels, the same in both directions, and the mean colour (3)."""

    weights: Sequence[Tensor]
    colour: Tensor


def cosines(size: int) -> Tensor:
    """The orthonormal DCT-II of `size` samples, one basis function a row."""
    frequency, place = torch.arange(size)[:, None], torch.arange(size) + 0.5
    rows = torch.cos(math.pi * frequency * place / size) * math.sqrt(2 / size)
    rows[0] /= math.sqrt(2)
    return rows


def overlap() -> Tensor:
    """The rotation across an edge, orthonormal (16, 16): 8 samples before it, 8 after it."""
    half = torch.arange(DEPTH)
    fourth = torch.cos(math.pi / DEPTH * (half[:, None] + 0.5) * (half + 0.5)) * math.sqrt(2 / DEPTH)  # DCT-IV
    turned = (cosines(DEPTH).T @ fourth).flip(0, 1)
    same, mirror = torch.eye(DEPTH), torch.eye(DEPTH).flip(0)
    butterfly = torch.cat([torch.cat([same, mirror], 1), torch.cat([mirror, -same], 1)]) / math.sqrt(2)
    rotation = torch.eye(_BLOCK)
    rotation[DEPTH:, DEPTH:] = turned
    return butterfly @ rotation @ butterfly


def lapped_transform() -> Tensor:
    """Orthonormal rows (16, 32): of the block in the middle of 32 samples."""
    both_edges = torch.kron(torch.eye(2), overlap())
    return cosines(_BLOCK) @ both_edges[DEPTH:-DEPTH]


def edge_filter() -> Tensor:
    """What undoes the loss of all that lies beyond an edge (DEPTH, DEPTH), from the edge inwards."""
    kept = overlap()[DEPTH:, DEPTH:]
    return torch.linalg.inv(kept.T @ kept)


def levels() -> Iterator[Tensor]:
    """Each level along one axis: (coefficients, taps, coefficients below)."""
    yield cosines(2)[:, :, None]
    for size in (4, 8):
        below = cosines(size // 2).T.contiguous()
        yield (cosines(size) @ torch.kron(torch.eye(2), below)).reshape(size, 2, size // 2)
    yield (lapped_transform() @ torch.kron(torch.eye(4), cosines(8).T.contiguous())).reshape(_BLOCK, 4, 8)


def lapped(crops: Tensor, widths: Sequence[int]) -> Lapped:
    """For pictures like `crops` (n, 3, h, w): of each level's coefficients the `widths` strongest."""
    colour, axes = _colours(crops)
    below = filter_edges(crops, edge_filter(), colour) - colour.view(3, 1, 1)
    present, weights = torch.arange(3), []
    for level, (line, width) in enumerate(zip(levels(), widths, strict=True)):
        weight = _plane(line, axes if level == 0 else torch.eye(3))[:, present]
        y = F.conv2d(below, weight, stride=2, padding=2)
        present = y.square().mean((0, 2, 3)).argsort(descending=True)[:width]
        weights.append(weight[present])
        below = y[:, present]
    return Lapped(weights, colour)


def _colours(crops: Tensor) -> tuple[Tensor, Tensor]:
    """Mean colour and principal axes, one a row."""
    pixels = crops.transpose(0, 1).flatten(1)
    colour = pixels.mean(1)
    _, axes = torch.linalg.eigh(torch.cov(pixels))
    return colour, axes.flip(1).T


def _plane(line: Tensor, axes: Tensor) -> Tensor:
    """Rows and columns of a level at once, for each colour: (coefficients, coefficients below, 5, 5)."""
    size, taps, below = line.shape
    weight = torch.zeros(size * size * 3, below * below * 3, 5, 5)
    place = _OWN if taps == 2 else _LAPPED
    both = torch.einsum("ayi,bxj,kc->abkijcyx", line, line, axes)
    weight[:, :, place, place] = both.reshape(*weight.shape[:2], taps, taps)
    return weight


@torch.no_grad()
def start_lapped(codec: Hyperprior, crops: Tensor) -> int:
    """Initialise the transforms of `codec`, on the CPU; returns how many latents, the first ones, are in use."""
    residual = isinstance(codec, Cheng2020)
    start = lapped(crops, axes_room(codec.widths) if residual else codec.widths)
    put = _put_residual if residual else _put_plain
    put(codec.net, start)
    codec.edge_filter.copy_(edge_filter())
    codec.edge_colour.copy_(start.colour)
    return len(start.weights[-1])


def _put_plain(net: Any, start: Lapped) -> None:
    damp(net)
    below = 3
    for level, weight in enumerate(start.weights):
        for layer in (net.g_a[2 * level], net.g_s[6 - 2 * level]):
            layer.weight[: len(weight), :below] += weight
        below = len(weight)
    first = start.weights[0]
    net.g_a[0].bias[: len(first)] = -(first.sum((2, 3)) @ start.colour)
    net.g_s[6].bias.copy_(start.colour)


def _put_residual(net: Any, start: Lapped) -> None:
    damp_residual_transforms(net)
    *inside, last = start.weights
    for level, weight in enumerate(inside):
        set_residual_layer(net, level, weight[:, :, _OWN, _OWN].flatten(1), start.colour.repeat_interleave(4))
    set_residual_lapped_layer(net, last)
