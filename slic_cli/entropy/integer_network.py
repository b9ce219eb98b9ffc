"""Hyper-syntheses h_s as integer networks, equal on every machine.

A decoder that recomputes scales in floating point picks, now and then, another probability table than the encoder did,
and loses the picture. So weights and activations here are fixed-point integers. They are carried in float64 matrix
products, which are quick everywhere and exact as long as every partial sum stays below 2^53, whatever the order of the
additions, the number of threads or the library; `IntegerLayer` refuses weights for which that bound could be passed.
Where numbers are small enough, float32 does the same (entropy/exact_product.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from slic_cli.entropy.exact_product import ACTIVATION_MAX, ExactProduct, check_exact

Array = npt.NDArray[np.float64]
Integers = npt.NDArray[np.floating[Any]]  # float64, or float32 where it is exact
Floats = npt.NDArray[np.floating[Any]]

WEIGHT_BITS = 16  # fraction bits of a weight
ACTIVATION_BITS = 12  # fraction bits of an activation, of z and of the scales that come out
LEAKY_SLOPE = 655 / (1 << 16)  # what LeakyReLU's 0.01 is here
_BLOCKS = 3  # that products are cut into where they may be in float32
_PATCH_BYTES = 32 << 20  # working memory of one product


def to_fixed_point(values: Floats, bits: int) -> Array:
    """round(values * 2^bits), ties to even, as integers in float64; exact for half-precision weights."""
    return np.rint(values.astype(np.float64) * float(1 << bits))


class Kind(Enum):
    """What a layer does to the grid: nothing, or twice the rows and columns in one of two ways."""

    PLAIN = "a convolution of stride 1"
    TRANSPOSED = "a transposed convolution of stride 2"
    SUBPIXEL = "a convolution of stride 1 to four times the channels, then a pixel shuffle"


@dataclass(frozen=True)
class Rule:
    """The fixed point of one layer: fraction bits of its weights and of its activations, in and out, and its slope.

    The slope of what is negative is 0 for a ReLU, LEAKY_SLOPE for a leaky one and 1 for neither. `short` says that
    activations and weights have so few bits that float32 products may be exact; activations are then held in float32.
    """

    weight_bits: int = WEIGHT_BITS
    activation_bits: int = ACTIVATION_BITS
    slope: float = 0.0
    short: bool = False


RECTIFIED = Rule()


@dataclass(frozen=True)
class Phase:
    """One output phase of a layer.

    `weight` is (out, in * taps) over the input shifted by each of `taps` (row, column), `bias` (out, 1).
    """

    row: int
    column: int
    taps: tuple[tuple[int, int], ...]
    weight: torch.Tensor
    bias: torch.Tensor


class IntegerLayer:
    """A convolution that keeps or doubles the grid, as its output phases, then ReLU and rescaling.

    Source: Balle et al. 2018, hyper-synthesis h_s, in fixed point. Input and output are (channels, rows, columns)
    arrays of integers with the rule's fraction bits, at most ACTIVATION_MAX in size, in float64, or float32 where the
    rule says `short`.
    """

    def __init__(self, weight: Floats, bias: Floats, kind: Kind, rule: Rule = RECTIFIED) -> None:
        fixed = to_fixed_point(weight, rule.weight_bits)
        offsets = to_fixed_point(bias, rule.weight_bits + rule.activation_bits)
        self.rule = rule
        self.stride = 1 if kind is Kind.PLAIN else 2
        self.phases = _PHASES[kind](fixed, offsets)
        self.channels = len(self.phases[0].bias)
        self.reach = max(abs(step) for phase in self.phases for tap in phase.taps for step in tap)
        for phase in self.phases:
            check_exact(phase.weight, phase.bias)
        self._short = [ExactProduct(phase.weight, _BLOCKS) for phase in self.phases] if rule.short else []

    def __call__(self, x: Integers) -> Integers:
        channels, rows, columns = x.shape
        padded = np.pad(x, ((0, 0), (self.reach, self.reach), (self.reach, self.reach)))
        out = np.empty((self.channels, rows * self.stride, columns * self.stride), x.dtype)
        taps = max(len(phase.taps) for phase in self.phases)
        band = max(1, _PATCH_BYTES // (8 * channels * taps * columns))
        for top in range(0, rows, band):
            height = min(band, rows - top)
            for index, phase in enumerate(self.phases):
                patches = torch.from_numpy(_gather(padded, phase.taps, self.reach, top, height, columns))
                sums = self._product(index, patches).numpy().reshape(-1, height, columns)
                first, last = top * self.stride + phase.row, (top + height) * self.stride
                out[:, first : last : self.stride, phase.column :: self.stride] = rescale(
                    sums, self.rule.weight_bits, self.rule.slope
                )
        return out

    def _product(self, index: int, patches: torch.Tensor) -> torch.Tensor:
        """Weights times patches (in * taps, places), plus bias: (out, places) in float64."""
        phase = self.phases[index]
        sums = self._short[index](patches.t()).t() if self._short else torch.mm(phase.weight, patches)
        return sums.add_(phase.bias)


def rescale(sums: Array, shift: int, slope: float) -> Array:
    """ReLU or its like, then a rounded shift to the right: all exact in float64. Changes `sums`.

    Negative sums beyond 2^43 could be rounded by a leaky slope; after it they are clipped all the same.
    """
    if 0 < slope < 1:
        np.maximum(sums, sums * slope, out=sums)
    sums *= 2.0**-shift
    sums += 0.5
    scaled = np.floor(sums, out=sums)
    return np.clip(scaled, 0.0 if slope == 0 else -ACTIVATION_MAX, ACTIVATION_MAX, out=scaled)


def _gather(x: Integers, taps: Sequence[tuple[int, int]], reach: int, top: int, height: int, columns: int) -> Integers:
    """Stack the shifted views of padded `x` that the taps see: (taps * channels, height * columns)."""
    views = [x[:, top + reach + dy : top + reach + dy + height, reach + dx : reach + dx + columns] for dy, dx in taps]
    return np.stack(views).reshape(len(taps) * x.shape[0], height * columns)


def _phase(row: int, column: int, taps: list[tuple[int, int]], kernels: list[Array], bias: Array) -> Phase:
    weight = np.ascontiguousarray(np.concatenate(kernels, 1))
    return Phase(row, column, tuple(taps), torch.from_numpy(weight), torch.from_numpy(bias[:, None].copy()))


def _plain_phases(weight: Array, bias: Array, row: int = 0, column: int = 0) -> list[Phase]:
    """Stride-1 convolution (out, in, k, k) with zero padding k // 2."""
    half = weight.shape[2] // 2
    taps = [(dy, dx) for dy in range(-half, half + 1) for dx in range(-half, half + 1)]
    return [_phase(row, column, taps, [weight[:, :, dy + half, dx + half] for dy, dx in taps], bias)]


def _transposed_phases(weight: Array, bias: Array) -> list[Phase]:
    """Transposed convolution (in, out, 5, 5), stride 2, padding 2, output padding 1.

    Output n = 2 m - 2 + k, so phase r = n mod 2 sees the taps k of its own parity, at input offset (r + 2 - k) / 2.
    """
    size = weight.shape[2]
    phases = []
    for row in (0, 1):
        for column in (0, 1):
            cells = [(i, j) for i in range(row, size, 2) for j in range(column, size, 2)]
            taps = [((row + 2 - i) // 2, (column + 2 - j) // 2) for i, j in cells]
            phases.append(_phase(row, column, taps, [weight[:, :, i, j].T for i, j in cells], bias))
    return phases


def _subpixel_phases(weight: Array, bias: Array) -> list[Phase]:
    """Stride-1 convolution (4 out, in, k, k) and a pixel shuffle: channel 4 c + 2 i + j is c of phase (i, j)."""
    corners = [(row, column) for row in (0, 1) for column in (0, 1)]
    cut = [(weight[2 * row + column :: 4], bias[2 * row + column :: 4], row, column) for row, column in corners]
    return [phase for part in cut for phase in _plain_phases(*part)]


_PHASES = {Kind.PLAIN: _plain_phases, Kind.TRANSPOSED: _transposed_phases, Kind.SUBPIXEL: _subpixel_phases}


BALLE2018_KINDS = (Kind.TRANSPOSED, Kind.TRANSPOSED, Kind.PLAIN)


class IntegerHyperSynthesis:
    """h_s: convolutions, each with a ReLU or its like.

    Called with z_hat, an integer array (N, rows, columns) with the rule's activation bits, it returns exact integers in
    the same format, (channels, 4 rows, 4 columns): the scales of y, or what a context model makes scales from. The
    defaults are those of bmshj2018-hyperprior.
    """

    def __init__(
        self,
        weights: Sequence[Floats],
        biases: Sequence[Floats],
        kinds: Sequence[Kind] = BALLE2018_KINDS,
        rules: Sequence[Rule] = (RECTIFIED,) * 3,
    ) -> None:
        self.layers = [IntegerLayer(*layer) for layer in zip(weights, biases, kinds, rules, strict=True)]

    def __call__(self, z_hat: Integers) -> Integers:
        x = np.clip(z_hat, -ACTIVATION_MAX, ACTIVATION_MAX)
        for layer in self.layers:
            x = layer(x)
        return x
