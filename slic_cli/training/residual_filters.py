"""The filters of filters.py in the shape of cheng2020-anchor's analysis: 3 x 3 kernels, leaky ReLUs, residual blocks.

A leaky ReLU lets a linear map through in two channels of opposite signs, whose difference the next convolution makes.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from slic_cli.training.cheng2020 import halving_block
from slic_cli.training.filters import (
    COLOURS,
    FULL_ANSWER,
    GROUP,
    NOISE,
    SCALES,
    SECOND_GAIN,
    VARIANTS,
    group_norm,
    in_phase,
    phases,
    set_norm,
    wave_kernels,
)
from slic_cli.training.jpeg_simulation import TO_YCC

RESIDUAL_DETECTORS = (8, 24, 32, 2 * GROUP)  # channels on the grids of 1/2 to 1/16
PLACES = (0, 2, 4, 5, 6)  # of the filters' modules in g_a; its blocks 1 and 3 let them through
DIFFERENCE = 1 / 1.01  # of what a leaky ReLU makes of both signs

_LOWPASS = torch.tensor([1.0, 2.0, 1.0]) / 4
_WINDOW = _LOWPASS[:, None] * _LOWPASS
_CENTRE = torch.zeros(3, 3)
_CENTRE[1, 1] = 1
_GRID = 8 * (torch.arange(3.0) - 1)  # pixels between the places of a kernel at an eighth of the resolution
_PAIRS = 2 * len(SCALES)  # channels of each group that are summed


@torch.no_grad()
def residual_filters() -> nn.Sequential:
    """Three blocks that halve the grid, one that keeps it, a convolution: 3 to 2 GROUP channels, at 1/16."""
    from compressai.layers import ResidualBlock, conv3x3

    a, b, c, m = RESIDUAL_DETECTORS
    g_a: Any = nn.Sequential(
        halving_block(3, a), halving_block(a, b), halving_block(b, c), ResidualBlock(c, c), conv3x3(c, m, stride=2)
    )
    for module in g_a.modules():
        if isinstance(module, nn.Conv2d):
            module.weight.mul_(NOISE)
            nn.init.zeros_(module.bias)  # type: ignore[arg-type]
        elif hasattr(module, "gamma_reparam"):
            set_norm(module, torch.ones_like(module.beta), 1e-3 * torch.eye(module.beta.numel()))
    own = torch.eye(len(COLOURS))[:, :, None, None]
    colours = torch.stack([gain * torch.tensor(TO_YCC[colour]) for colour, gain in COLOURS])[:, :, None, None]
    _pass_through(g_a[0], colours * _WINDOW, own * _WINDOW)
    _pass_through(g_a[1], own * _WINDOW, own * SECOND_GAIN * _CENTRE)
    _pass_through(g_a[2], *_in_phases_of_the_grid(wave_kernels()))
    g_a[2].conv2.weight[2 * GROUP :] = 0
    set_norm(g_a[2].gdn, *group_norm(c))
    _sum_up(g_a[3], g_a[4])
    filters: nn.Sequential = g_a
    return filters


def _pass_through(block: Any, first: Tensor, second: Tensor) -> None:
    """Two linear maps in a row, (inner, in, 3, 3) and (out, inner, 3, 3), into a block's two convolutions."""
    inner, below = first.shape[:2]
    block.conv1.weight[:inner, :below] += first
    block.conv1.weight[inner : 2 * inner, :below] -= first
    block.conv2.weight[: len(second), :inner] += DIFFERENCE * second
    block.conv2.weight[: len(second), inner : 2 * inner] -= DIFFERENCE * second


def _in_phases_of_the_grid(kernels: Tensor) -> tuple[Tensor, Tensor]:
    """Convolutions of stride 2 with 5 x 5 `kernels` (out, in, 5, 5) as one of 3 x 3 and one of stride 1.

    The first takes the four pixels of each 2 x 2 block apart, the second sees 3 x 3 such blocks.
    """
    out, below = kernels.shape[:2]
    apart = torch.zeros(4 * below, below, 3, 3)
    together = torch.zeros(out, 4 * below, 3, 3)
    for row in range(2):
        for column in range(2):
            channels = torch.arange(below) * 4 + 2 * row + column
            apart[channels, torch.arange(below), 1 + row, 1 + column] = 1
            for i in range(row, 5, 2):
                for j in range(column, 5, 2):
                    together[:, channels, i // 2, j // 2] = kernels[:, :, i, j]
    return apart, together


def _sum_up(block: Any, last: Any) -> None:
    """Each pair, turned back and summed: twice in the residual block, for all the variants of its scale in `last`."""
    first, second = (torch.zeros(2 * _PAIRS, width, 3, 3) for width in (2 * GROUP, 2 * _PAIRS))
    ends = torch.zeros(2 * GROUP, 2 * _PAIRS, 3, 3)
    for group in range(2):
        for number, scale in enumerate(SCALES):
            inner = slice(group * _PAIRS + 2 * number, group * _PAIRS + 2 * number + 2)
            seen = slice(group * GROUP + 2 * number, group * GROUP + 2 * number + 2)
            first[inner, seen] = second[inner, inner] = in_phase(phases(0, scale, group, _GRID), _WINDOW)
            for place, (degrees, magnification) in enumerate(VARIANTS):
                if magnification == scale:
                    out = slice(group * GROUP + 2 * place, group * GROUP + 2 * place + 2)
                    ends[out, inner] = in_phase(phases(degrees, scale, group, _GRID), FULL_ANSWER * _WINDOW)
    _pass_through(block, first, torch.cat([torch.zeros(2 * GROUP, *second.shape[1:]), second, -second]))
    sums = slice(2 * GROUP, 2 * GROUP + 2 * _PAIRS)
    opposite = slice(sums.stop, sums.stop + 2 * _PAIRS)
    last.weight[:, sums] += DIFFERENCE * ends
    last.weight[:, opposite] -= DIFFERENCE * ends
