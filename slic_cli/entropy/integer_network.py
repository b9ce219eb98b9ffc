"""The hyper-synthesis h_s as an integer network, equal on every machine.

A decoder that recomputes scales in floating point picks, now and then, another probability table than the encoder did,
and loses the picture. So weights and activations here are fixed-point integers. They are carried in float64 matrix
products, which are quick everywhere and exact as long as every partial sum stays below 2^53, whatever the order of the
additions, the number of threads or the library. `IntegerLayer` refuses weights for which that bound could be passed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from slic_cli.errors import BadModelFile

Array = npt.NDArray[np.float64]
Floats = npt.NDArray[np.floating[Any]]

WEIGHT_BITS = 16  # fraction bits of a weight
ACTIVATION_BITS = 12  # fraction bits of an activation, of z and of the scales that come out
ACTIVATION_MAX = float(1 << 24)
_EXACT_LIMIT = float(1 << 53)
_PATCH_BYTES = 32 << 20  # working memory of one product


def to_fixed_point(values: Floats, bits: int) -> Array:
    """round(values * 2^bits), ties to even, as integers in float64; exact for half-precision weights."""
    return np.rint(values.astype(np.float64) * float(1 << bits))


@dataclass(frozen=True)
class Phase:
    """One output phase of a layer: `weight` (out, in * taps) over the input shifted by each of `taps` (row, column)."""

    row: int
    column: int
    taps: tuple[tuple[int, int], ...]
    weight: torch.Tensor


class IntegerLayer:
    """A convolution, or a stride-2 transposed convolution as its four output phases, then ReLU and rescaling.

    Source: Balle et al. 2018, hyper-synthesis h_s, in fixed point. Input and output are (channels, rows, columns)
    float64 arrays of integers with ACTIVATION_BITS fraction bits, at most ACTIVATION_MAX in size.
    """

    def __init__(self, weight: Floats, bias: Floats, transposed: bool) -> None:
        fixed = to_fixed_point(weight, WEIGHT_BITS)
        self.stride = 2 if transposed else 1
        self.phases = _transposed_phases(fixed) if transposed else [_convolution_phase(fixed)]
        self.bias = to_fixed_point(bias, WEIGHT_BITS + ACTIVATION_BITS)[:, None]
        self.reach = max(abs(step) for phase in self.phases for tap in phase.taps for step in tap)
        largest = max(float(phase.weight.abs().sum(1).max()) for phase in self.phases)
        if not largest * ACTIVATION_MAX + float(np.abs(self.bias).max()) < _EXACT_LIMIT:
            raise BadModelFile("expected hyper-synthesis weights whose sums stay exact, got ones that are too large")

    def __call__(self, x: Array) -> Array:
        channels, rows, columns = x.shape
        padded = np.pad(x, ((0, 0), (self.reach, self.reach), (self.reach, self.reach)))
        out = np.empty((len(self.bias), rows * self.stride, columns * self.stride))
        taps = max(len(phase.taps) for phase in self.phases)
        band = max(1, _PATCH_BYTES // (8 * channels * taps * columns))
        for top in range(0, rows, band):
            height = min(band, rows - top)
            for phase in self.phases:
                patches = _gather(padded, phase.taps, self.reach, top, height, columns)
                sums = torch.mm(phase.weight, torch.from_numpy(patches)).numpy()
                sums += self.bias
                sums = sums.reshape(-1, height, columns)
                first, last = top * self.stride + phase.row, (top + height) * self.stride
                out[:, first : last : self.stride, phase.column :: self.stride] = sums
        return _rescale(out)


def _rescale(sums: Array) -> Array:
    """ReLU, then back to ACTIVATION_BITS by a rounded shift: all exact in float64."""
    scaled = np.floor(sums * 2.0**-WEIGHT_BITS + 0.5, out=sums)
    return np.clip(scaled, 0.0, ACTIVATION_MAX, out=scaled)


def _gather(x: Array, taps: Sequence[tuple[int, int]], reach: int, top: int, height: int, columns: int) -> Array:
    """Stack the shifted views of padded `x` that the taps see: (taps * channels, height * columns)."""
    views = [x[:, top + reach + dy : top + reach + dy + height, reach + dx : reach + dx + columns] for dy, dx in taps]
    return np.stack(views).reshape(len(taps) * x.shape[0], height * columns)


def _phase(row: int, column: int, taps: list[tuple[int, int]], kernels: list[Array]) -> Phase:
    return Phase(row, column, tuple(taps), torch.from_numpy(np.concatenate(kernels, 1)))


def _convolution_phase(weight: Array) -> Phase:
    """Stride-1 convolution (out, in, k, k) with zero padding k // 2."""
    half = weight.shape[2] // 2
    taps = [(dy, dx) for dy in range(-half, half + 1) for dx in range(-half, half + 1)]
    return _phase(0, 0, taps, [weight[:, :, dy + half, dx + half] for dy, dx in taps])


def _transposed_phases(weight: Array) -> list[Phase]:
    """Transposed convolution (in, out, 5, 5), stride 2, padding 2, output padding 1.

    Output n = 2 m - 2 + k, so phase r = n mod 2 sees the taps k of its own parity, at input offset (r + 2 - k) / 2.
    """
    size = weight.shape[2]
    phases = []
    for row in (0, 1):
        for column in (0, 1):
            cells = [(i, j) for i in range(row, size, 2) for j in range(column, size, 2)]
            taps = [((row + 2 - i) // 2, (column + 2 - j) // 2) for i, j in cells]
            phases.append(_phase(row, column, taps, [weight[:, :, i, j].T for i, j in cells]))
    return phases


class IntegerHyperSynthesis:
    """h_s of bmshj2018-hyperprior: two transposed convolutions and a convolution, each with a ReLU.

    Called with z_hat, an integer array (N, rows, columns) with ACTIVATION_BITS fraction bits, it returns the scales of
    y in the same format, (M, 4 rows, 4 columns), as exact integers in float64.
    """

    def __init__(self, weights: Sequence[Floats], biases: Sequence[Floats]) -> None:
        kinds = (True, True, False)
        self.layers = [IntegerLayer(w, b, t) for w, b, t in zip(weights, biases, kinds, strict=True)]

    def __call__(self, z_hat: Array) -> Array:
        x = np.clip(z_hat, -ACTIVATION_MAX, ACTIVATION_MAX)
        for layer in self.layers:
            x = layer(x)
        return x
