"""cheng2020-anchor as it is trained (Cheng et al. 2020): residual transforms and mbt2018's context model."""

from __future__ import annotations

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


class Cheng2020(Minnen2018):
    """cheng2020-anchor with `n` channels everywhere, `m` as many, in normalised units."""

    architecture: ClassVar[str] = "cheng2020-anchor"

    def shapes(self) -> Shapes:
        """Of plain weights."""
        return anchor_shapes(self.n, self.m)

    def _make_net(self) -> nn.Module:
        from compressai.models import Cheng2020Anchor

        net: Any = Cheng2020Anchor(self.n)
        for index in (0, 2, 4):
            block = net.g_a[index]
            block.skip = _EverySecond(block.skip.in_channels, self.n, 1)
        module: nn.Module = net
        return module

    def _transform_factors(self) -> dict[str, Tensor | float]:
        """g_s.0 adds its input to what it makes of it: both leave it in quantiser steps, the next block takes them."""
        gain = self.gain
        analysis: dict[str, Tensor | float] = {"g_a.6.weight": gain, "g_a.6.bias": gain}
        block = {"g_s.0.conv1.weight": 1 / gain, "g_s.0.conv2.weight": gain, "g_s.0.conv2.bias": gain}
        following = {"g_s.1.subpel_conv.0.weight": 1 / gain, "g_s.1.upsample.0.weight": 1 / gain}
        return analysis | block | following
