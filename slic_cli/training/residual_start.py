"""Transforms that cheng2020-anchor begins with: linear ones, in its residual blocks.

Downwards the axes are in the 3 x 3 stride-2 convolutions that begin a block (its skip sees one pixel of four). A leaky
ReLU follows, so each axis takes two channels of opposite signs, whose difference the block's second convolution makes.
Upwards they are in the skips, which are sub-pixel convolutions. All else is damped and adds next to nothing.
The last level of a lapped transform (lapped_start.py) sees 4 x 4 blocks of the level below, its kernel 3 x 3 of them:
the block before it hands on, in channels that it has to spare, what its strongest axes are one place further on.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from slic_cli.training.activity import GAMMA, NOISE
from slic_cli.transform.layers import LEAKY_SLOPE, subpixel_kernel

_NEAR, _FAR = slice(1, 4), 4  # the taps of five that a kernel of three has, and the last one
_ONWARDS = ((1, 0), (0, 1), (1, 1))  # places further on, down and to the right


def axes_room(widths: Sequence[int]) -> tuple[int, ...]:
    """The axes that each level of the analysis has room for: behind a leaky ReLU each takes two channels."""
    return (*(width // 2 for width in widths[:3]), widths[3])


def damp_residual_transforms(net: Any) -> None:
    """Leave NOISE of the random weights, and norms near the identity."""
    for module in [*net.g_a.modules(), *net.g_s.modules()]:
        if isinstance(module, nn.Conv2d):
            module.weight.mul_(NOISE)
            nn.init.zeros_(module.bias)  # type: ignore[arg-type]
        elif hasattr(module, "gamma_reparam"):
            module.gamma.copy_(module.gamma_reparam.init(GAMMA * torch.eye(module.beta.numel())))


def set_residual_layer(net: Any, level: int, axes: Tensor, mean: Tensor) -> None:
    """`axes`, one a row over the 2 x 2 places of the channels below, into a level of the analysis and the synthesis."""
    count, used = len(axes), axes.shape[1] // 4
    kernels = axes.reshape(count, used, 2, 2)
    down = net.g_a[6] if level == 3 else net.g_a[2 * level].conv1
    down.weight[:count, :used, 1:, 1:] += kernels
    if level < 3:
        _make_differences(net.g_a[2 * level], count, kernels)
    up = net.g_s[7][0] if level == 0 else net.g_s[7 - 2 * level].upsample[0]
    up.weight[: 4 * used, :count, 1, 1] += axes.T
    if level == 0:
        shift = axes @ mean
        down.bias[:count] = -shift
        down.bias[count : 2 * count] = shift
        up.bias[: 4 * used] = mean.reshape(used, 4).mean(1).repeat_interleave(4)


def set_residual_lapped_layer(net: Any, weight: Tensor) -> None:
    """The last level of a lapped transform: `weight` (out, in, 5, 5), its first taps 0, of a stride-2 convolution.

    The synthesis undoes it. The analysis leaves out the last taps of axes that are not handed on, the weakest.
    """
    count, used = weight.shape[:2]
    net.g_a[6].weight[:count, :used] += weight[:, :, _NEAR, _NEAR]
    before = net.g_a[4]
    passed = min(used, (before.conv2.weight.shape[0] - used) // len(_ONWARDS))
    for number, (down, right) in enumerate(_ONWARDS):
        further = slice(used + number * passed, used + (number + 1) * passed)
        _put_differences(before, further, passed, used, (1 + down, 1 + right))
        taken = [_FAR if step else _NEAR for step in (down, right)]
        given = [2 if step else slice(None) for step in (down, right)]
        net.g_a[6].weight[(slice(count), further, *given)] += weight[(slice(None), slice(passed), *taken)]
    net.g_s[1].upsample[0].weight[: 4 * used, :count] += subpixel_kernel(weight)


def _make_differences(block: Any, count: int, kernels: Tensor) -> None:
    block.conv1.weight[count : 2 * count, : kernels.shape[1], 1:, 1:] -= kernels
    _put_differences(block, slice(count), count, count, (1, 1))


def _put_differences(block: Any, outputs: slice, number: int, count: int, tap: tuple[int, int]) -> None:
    """In a block of `count` axes, the first `number` of them, seen at a tap of its second convolution, as `outputs`."""
    into, axes = torch.arange(outputs.start or 0, outputs.stop), torch.arange(number)
    block.conv2.weight[(into, axes, *tap)] += 1 / (1 + LEAKY_SLOPE)
    block.conv2.weight[(into, axes + count, *tap)] -= 1 / (1 + LEAKY_SLOPE)
