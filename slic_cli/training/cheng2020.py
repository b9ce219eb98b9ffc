"""cheng2020-anchor as it is trained (Cheng et al. 2020): residual transforms and mbt2018's context model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch.nn.functional as F
from torch import Tensor, nn

from slic_cli.shapes import Shapes, anchor_shapes
from slic_cli.training.minnen2018 import Minnen2018


class _EverySecond(nn.Conv2d):
    """A 1 x 1 convolution of every second pixel.

    A plain one of what a slice leaves: the weight gradient of oneDNN's strided one (torch 2.15, CPU, channels last)
    writes beyond its buffers for 8, 16, 128 and 192 outputs.
    """

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x[:, :, ::2, ::2], self.weight, self.bias)


def halving_block(before: int, after: int) -> nn.Module:
    """A residual block of stride 2."""
    from compressai.layers import ResidualBlockWithStride

    block: nn.Module = ResidualBlockWithStride(before, after, stride=2)
    block.skip = _EverySecond(before, after, 1)
    return block


def _narrow_transforms(widths: Sequence[int]) -> tuple[nn.Sequential, nn.Sequential]:
    """g_a and g_s with `widths` channels on the grids of 1/2, 1/4, 1/8 and 1/16 of the picture's."""
    from compressai.layers import ResidualBlock, ResidualBlockUpsample, conv3x3, subpel_conv3x3

    a, b, c, m = widths
    down: list[Any] = []
    for before, after in ((3, a), (a, b), (b, c)):
        down += [halving_block(before, after), ResidualBlock(after, after)]
    up: list[Any] = [ResidualBlock(m, m)]
    for before, after in ((m, c), (c, b), (b, a)):
        up += [ResidualBlockUpsample(before, after, 2), ResidualBlock(after, after)]
    return nn.Sequential(*down, conv3x3(c, m, stride=2)), nn.Sequential(*up, subpel_conv3x3(a, 3, 2))


class Cheng2020(Minnen2018):
    """cheng2020-anchor with N = `n` channels, `m` as many, in normalised units."""

    architecture: ClassVar[str] = "cheng2020-anchor"

    def shapes(self) -> Shapes:
        """Of plain weights."""
        return anchor_shapes(self.n, self.m)

    def _make_net(self) -> nn.Module:
        from compressai.layers import conv3x3
        from compressai.models import Cheng2020Anchor, JointAutoregressiveHierarchicalPriors

        m, anchor = self.widths[3], Cheng2020Anchor(self.n)
        net: Any = JointAutoregressiveHierarchicalPriors(self.n, m)
        net.g_a, net.g_s = _narrow_transforms(self.widths)
        net.h_a, net.h_s = anchor.h_a, anchor.h_s
        if m < self.n:
            net.h_a[0] = conv3x3(m, self.n)
            net.h_s[8] = conv3x3(net.h_s[8].in_channels, 2 * m)
        module: nn.Module = net
        return module

    def _transform_factors(self) -> dict[str, Tensor | float]:
        """g_s.0 adds its input to what it makes of it: both leave it in quantiser steps, the next block takes them."""
        gain = self.gain
        analysis: dict[str, Tensor | float] = {"g_a.6.weight": gain, "g_a.6.bias": gain}
        block = {"g_s.0.conv1.weight": 1 / gain, "g_s.0.conv2.weight": gain, "g_s.0.conv2.bias": gain}
        following = {"g_s.1.subpel_conv.0.weight": 1 / gain, "g_s.1.upsample.0.weight": 1 / gain}
        return analysis | block | following
