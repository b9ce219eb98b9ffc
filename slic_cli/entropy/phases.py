"""Convolutions that keep or double the grid, as matrices: one for each output phase, over shifted inputs."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]


class Kind(Enum):
    """What a layer does to the grid: nothing, or twice the rows and columns in one of two ways."""

    PLAIN = "a convolution of stride 1"
    TRANSPOSED = "a transposed convolution of stride 2"
    SUBPIXEL = "a convolution of stride 1 to four times the channels, then a pixel shuffle"

    @property
    def stride(self) -> int:
        """Output rows per input row."""
        return 1 if self is Kind.PLAIN else 2


@dataclass(frozen=True)
class Phase:
    """One output phase of a layer: rows `row`, row + stride, ... of the output, and columns likewise.

    `weight` is (out, taps * in) over the input shifted by each of `taps` (row, column); `outputs` are the layer's
    output channels that its rows stand for, before a pixel shuffle.
    """

    row: int
    column: int
    taps: tuple[tuple[int, int], ...]
    weight: Array
    outputs: npt.NDArray[np.int64]


def phases_of(kind: Kind, weight: Array) -> list[Phase]:
    """The phases of a layer with CompressAI's weight: (in, out, 5, 5) if transposed, else (out, in, k, k)."""
    if kind is Kind.TRANSPOSED:
        return _transposed_phases(weight)
    if kind is Kind.SUBPIXEL:
        return _subpixel_phases(weight)
    return [_plain_phase(weight, np.arange(len(weight)))]


def reach_of(phases: list[Phase]) -> int:
    """Rows and columns beyond its own place that an output depends on."""
    return max(abs(step) for phase in phases for tap in phase.taps for step in tap)


def _phase(row: int, column: int, taps: list[tuple[int, int]], kernels: list[Any], outputs: Any) -> Phase:
    return Phase(row, column, tuple(taps), np.ascontiguousarray(np.concatenate(kernels, 1)), outputs)


def _plain_phase(weight: Array, outputs: npt.NDArray[np.int64], row: int = 0, column: int = 0) -> Phase:
    """Stride-1 convolution (out, in, k, k) with zero padding k // 2."""
    half = weight.shape[2] // 2
    taps = [(dy, dx) for dy in range(-half, half + 1) for dx in range(-half, half + 1)]
    return _phase(row, column, taps, [weight[:, :, dy + half, dx + half] for dy, dx in taps], outputs)


def _transposed_phases(weight: Array) -> list[Phase]:
    """Transposed convolution (in, out, 5, 5), stride 2, padding 2, output padding 1.

    Output n = 2 m - 2 + k, so phase r = n mod 2 sees the taps k of its own parity, at input offset (r + 2 - k) / 2.
    """
    size, outputs = weight.shape[2], np.arange(weight.shape[1])
    phases = []
    for row in (0, 1):
        for column in (0, 1):
            cells = [(i, j) for i in range(row, size, 2) for j in range(column, size, 2)]
            taps = [((row + 2 - i) // 2, (column + 2 - j) // 2) for i, j in cells]
            phases.append(_phase(row, column, taps, [weight[:, :, i, j].T for i, j in cells], outputs))
    return phases


def _subpixel_phases(weight: Array) -> list[Phase]:
    """Stride-1 convolution (4 out, in, k, k) and a pixel shuffle: channel 4 c + 2 i + j is c of phase (i, j)."""
    outputs = np.arange(len(weight))
    corners = [(row, column) for row in (0, 1) for column in (0, 1)]
    return [_plain_phase(weight[2 * i + j :: 4], outputs[2 * i + j :: 4], i, j) for i, j in corners]
