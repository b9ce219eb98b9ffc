"""The probability tables of y: Gaussians at first, then what an encoder was seen to write.

Probabilities are computed in floating point here, once, when a model is exported; every machine reads the integers.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from slic_cli.entropy.integer_network import ACTIVATION_BITS
from slic_cli.entropy.latent_coder import LATENT_UNITS, OWN
from slic_cli.entropy.tables import FrequencyTables, build_tables
from slic_cli.entropy.trellis_coder import PAIRED, STEPS, TRANSITIONS, UNIT
from slic_cli.trellis import make_transitions

Array = npt.NDArray[np.float64]
Numbers = npt.NDArray[np.int32]
Distribution = tuple[int, Array]  # the lowest symbol, and the probabilities of it and its successors

SCALE_MIN, SCALE_MAX, SCALE_LEVELS = 0.11, 256.0, 128
TAIL_DEVIATIONS = 6.2  # beyond this a Gaussian symbol is left to the escape
STATES = 128  # of the trellis
# 64ths of a latent's step that a trellis counts in: both quantisers are twice as coarse, and 1.5 of these as good as a
# step. Coarser ones cost quality and save bits.
USUAL_UNIT = 43
_LEAST_PAIRED = 0.5  # the deviation, in units, from which latents are quantised dependently: below, nearly all are 0
_OWN_REACH = 15  # largest symbol of a table that channels have for themselves
_FAITH = 16.0  # of a fit: so many symbols per alphabet's width weigh as much as what was expected


@dataclass(frozen=True)
class LatentTables:
    """Tables of y by number: one for each scale level, then the second ones of a trellis, then channels' own.

    `shared` are those of scale levels. `own`, int32 (M), is the table of each channel that has its own, else -1;
    `pairs`, int32 (levels), the second table of each scale level, else -1. Empty where there are none. `steps` are the
    fewest of a path through the trellis, which counts in `unit` 64ths of a latent's step.
    """

    distributions: tuple[Distribution, ...]
    shared: int
    own: Numbers
    pairs: Numbers
    steps: int
    unit: int = USUAL_UNIT

    def tensors(self) -> dict[str, npt.NDArray[Any]]:
        """What a model file holds of them."""
        tables = table_tensors("y", build_tables(list(self.distributions)))
        tables["tables.y.thresholds"] = scale_thresholds()
        if len(self.own):
            tables[OWN] = self.own
        if len(self.pairs):
            steps, unit = (np.array([number], np.int32) for number in (self.steps, self.unit))
            tables |= {PAIRED: self.pairs, TRANSITIONS: make_transitions(STATES), STEPS: steps, UNIT: unit}
        return tables


def table_tensors(family: str, tables: FrequencyTables) -> dict[str, npt.NDArray[Any]]:
    """The three tensors of a family of tables."""
    return {f"tables.{family}.{name}": getattr(tables, name) for name in ("frequencies", "lengths", "lowest")}


def expected_tables(own: Numbers | None = None, steps: int = 0, unit: int = USUAL_UNIT) -> LatentTables:
    """Gaussians; for a trellis with paths of so many `steps`, if any, in `unit` 64ths of a latent's step.

    `own`, int32 (M), numbers the channels that share a table of their own from 0, else -1.
    """
    levels = scale_levels() * (LATENT_UNITS / unit if steps else 1)
    distributions = [_gaussian(float(scale), _even if steps else _whole) for scale in levels]
    pairs = np.empty(0, np.int32)
    if steps:
        paired = levels >= _LEAST_PAIRED
        pairs = np.where(paired, len(levels) - 1 + np.cumsum(paired), -1).astype(np.int32)
        distributions += [_gaussian(float(scale), _odd) for scale in levels[paired]]
    shared = len(distributions)
    if own is None or own.max() < 0:
        return LatentTables(tuple(distributions), shared, np.empty(0, np.int32), pairs, steps, unit)
    distributions += [(-_OWN_REACH, _rare())] * (int(own.max()) + 1)
    numbers = np.where(own < 0, -1, own + shared).astype(np.int32)
    return LatentTables(tuple(distributions), shared, numbers, pairs, steps, unit)


def fitted_tables(expected: LatentTables, counts: npt.NDArray[np.int64]) -> LatentTables:
    """What symbols were seen, `counts` (tables, 2 reach + 1) of -reach to reach, mixed with what was expected.

    Tables of scale levels stay symmetric, as encoders expect.
    """
    reach = counts.shape[1] // 2
    fitted = []
    for number, (row, (lowest, before)) in enumerate(zip(counts, expected.distributions, strict=True)):
        symbols = np.arange(len(before)) + lowest
        seen = row[reach + symbols].astype(np.float64)
        if number < expected.shared:
            seen = (seen + seen[::-1]) / 2
        weight = _FAITH * (1 + math.sqrt(before @ np.square(symbols)))
        fitted.append((lowest, (seen + weight * before) / (seen.sum() + weight)))
    return replace(expected, distributions=tuple(fitted))


def scale_levels() -> Array:
    """The standard deviations that have a table, spaced geometrically."""
    return np.geomspace(SCALE_MIN, SCALE_MAX, SCALE_LEVELS)


def scale_thresholds() -> npt.NDArray[np.int32]:
    """Fixed-point borders between neighbouring levels, at their geometric means."""
    levels = scale_levels()
    borders: npt.NDArray[np.int32] = np.rint(np.sqrt(levels[1:] * levels[:-1]) * (1 << ACTIVATION_BITS)).astype(
        np.int32
    )
    return borders


def gaussian_tables() -> FrequencyTables:
    """One table a level: a zero-mean Gaussian integrated over unit cells (Balle et al. 2018, eq. 6)."""
    return build_tables(list(expected_tables().distributions))


def _whole(magnitude: int) -> float:
    """Where the cell of a symbol begins, the middle between two reconstructions; of magnitude 0, its lower end."""
    return magnitude - 0.5


def _even(magnitude: int) -> float:
    return 2.0 * magnitude - 1.0


def _odd(magnitude: int) -> float:
    return 2.0 * magnitude - 2.0 if magnitude > 1 else magnitude - 0.5


def _gaussian(scale: float, begins: Callable[[int], float]) -> Distribution:
    reach = math.ceil(scale * TAIL_DEVIATIONS / (begins(3) - begins(2)))
    unit = scale * math.sqrt(2.0)
    tails = np.array([0.5 * math.erfc(begins(k) / unit) for k in range(reach + 2)])  # P(symbol >= k)
    half = tails[:-1] - tails[1:]
    return -reach, np.concatenate([half[:0:-1], half])


def _rare() -> Array:
    """Of channels that hardly ever differ from what is usual there: each further symbol a quarter as likely."""
    weights = 0.25 ** np.abs(np.arange(-_OWN_REACH, _OWN_REACH + 1))
    probabilities: Array = weights / weights.sum()
    return probabilities
