"""Latents to integer symbols; predicted scales to the index of their probability table."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from slic_cli.errors import BadModelFile

if TYPE_CHECKING:
    import torch

SYMBOL_MIN, SYMBOL_MAX = -(1 << 15), (1 << 15) - 1
MAX_THRESHOLD = 1 << 24
# Bits that an encoder pays to spare an error of one squared quantiser step, for a model that does not say it. At the
# optimum of a fine quantiser it is 6 / ln 2 = 8.7. But the synthesis's kernels are no orthonormal basis, and it makes
# more of rare latents than they are: what is best lies between 12 and 64, and is found when a model is exported.
BITS_PER_SQUARED_STEP = 12.0
_MEANT_BITS = 10.0  # what is so unlikely is there for a reason: a carrier's latents are predicted to be 0


def quantise(latents: torch.Tensor) -> npt.NDArray[np.int16]:
    """Round real latents (any shape, any device) to integer symbols, ties to even as CompressAI rounds.

    Values beyond 16 bits are clipped: no trained model comes near, and a bound keeps every later sum exact.
    """
    import torch

    rounded = latents.float().round().clamp(SYMBOL_MIN, SYMBOL_MAX)
    return rounded.to(torch.int16).cpu().numpy()


class RateDistortionQuantiser:
    """Rate-distortion optimised quantisation (RDOQ, as in HEVC): each latent to the nearest integer, or to the next one
    towards 0 where that saves more bits than its error is worth.

    `costs` are bits, float (tables, magnitudes): of the symbols 0, 1, ... in each probability table;
    `bits_per_squared_step` are what it pays to spare an error of one squared quantiser step. With `meant`, tables in
    which 1 is very unlikely are rounded plainly. The decoder need not know: it reads integers.
    """

    def __init__(
        self,
        costs: npt.NDArray[np.float64],
        bits_per_squared_step: float = BITS_PER_SQUARED_STEP,
        meant: bool = True,
    ) -> None:
        saved = np.diff(costs, axis=1)
        saved[(costs[:, 1] > _MEANT_BITS) & meant] = 0
        shifts = np.pad(saved / (2 * bits_per_squared_step), ((0, 0), (1, 0)), constant_values=-1.0)
        self._magnitudes = costs.shape[1]
        self._least = (shifts - 0.5).astype(np.float32).ravel()  # of the distance to the nearest integer, outwards

    def __call__(self, latents: torch.Tensor, indices: npt.NDArray[np.uint8]) -> npt.NDArray[np.int16]:
        """Symbols of latents, real, on any device; `indices`, of the same shape, name their tables."""
        import torch

        y = latents.float().cpu()
        nearest = y.round().clamp_(SYMBOL_MIN, SYMBOL_MAX)
        magnitude = nearest.abs()
        places = torch.from_numpy(indices).to(torch.int32).mul_(self._magnitudes)
        places += magnitude.clamp(max=self._magnitudes - 1).to(torch.int32)
        least = torch.from_numpy(self._least)[places]
        nearest -= nearest.sign() * (y.abs() - magnitude < least)
        return nearest.to(torch.int16).numpy()


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
