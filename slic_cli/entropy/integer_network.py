"""The hyper-synthesis h_s of bmshj2018-hyperprior as an integer network, equal on every machine.

A decoder that recomputes scales in floating point picks, now and then, another probability table than the encoder did,
and loses the picture. So weights and activations here are fixed-point integers. They are carried in float64 matrix
products, which are quick everywhere and exact as long as every partial sum stays below 2^53, whatever the order of the
additions, the number of threads or the library; `IntegerLayer` refuses weights for which that bound could be passed.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from slic_cli.entropy.phases import Kind, phases_of, reach_of
from slic_cli.errors import BadModelFile

Array = npt.NDArray[np.float64]
Floats = npt.NDArray[np.floating[Any]]
Mask = npt.NDArray[np.bool_]

WEIGHT_BITS = 16  # fraction bits of a weight
ACTIVATION_BITS = 12  # fraction bits of an activation, of z and of the scales that come out
ACTIVATION_MAX = float(1 << 24)  # size of any activation
_DOUBLE_LIMIT = float(1 << 53)
_PATCH_BYTES = 32 << 20  # working memory of one product


def to_fixed_point(values: Floats, bits: int) -> Array:
    """round(values * 2^bits), ties to even, as integers in float64; exact for half-precision weights."""
    return np.rint(values.astype(np.float64) * float(1 << bits))


class IntegerLayer:
    """A convolution that keeps or doubles the grid, as its output phases, then ReLU and rescaling.

    Source: Balle et al. 2018, hyper-synthesis h_s, in fixed point. Input and output are (channels, rows, columns)
    arrays of integers with ACTIVATION_BITS fraction bits, at most ACTIVATION_MAX in size, in float64.
    """

    def __init__(self, weight: Floats, bias: Floats, kind: Kind) -> None:
        self._phases = phases_of(kind, to_fixed_point(weight, WEIGHT_BITS))
        offsets = to_fixed_point(bias, WEIGHT_BITS + ACTIVATION_BITS)
        self._weights = [torch.from_numpy(phase.weight) for phase in self._phases]
        self._biases = [torch.from_numpy(offsets[phase.outputs, None]) for phase in self._phases]
        self._stride, self._reach = kind.stride, reach_of(self._phases)
        self._inputs = weight.shape[0 if kind is Kind.TRANSPOSED else 1]
        for own, offset in zip(self._weights, self._biases, strict=True):
            _check_exact(own, offset)

    def __call__(self, x: Array) -> Array:
        channels, rows, columns = x.shape
        reach, stride = self._reach, self._stride
        padded = np.pad(x, ((0, 0), (reach, reach), (reach, reach)))
        out = np.empty((len(self._biases[0]), rows * stride, columns * stride))
        taps = max(len(phase.taps) for phase in self._phases)
        band = max(1, _PATCH_BYTES // (8 * channels * taps * columns))
        for top in range(0, rows, band):
            height = min(band, rows - top)
            for phase, weight, bias in zip(self._phases, self._weights, self._biases, strict=True):
                patches = torch.from_numpy(_gather(padded, phase.taps, reach, top, height, columns))
                sums = torch.mm(weight, patches).add_(bias).numpy().reshape(-1, height, columns)
                first, last = top * stride + phase.row, (top + height) * stride
                out[:, first:last:stride, phase.column :: stride] = _rescale(sums)
        return out

    def live_inputs(self) -> Mask:
        """Those that some weight reads."""
        return np.any([self._by_input(own).numpy().any((0, 1)) for own in self._weights], axis=0)

    def live_outputs(self) -> Mask:
        """Those that some weight or the bias writes: the others are 0 everywhere."""
        both = zip(self._weights, self._biases, strict=True)
        return np.any([torch.cat([own, offset], 1).numpy().any(1) for own, offset in both], axis=0)

    def keep_inputs(self, kept: Mask) -> None:
        """From now on `x` has these channels alone."""
        mask = torch.from_numpy(kept)
        self._weights = [self._by_input(own)[:, :, mask].flatten(1) for own in self._weights]
        self._inputs = int(kept.sum())

    def keep_outputs(self, kept: Mask) -> None:
        """From now on the result has these channels alone."""
        mask = torch.from_numpy(kept)
        self._weights = [own[mask] for own in self._weights]
        self._biases = [offset[mask] for offset in self._biases]

    def _by_input(self, weight: Tensor) -> Tensor:
        """(out, taps * in) as (out, taps, in)."""
        return weight.view(len(weight), -1, self._inputs)


def _check_exact(weight: Tensor, bias: Tensor) -> None:
    """Raises BadModelFile where sums of `weight` (out, in) times activations, plus `bias`, could pass 2^53."""
    if not float(weight.abs().sum(1).max()) * ACTIVATION_MAX + float(bias.abs().max()) < _DOUBLE_LIMIT:
        raise BadModelFile("expected integer networks whose sums stay exact, got ones that are too large")


def _rescale(sums: Array) -> Array:
    """A rounded shift to the right, ReLU and clip: all exact in float64. Changes `sums`."""
    sums *= 2.0**-WEIGHT_BITS
    sums += 0.5
    return np.clip(np.floor(sums, out=sums), 0.0, ACTIVATION_MAX, out=sums)


def _gather(x: Array, taps: Sequence[tuple[int, int]], reach: int, top: int, height: int, columns: int) -> Array:
    """Stack the shifted views of padded `x` that the taps see: (taps * channels, height * columns)."""
    views = [x[:, top + reach + dy : top + reach + dy + height, reach + dx : reach + dx + columns] for dy, dx in taps]
    return np.stack(views).reshape(len(taps) * x.shape[0], height * columns)


_KINDS = (Kind.TRANSPOSED, Kind.TRANSPOSED, Kind.PLAIN)


class IntegerHyperSynthesis:
    """h_s of bmshj2018-hyperprior: three convolutions, each with a ReLU.

    Called with z_hat, an integer array (N, rows, columns) with ACTIVATION_BITS, it returns exact integers in the same
    format, the scales of y: (M, 4 rows, 4 columns). Channels that are 0 for every picture, or that nothing reads, are
    left out between the layers and from z_hat.
    """

    def __init__(self, weights: Sequence[Floats], biases: Sequence[Floats]) -> None:
        self._layers = [IntegerLayer(*layer) for layer in zip(weights, biases, _KINDS, strict=True)]
        self._read = _at_least_one(self._layers[0].live_inputs())
        self._layers[0].keep_inputs(self._read)
        for writer, reader in pairwise(self._layers):
            live = _at_least_one(writer.live_outputs() & reader.live_inputs())
            writer.keep_outputs(live)
            reader.keep_inputs(live)

    def __call__(self, z_hat: Array) -> Array:
        x = np.clip(z_hat[self._read], -ACTIVATION_MAX, ACTIVATION_MAX)
        for layer in self._layers:
            x = layer(x)
        return x


def _at_least_one(mask: Mask) -> Mask:
    """`mask`, and the first channel where there would be none."""
    return mask if mask.any() else np.arange(len(mask)) == 0
