"""What all distances share: the check of their inputs, and float32 for everything but VGG."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

MIN_SIDE = 64  # pixels
LUMA = (0.299, 0.587, 0.114)  # of R, G and B (BT.601)


class Distance(nn.Module):
    """Two float32 batches (n, 3, h, w) in [0, 1] to n distances; see make_distance.

    `features` runs under the caller's autocast, `compare` always in float32.
    """

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Raises ValueError for batches that are no pictures of one shape of at least MIN_SIDE pixels a side."""
        wanted = x.ndim == 4 and x.shape[1] == 3 and min(x.shape[2:]) >= MIN_SIDE and x.dtype == torch.float32
        if not wanted or x.shape != y.shape or x.dtype != y.dtype:
            got = f"{x.dtype} {tuple(x.shape)} and {y.dtype} {tuple(y.shape)}"
            raise ValueError(f"expected two float32 batches (n, 3, >= {MIN_SIDE}, >= {MIN_SIDE}), got {got}")
        features = self.features(torch.cat([x, y])) if x.requires_grad else self._beside(x, y)
        with torch.autocast(x.device.type, enabled=False):
            return self.compare(features)

    def _beside(self, x: Tensor, y: Tensor) -> list[Tensor]:
        """The features of both when no gradient is asked of `x`: a backbone then goes back through half of them."""
        with torch.no_grad():
            fixed = self.features(x)
        return [torch.cat(maps) for maps in zip(fixed, self.features(y), strict=True)]

    def features(self, pictures: Tensor) -> list[Tensor]:
        """What is compared: maps (2 n, channels, rows, columns) of (2 n, 3, h, w) pictures, by default just these."""
        return [pictures]

    def compare(self, features: list[Tensor]) -> Tensor:
        """The distances, (n,) float32, of the first n of each map to the others."""
        raise NotImplementedError


def halves(maps: Tensor) -> tuple[Tensor, Tensor]:
    """The maps of both batches in float32."""
    u, v = maps.float().chunk(2)
    return u, v


def mean_square(u: Tensor, v: Tensor) -> Tensor:
    """Mean squared difference of (n, channels, rows, columns), over all but the first axis."""
    return (u - v).square().mean((1, 2, 3))


def luma(x: Tensor) -> Tensor:
    """(n, 3, h, w) RGB to (n, 1, h, w) luma, in the same range."""
    red, green, blue = x.chunk(3, 1)
    return LUMA[0] * red + LUMA[1] * green + LUMA[2] * blue


def soft_root(x: Tensor, softness: float = 1e-6) -> Tensor:
    """sqrt(x) for x >= 0, less at most `softness`, with a finite slope at 0 and exactly 0 there."""
    return (x + softness * softness).sqrt() - softness


def filtered(x: Tensor, kernel: Tensor, stride: int = 1, padding: int = 0) -> Tensor:
    """conv2d of float32 maps in full precision: CUDA would round the operands of a float32 convolution to 11 bits."""
    if not x.is_cuda:
        return F.conv2d(x, kernel, stride=stride, padding=padding)
    return F.conv2d(x.double(), kernel.double(), stride=stride, padding=padding).float()
