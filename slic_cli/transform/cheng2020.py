"""The transforms of cheng2020-anchor (Cheng et al. 2020 without attention): residual blocks, 3 x 3 kernels.

Equal to CompressAI's modules on the same weights; GDN's reparametrisation is undone, and the factor 255 between bytes
and the unit range is folded into the outer convolutions. The convolutions at half and quarter resolution, nearly all of
the work, may run in bfloat16; what is added up along the residual path is float32 throughout.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Self

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from slic_cli.transform.edges import edge_filter_of
from slic_cli.transform.layers import LEAKY_SLOPE, Arrays, Gdn, load_weight, to_precision
from slic_cli.transform.tiling import analyse_tiles, synthesise_tiles
from slic_cli.transform.trimming import anchor_part, trim_anchor

ANALYSIS_HALO = 4  # latents around a tile that its latents depend on: 57 pixels
SYNTHESIS_HALO = 7  # latents around a tile that its pixels depend on: 6.5
TILE = 48  # latents along a tile's side: the features of a tile with its halo take half a gigabyte

Stage = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Convolution:
    """A convolution with zero padding, from float32 or its own precision to float32, and a pixel shuffle where it is
    said so.
    """

    weight: Tensor
    bias: Tensor
    stride: int = 1
    shuffle: bool = False

    def __call__(self, x: Tensor) -> Tensor:
        return self._convolve(x).float()

    def rectified(self, x: Tensor) -> Tensor:
        """Followed by a leaky ReLU, in the convolution's own precision: the next one would round to it anyway."""
        return F.leaky_relu_(self._convolve(x), LEAKY_SLOPE)

    def _convolve(self, x: Tensor) -> Tensor:
        padding = self.weight.shape[2] // 2
        y = F.conv2d(x.to(self.weight.dtype), self.weight, self.bias, self.stride, padding)
        return F.pixel_shuffle(y, 2).contiguous(memory_format=torch.channels_last) if self.shuffle else y


@dataclass(frozen=True)
class ResidualBlock:
    """Two convolutions, each with a leaky ReLU, around which the input is added."""

    first: Convolution
    second: Convolution

    def __call__(self, x: Tensor) -> Tensor:
        return F.leaky_relu_(self.second(self.first.rectified(x)), LEAKY_SLOPE).add_(x)


@dataclass(frozen=True)
class ResizingBlock:
    """A convolution that halves or doubles the grid, another and a normalisation; a resizing convolution is added."""

    first: Convolution
    second: Convolution
    norm: Gdn
    skip: Convolution

    def __call__(self, x: Tensor) -> Tensor:
        return self.norm(self.second(self.first.rectified(x))).add_(self.skip(x))


class Cheng2020Transform:
    """g_a, h_a and g_s on one device, in one precision.

    `tensors` holds CompressAI's names; `precision` is torch.bfloat16 or torch.float32.
    """

    def __init__(self, tensors: Arrays, device: torch.device, precision: torch.dtype) -> None:
        self._tensors = trim_anchor(tensors)
        self.device = device
        self._edge_filter = edge_filter_of(tensors)
        half, full = precision, torch.float32
        self._g_a = self._analysis_stages((full, half, half, half, full, full), half)
        self._h_a = [self._convolution(f"h_a.{2 * i}", full, stride) for i, stride in enumerate((1, 1, 2, 1, 2))]
        self._g_s = self._synthesis_stages((full, full, full, half, half, half, half))
        self.channels = len(self._tensors["g_a.6.bias"])

    def part(self, latents: npt.NDArray[np.int64]) -> Self:
        """Of g_a what makes these `latents` alone, in float32; `analyse_rows` gives them in that order."""
        return type(self)(anchor_part(self._tensors, latents), self.device, torch.float32)

    def _convolution(
        self,
        name: str,
        dtype: torch.dtype,
        stride: int = 1,
        shuffle: bool = False,
        factors: tuple[float, float] = (1, 1),
    ) -> Convolution:
        """`factors` multiply weight and bias."""
        weight, bias = (load_weight(self._tensors, f"{name}.{part}", self.device) for part in ("weight", "bias"))
        weight, bias = weight * factors[0], bias * factors[1]
        return Convolution(to_precision(weight, dtype), bias.to(dtype), stride, shuffle)

    def _norm(self, name: str, inverse: bool) -> Gdn:
        beta, gamma = (load_weight(self._tensors, f"{name}.{part}", self.device) for part in ("beta", "gamma"))
        return Gdn(beta, gamma, inverse, torch.float32)

    def _residual_block(self, name: str, dtype: torch.dtype) -> ResidualBlock:
        return ResidualBlock(self._convolution(f"{name}.conv1", dtype), self._convolution(f"{name}.conv2", dtype))

    def _analysis_stages(self, dtypes: Sequence[torch.dtype], first: torch.dtype) -> list[Stage]:
        """g_a: three times a block that halves the grid and one that does not, then a convolution."""
        stages: list[Stage] = []
        for index, dtype in enumerate(dtypes):
            name = f"g_a.{index}"
            if index % 2:
                stages.append(self._residual_block(name, dtype))
                continue
            outer = (1 / 255, 1.0) if index == 0 else (1.0, 1.0)
            one = self._convolution(f"{name}.conv1", dtype, 2, factors=outer)
            two = self._convolution(f"{name}.conv2", first if index == 0 else dtype)
            skip = self._convolution(f"{name}.skip", torch.float32, 2, factors=outer)
            stages.append(ResizingBlock(one, two, self._norm(f"{name}.gdn", inverse=False), skip))
        return [*stages, self._convolution("g_a.6", torch.float32, 2)]

    def _synthesis_stages(self, dtypes: Sequence[torch.dtype]) -> list[Stage]:
        """g_s: three times a block that keeps the grid and one that doubles it, one more, then a convolution."""
        stages: list[Stage] = []
        for index, dtype in enumerate(dtypes):
            name = f"g_s.{index}"
            if index % 2 == 0:
                stages.append(self._residual_block(name, dtype))
                continue
            one = self._convolution(f"{name}.subpel_conv.0", dtype, shuffle=True)
            two = self._convolution(f"{name}.conv", dtype)
            skip = self._convolution(f"{name}.upsample.0", dtype, shuffle=True)
            stages.append(ResizingBlock(one, two, self._norm(f"{name}.igdn", inverse=True), skip))
        return [*stages, self._convolution("g_s.7.0", torch.float32, shuffle=True, factors=(255.0, 255.0))]

    @torch.inference_mode()
    def analysis(self, pixels: Tensor) -> Tensor:
        """x -> y: 0 to 255 (rows, columns, 3), sides multiples of 16, to float32 (N, rows / 16, columns / 16)."""
        x = pixels.to(self.device).permute(2, 0, 1)[None].float()
        for stage in self._g_a:
            x = stage(x)
        return x[0]

    @torch.inference_mode()
    def hyper_analysis(self, y: Tensor) -> Tensor:
        """y -> z: float32 (N, rows, columns) to (N, ceil(rows / 4), ceil(columns / 4))."""
        x = self._h_a[0](y.to(self.device)[None])
        for _, layer in pairwise(self._h_a):
            x = layer(F.leaky_relu_(x, LEAKY_SLOPE))
        return x[0]

    @torch.inference_mode()
    def synthesis(self, y_hat: Tensor) -> Tensor:
        """y_hat -> x_hat: (N, rows, columns) to uint8 (16 rows, 16 columns, 3)."""
        x = y_hat.to(self.device)[None].float()
        for stage in self._g_s:
            x = stage(x)
        return x[0].round_().clamp_(0, 255).to(torch.uint8).permute(1, 2, 0).cpu()

    def analyse_rows(self, pixels: Tensor, start: int, stop: int) -> Tensor:
        """Latent rows [start, stop) of a whole padded picture, tile by tile: float32 (N, stop - start, columns)."""
        rows, edges = (start, stop), self._edge_filter
        return analyse_tiles(self.analysis, pixels, rows, self.channels, TILE, ANALYSIS_HALO, edges)

    def synthesise(self, y_hat: Tensor) -> Tensor:
        """A whole picture from all its latents, tile by tile: uint8 (16 rows, 16 columns, 3)."""
        return synthesise_tiles(self.synthesis, y_hat, TILE, SYNTHESIS_HALO)
