"""Karhunen-Loeve initialisation of cheng2020-anchor's residual transforms.

Downwards the axes are in the 3 x 3 stride-2 convolutions that begin a block (its skip sees one pixel of four). A leaky
ReLU follows, so each axis takes two channels of opposite signs, whose difference the block's second convolution makes.
Upwards they are in the skips, which are sub-pixel convolutions. All else is damped and adds next to nothing.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from slic_cli.training.activity import GAMMA, NOISE

_LEAKY_SLOPE = 0.01


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


def _make_differences(block: Any, count: int, kernels: Tensor) -> None:
    own = torch.arange(count)
    block.conv1.weight[count : 2 * count, : kernels.shape[1], 1:, 1:] -= kernels
    block.conv2.weight[own, own, 1, 1] += 1 / (1 + _LEAKY_SLOPE)
    block.conv2.weight[own, own + count, 1, 1] -= 1 / (1 + _LEAKY_SLOPE)
