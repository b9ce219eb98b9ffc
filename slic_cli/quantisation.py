"""Latents to integer symbols and back; predicted scales to the index of their probability table."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from slic_cli.errors import BadModelFile

if TYPE_CHECKING:
    import torch

SYMBOL_MIN, SYMBOL_MAX = -(1 << 15), (1 << 15) - 1
MAX_THRESHOLD = 1 << 24


def quantise(latents: torch.Tensor) -> npt.NDArray[np.int16]:
    """Round real latents (any shape, any device) to integer symbols, ties to even as CompressAI rounds.

    Values beyond 16 bits are clipped: no trained model comes near, and a bound keeps every later sum exact.
    """
    import torch

    rounded = latents.float().round().clamp(SYMBOL_MIN, SYMBOL_MAX)
    return rounded.to(torch.int16).cpu().numpy()


class ScaleTable:
    """Fixed-point scales to the index of their probability table: how many `thresholds` lie at or below a scale.

    Thresholds and scales are integers, so that every machine finds the same index. All answers up to the last threshold
    are listed beforehand, because half a million binary searches would cost more than the coding itself.
    """

    def __init__(self, thresholds: npt.NDArray[np.int32]) -> None:
        if thresholds.ndim != 1 or thresholds.dtype != np.int32 or not 0 < len(thresholds) < 256:
            raise BadModelFile(f"expected 1 to 255 int32 scale thresholds, got {thresholds.dtype} {thresholds.shape}")
        ends = thresholds.astype(np.int64)
        steps = ends - np.append(0, ends[:-1])
        if (steps <= 0).any() or thresholds[-1] > MAX_THRESHOLD:
            raise BadModelFile(f"expected rising scale thresholds of 1 to {MAX_THRESHOLD}, got others")
        self._top = int(thresholds[-1])
        self._indices = np.append(np.repeat(np.arange(len(steps), dtype=np.uint8), steps), np.uint8(len(steps)))

    def __call__(self, scales: npt.NDArray[np.floating[Any]]) -> npt.NDArray[np.uint8]:
        """Indices (uint8) of non-negative integer scales held in float64; any shape."""
        return self._indices[np.minimum(scales, self._top).astype(np.int32)]
