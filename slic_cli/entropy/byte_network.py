"""Fixed-point layers of small integers: the hyper-syntheses and context models of mbt2018 and cheng2020-anchor.

Activations have 16 bits. Each output has a power of two of its own, with which its weights are 8 to 16 on average, so
that nearly all are bytes and a row of small weights is as exact as one of large ones. Products are exact
(entropy/byte_product.py) and put together in float64, where everything here is exact: sums have less than 35 bits,
biases at most 43, the slope of a leaky ReLU adds 10, and powers of two add none. docs/format.md gives the arithmetic.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from slic_cli.entropy.byte_product import LIMIT, ByteProduct, operand
from slic_cli.entropy.phases import Kind, Phase, phases_of, reach_of
from slic_cli.errors import BadModelFile

Floats = npt.NDArray[np.floating[Any]]

HIDDEN_BITS = 7  # fraction bits of activations
LEAKY_SLOPE = 655 / (1 << 16)  # what LeakyReLU's 0.01 is here
_MEAN_WEIGHT = 16
_EXPONENT_MAX = 20
_PATCH_BYTES = 16 << 20  # working memory of one product


@dataclass(frozen=True)
class FixedWeights:
    """Weights (out, ...), integers of at most LIMIT in size over 2^exponents; biases over 2^(exponents + bits)."""

    weight: npt.NDArray[np.float64]
    bias: npt.NDArray[np.float64]
    exponents: npt.NDArray[np.int64]


def to_fixed_weights(weight: Floats, bias: Floats, bits: int) -> FixedWeights:
    """`weight` (out, ...) and `bias` (out) of a layer whose input has `bits` fraction bits. Raises BadModelFile."""
    if not (np.isfinite(weight).all() and np.isfinite(bias).all()):
        raise BadModelFile("expected integer networks with finite weights, got others")
    rows = np.abs(weight.astype(np.float64)).reshape(len(weight), -1)  # half-precision weights: their sums are exact
    exponents = np.minimum(_room(_MEAN_WEIGHT * rows.shape[1], rows.sum(1)), _room(LIMIT, rows.max(1)))
    by_output = exponents.reshape(-1, *[1] * (weight.ndim - 1))
    fixed = np.rint(np.ldexp(weight.astype(np.float64), by_output))
    return FixedWeights(fixed, np.rint(np.ldexp(bias.astype(np.float64), exponents + bits)), exponents)


def _room(limit: int, values: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """The largest integers, up to _EXPONENT_MAX, with which values * 2^result <= limit."""
    fraction, power = np.frexp(values)  # values = fraction * 2^power, fraction from 0.5 to 1 or 0
    most, power_of_limit = np.frexp(float(limit))
    room = power_of_limit - power.astype(np.int64) - (fraction > most)
    return np.where(values > 0, np.minimum(room, _EXPONENT_MAX), _EXPONENT_MAX)


class ByteLayer:
    """A matrix, a bias, a leaky ReLU where `slope` is not 1, a rounded shift and a clip.

    Rows of activations (n, in), with `bits` fraction bits, to rows of integers with `out_bits`, each output its own or
    all the same.
    """

    def __init__(
        self, fixed: FixedWeights, bits: int, out_bits: int | npt.NDArray[np.int64] = HIDDEN_BITS, slope: float = 1.0
    ) -> None:
        self._product = ByteProduct(torch.from_numpy(fixed.weight))
        self._bias = torch.from_numpy(fixed.bias)
        self._scale = torch.from_numpy(np.ldexp(1.0, out_bits - bits - fixed.exponents))
        self._slope = slope
        self.outputs = len(fixed.bias)

    def __call__(self, x: Tensor, share: Tensor | None = None, limit: float = LIMIT) -> Tensor:
        """An operand (parts, n, in) to integers in float64 (n, out), at most `limit` in size.

        `share` (n, out) takes the place of the bias. Ties are rounded to even.
        """
        sums = self._product(x).add_(self._bias if share is None else share)
        if self._slope != 1:
            F.leaky_relu_(sums, self._slope)
        return sums.mul_(self._scale).round_().clamp_(-limit, limit)

    def share(self, x: Tensor) -> Tensor:
        """The sums with the bias, and nothing else: integers in float64 (n, out)."""
        return self._product(x).add_(self._bias)


class ByteConvolution:
    """A convolution that keeps or doubles the grid, as its output phases, with a leaky ReLU where `slope` is not 1.

    Input and output are activations, int16 (rows, columns, channels) of HIDDEN_BITS.
    """

    def __init__(self, weight: Floats, bias: Floats, kind: Kind, slope: float) -> None:
        by_output = weight.swapaxes(0, 1) if kind is Kind.TRANSPOSED else weight
        fixed = to_fixed_weights(by_output, bias, HIDDEN_BITS)
        self._phases = phases_of(kind, fixed.weight.swapaxes(0, 1) if kind is Kind.TRANSPOSED else fixed.weight)
        self._layers = [ByteLayer(_part(fixed, phase), HIDDEN_BITS, slope=slope) for phase in self._phases]
        self._stride, self._reach = kind.stride, reach_of(self._phases)

    def __call__(self, x: Tensor) -> Tensor:
        rows, columns, channels = x.shape
        seen = F.pad(operand(x), (0, 0, *[self._reach] * 4))
        height, width = rows * self._stride, columns * self._stride
        out = torch.empty(height, width, self._layers[0].outputs, dtype=torch.int16)
        taps = max(len(phase.taps) for phase in self._phases)
        band = max(1, _PATCH_BYTES // (len(seen) * seen.element_size() * channels * taps * columns))
        for top in range(0, rows, band):
            bottom = min(rows, top + band)
            for phase, layer in zip(self._phases, self._layers, strict=True):
                results = layer(self._patches(seen, phase, top, bottom))
                first = top * self._stride + phase.row
                part = out[first : bottom * self._stride : self._stride, phase.column :: self._stride]
                part.copy_(results.view(bottom - top, columns, -1))
        return out

    def _patches(self, seen: Tensor, phase: Phase, top: int, bottom: int) -> Tensor:
        """What the taps see from rows [top, bottom): an operand (parts, positions, taps * channels)."""
        reach, columns = self._reach, seen.shape[2] - 2 * self._reach
        views = [
            seen[:, reach + top + row : reach + bottom + row, reach + column : reach + column + columns]
            for row, column in phase.taps
        ]
        return torch.cat(views, 3).view(len(seen), (bottom - top) * columns, -1)


def _part(fixed: FixedWeights, phase: Phase) -> FixedWeights:
    return FixedWeights(phase.weight, fixed.bias[phase.outputs], fixed.exponents[phase.outputs])


class ByteHyperSynthesis:
    """h_s: convolutions, all but the last followed by a leaky ReLU.

    Called with z_hat, activations int16 (rows, columns, N), it returns such: (4 rows, 4 columns, channels).
    """

    def __init__(self, weights: Sequence[Floats], biases: Sequence[Floats], kinds: Sequence[Kind]) -> None:
        slopes = [LEAKY_SLOPE] * (len(kinds) - 1) + [1.0]
        self._layers = [ByteConvolution(*layer) for layer in zip(weights, biases, kinds, slopes, strict=True)]

    def __call__(self, z_hat: Tensor) -> Tensor:
        x = z_hat
        for layer in self._layers:
            x = layer(x)
        return x
