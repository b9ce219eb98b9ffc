"""The transforms of bmshj2018-hyperprior (Balle et al. 2018): g_a, h_a and g_s, folded for inference.

Equal to CompressAI's modules on the same weights, less what only training needs: GDN's reparametrisation is undone and
the factor 255 between bytes and the unit range is folded into the outer convolutions. Only the largest convolutions run
in bfloat16, where the processor is made for it: first and last layers and all divisions stay in float32, because
self-destruction makes a model sensitive, and what shifts the brightness of flat areas costs more than noise.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from slic_cli.transform import layers
from slic_cli.transform.edges import edge_filter_of
from slic_cli.transform.layers import LATENT_UNIT as LATENT_UNIT
from slic_cli.transform.layers import Arrays, Gdn, bands, load_weight, subpixel_kernel, to_precision
from slic_cli.transform.tiling import analyse_tiles, synthesise_tiles
from slic_cli.transform.trimming import hyperprior_part, trim_hyperprior

HALO = 2  # latents around a tile that its pixels, or its latents, depend on
TILE = 64  # latents along a tile's side


def _phases(weight: Tensor, bias: Tensor, dtype: torch.dtype) -> list[tuple[Tensor, Tensor]]:
    """A stride-2 transposed 5x5 convolution as one ordinary convolution for each parity of output row and column.

    Output n = 2 m - 2 + k: even n see the taps 4, 2, 0 from m = n / 2 - 1 on, odd n the taps 3, 1 from
    m = (n - 1) / 2 on.
    oneDNN is quicker at these four than at the transposed convolution itself.
    """
    kernels = [weight[:, :, row::2, column::2].flip(2, 3).transpose(0, 1) for row in (0, 1) for column in (0, 1)]
    return [(to_precision(kernel, dtype), bias.to(dtype)) for kernel in kernels]


def _interleave(phases: list[Tensor], top: int, bottom: int) -> Tensor:
    """Rows [top, bottom) of the map whose phases were convolved with padding 1, in float32."""
    _, channels, _, columns = phases[0].shape
    shape = (1, channels, bottom - top, 2 * columns)
    result = torch.empty(shape, device=phases[0].device, memory_format=torch.channels_last)
    for index, phase in enumerate(phases):
        row, column = divmod(index, 2)
        first = top + (row - top) % 2
        # Two-tap phases need padding on one side only: their first row or column is surplus.
        source = slice(first // 2 + row, (bottom - row + 1) // 2 + row)
        result[:, :, first - top :: 2, column::2] = phase[:, :, source, column : column + columns]
    return result


class Balle2018Transform:
    """g_a, h_a and g_s on one device, in one precision.

    `tensors` holds CompressAI's names; `precision` is torch.bfloat16 or torch.float32. With bfloat16, only the middle
    layers' matrix products and what is stored between them are half as wide.
    """

    def __init__(self, tensors: Arrays, device: torch.device, precision: torch.dtype) -> None:
        self._tensors = trim_hyperprior(tensors)
        self.device = device
        self._edge_filter = edge_filter_of(tensors)
        half, full = precision, torch.float32
        self._g_a = self._convolutions("g_a", (full, half, half, full))
        self._g_a_norm = self._norms("g_a", (half, half, full), inverse=False)
        self._g_s = self._convolutions("g_s", (full, full))
        self._g_s_phases = _phases(self._tensor("g_s.4.weight"), self._tensor("g_s.4.bias"), half)
        self._g_s_norm = self._norms("g_s", (full, half, full), inverse=True)
        self._h_a = self._convolutions("h_a", (full, full, full))
        self._g_s_last = self._subpixel("g_s.6")
        self._g_a[0] = (self._g_a[0][0] / 255.0, self._g_a[0][1])
        self.channels = len(self._g_a[-1][1])

    def part(self, latents: npt.NDArray[np.int64]) -> Self:
        """Of g_a what makes these `latents` alone, in float32; `analyse_rows` gives them in that order."""
        return type(self)(hyperprior_part(self._tensors, latents), self.device, torch.float32)

    def _tensor(self, name: str) -> Tensor:
        return load_weight(self._tensors, name, self.device)

    def _convolutions(self, name: str, dtypes: Sequence[torch.dtype]) -> list[tuple[Tensor, Tensor]]:
        """Weight and bias of each convolution; they alternate with normalisations, or with ReLUs in h_a."""
        convolutions = []
        for index, dtype in enumerate(dtypes):
            weight = to_precision(self._tensor(f"{name}.{2 * index}.weight"), dtype)
            convolutions.append((weight, self._tensor(f"{name}.{2 * index}.bias").to(dtype)))
        return convolutions

    def _norms(self, name: str, outs: Sequence[torch.dtype], inverse: bool) -> list[Gdn]:
        betas, gammas = ([self._tensor(f"{name}.{i}.{part}") for i in (1, 3, 5)] for part in ("beta", "gamma"))
        return [Gdn(b, g, inverse, out) for b, g, out in zip(betas, gammas, outs, strict=True)]

    def _subpixel(self, name: str) -> tuple[Tensor, Tensor]:
        """The convolution to pixels, for a pixel shuffle after it."""
        weight, bias = self._tensor(f"{name}.weight"), self._tensor(f"{name}.bias")
        kernel = subpixel_kernel(weight).to(memory_format=torch.channels_last)
        return kernel * 255.0, bias.repeat_interleave(4) * 255.0

    @torch.inference_mode()
    def analysis(self, pixels: Tensor) -> Tensor:
        """x -> y: 0 to 255 (rows, columns, 3), sides multiples of 16, to float32 (M, rows / 16, columns / 16)."""
        x = self._first_stage(pixels.to(self.device).permute(2, 0, 1)[None].float())
        for (weight, bias), norm in zip(self._g_a[1:-1], self._g_a_norm[1:], strict=True):
            x = norm(F.conv2d(x.to(weight.dtype), weight, bias, stride=2, padding=2))
        return F.conv2d(x, *self._g_a[-1], stride=2, padding=2)[0]

    def _first_stage(self, x: Tensor) -> Tensor:
        """Convolution and normalisation band by band: the float32 features between them never leave the cache."""
        (weight, bias), norm = self._g_a[0], self._g_a_norm[0]
        shape = (1, len(bias), x.shape[2] // 2, x.shape[3] // 2)
        result = torch.empty(shape, dtype=norm.out, device=self.device, memory_format=torch.channels_last)
        padded = F.pad(x, (2, 2, 2, 2)).contiguous(memory_format=torch.channels_last)
        for band in bands(*shape[2:]):
            seen = padded[:, :, 2 * band.start : 2 * band.stop + 3]
            result[:, :, band] = norm.normalise(F.conv2d(seen, weight, bias, stride=2))
        return result

    @torch.inference_mode()
    def hyper_analysis(self, y: Tensor) -> Tensor:
        """y -> z: float32 (M, rows, columns) to (N, ceil(rows / 4), ceil(columns / 4))."""
        return self._hyper_analysis(y.abs(), 0.0)

    def _hyper_analysis(self, x: Tensor, slope: float) -> Tensor:
        """h_a on what it sees of y, with ReLUs of a given negative slope."""
        (first, b_0), (second, b_1), (third, b_2) = self._h_a
        x = F.leaky_relu_(F.conv2d(x.to(self.device)[None], first, b_0, padding=1), slope)
        x = F.leaky_relu_(F.conv2d(x, second, b_1, stride=2, padding=2), slope)
        return F.conv2d(x, third, b_2, stride=2, padding=2)[0]

    @torch.inference_mode()
    def synthesis(self, y_hat: Tensor) -> Tensor:
        """y_hat -> x_hat: (M, rows, columns) integers to uint8 (16 rows, 16 columns, 3)."""
        x = y_hat.to(self.device)[None].float().contiguous(memory_format=torch.channels_last)
        for (weight, bias), norm in zip(self._g_s, self._g_s_norm[:2], strict=True):
            x = norm(F.conv_transpose2d(x, weight, bias, stride=2, padding=2, output_padding=1))
        return self._last_stages([F.conv2d(x, *phase, padding=1) for phase in self._g_s_phases]).cpu()

    def _last_stages(self, phases: list[Tensor]) -> Tensor:
        """Normalisation and the convolution to pixels, band by band with one row of halo.

        `phases` are the third transposed convolution's four output phases, interleaved here as they are needed.
        """
        rows, columns = 2 * (phases[0].shape[2]), 2 * (phases[0].shape[3])
        pixels = torch.empty(2 * rows, 2 * columns, 3, dtype=torch.uint8, device=self.device)
        for band in bands(rows, columns, 2 * layers.BAND_PIXELS):  # larger, because each computes its halo as well
            top, bottom = max(0, band.start - 1), min(rows, band.stop + 1)
            features = self._g_s_norm[2].normalise(_interleave(phases, top, bottom))
            missing = (top - band.start + 1, band.stop + 1 - bottom)  # halo rows beyond the picture
            if any(missing):
                features = F.pad(features, (0, 0, *missing))
            part = F.pixel_shuffle(F.conv2d(features, *self._g_s_last, padding=(0, 1)), 2)
            part = part[0].round_().clamp_(0, 255).to(torch.uint8)
            pixels[2 * band.start : 2 * band.stop] = part.permute(1, 2, 0)
        return pixels

    def analyse_rows(self, pixels: Tensor, start: int, stop: int) -> Tensor:
        """Latent rows [start, stop) of a whole padded picture, tile by tile: float32 (M, stop - start, columns)."""
        return analyse_tiles(self.analysis, pixels, (start, stop), self.channels, TILE, HALO, self._edge_filter)

    def synthesise(self, y_hat: Tensor) -> Tensor:
        """A whole picture from all its latents, tile by tile: uint8 (16 rows, 16 columns, 3)."""
        return synthesise_tiles(self.synthesis, y_hat, TILE, HALO)
