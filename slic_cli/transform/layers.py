"""What the transforms of several architectures are made of: normalisation, weights in half precision, bands of rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from slic_cli.errors import BadModelFile

LATENT_UNIT = 16  # picture rows and columns per latent
LEAKY_SLOPE = 0.01
BAND_PIXELS = 3072  # full-resolution features are worked on in bands of about so many pixels, to stay in cache
_PEDESTAL = 2.0**-36  # of CompressAI's NonNegativeParametrizer
_BETA_MIN = 1e-6

Arrays = Mapping[str, npt.NDArray[np.floating[Any]]]


def load_weight(tensors: Arrays, name: str, device: torch.device) -> Tensor:
    """One tensor in float32. Raises BadModelFile."""
    if name not in tensors:
        raise BadModelFile(f"expected the tensor {name}, got a model without it")
    return torch.from_numpy(tensors[name].astype(np.float32)).to(device)


def subpixel_kernel(weight: Tensor) -> Tensor:
    """A stride-2 transposed 5x5 convolution (in, out, 5, 5) as a 3x3 one to four times the channels.

    (4 out, in, 3, 3), for a pixel shuffle after it. The transposed one has padding 2 and output padding 1.
    """
    cin, cout = weight.shape[:2]
    phases = weight.new_zeros(cout, 2, 2, cin, 3, 3)
    for i, j, place in subpixel_taps():
        phases[(slice(None), *place)] = weight[:, :, i, j].T
    return phases.flatten(0, 2)


def subpixel_taps() -> Iterator[tuple[int, int, tuple[int, int, slice, int, int]]]:
    """Row i and column j of a transposed kernel, and where they go in (2, 2, in, 3, 3) of each output channel."""
    for i in range(5):
        for j in range(5):
            yield i, j, (i % 2, j % 2, slice(None), (i % 2 + 2 - i) // 2 + 1, (j % 2 + 2 - j) // 2 + 1)


class Gdn:
    """Generalised divisive normalisation, x / sqrt(beta + gamma x^2), or its inverse, in float32.

    The result is rounded once, to `out`. Feature maps are channels_last, (1, C, rows, columns).
    """

    def __init__(self, beta: Tensor, gamma: Tensor, inverse: bool, out: torch.dtype) -> None:
        self._beta = beta.clamp(min=(_BETA_MIN + _PEDESTAL) ** 0.5) ** 2 - _PEDESTAL
        self._gamma = (gamma.clamp(min=_PEDESTAL**0.5) ** 2 - _PEDESTAL)[:, :, None, None]
        self._inverse = inverse
        self.out = out

    def __call__(self, x: Tensor) -> Tensor:
        result = torch.empty_like(x, dtype=self.out, memory_format=torch.channels_last)
        for band in bands(*x.shape[2:]):
            result[:, :, band] = self.normalise(x[:, :, band].float())
        return result

    def normalise(self, x: Tensor) -> Tensor:
        """The same for one band of float32 features, in float32."""
        norm = F.conv2d(x * x, self._gamma, self._beta)
        return (norm.sqrt_() if self._inverse else norm.rsqrt_()).mul_(x)


def to_precision(weight: Tensor, dtype: torch.dtype) -> Tensor:
    """Convolution weights (a, b, rows, columns) in `dtype`, channels_last, with the sum of each kernel kept.

    Rounding each weight by itself changes a kernel's sum, which shifts the brightness of flat areas by more than the
    codec's own error there. So the error of each tap is carried on to the next smaller one.
    """
    if dtype == weight.dtype:
        return weight.to(memory_format=torch.channels_last)
    taps = weight.flatten(2)
    order = taps.abs().argsort(2, descending=True)
    rounded, carry = torch.empty_like(taps), torch.zeros_like(taps[:, :, 0])
    for place in order.unbind(2):
        wanted = taps.gather(2, place[:, :, None])[:, :, 0] + carry
        got = wanted.to(dtype).to(weight.dtype)
        rounded.scatter_(2, place[:, :, None], got[:, :, None])
        carry = wanted - got
    return rounded.view_as(weight).to(dtype).contiguous(memory_format=torch.channels_last)


def bands(rows: int, columns: int, pixels: int | None = None) -> Iterator[slice]:
    """Cut the rows of a feature map into bands that fit the cache."""
    height = max(1, (pixels or BAND_PIXELS) // columns)
    for top in range(0, rows, height):
        yield slice(top, min(rows, top + height))
