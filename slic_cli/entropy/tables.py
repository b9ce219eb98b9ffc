"""Integer probability tables: made once when a model is exported, stored with it, and only read afterwards.

Each table is a list of frequencies that sum to 2^24. Its alphabet is the symbols lowest .. lowest + n - 2 and, last, an
escape for everything else. Nothing is computed in floating point when a picture is coded, so that no mathematical
library can make two machines disagree.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

FREQUENCY_BITS = 24
TOTAL = 1 << FREQUENCY_BITS
ESCAPE_FREQUENCY = 1 << 8


@dataclass(frozen=True)
class FrequencyTables:
    """Tables of one family, concatenated: table i has lengths[i] frequencies (escape last) from symbol lowest[i]."""

    frequencies: npt.NDArray[np.int32]
    lengths: npt.NDArray[np.int32]
    lowest: npt.NDArray[np.int32]

    def problem(self) -> str | None:
        """What is wrong with these tables, or None; tables come from files, which may be damaged or hostile."""
        parts = (self.frequencies, self.lengths, self.lowest)
        if any(part.ndim != 1 or part.dtype != np.int32 for part in parts):
            return "lists of int32"
        if len(self.lengths) != len(self.lowest) or not len(self.lengths):
            return "as many table lengths as offsets"
        if self.lengths.min() < 2 or int(self.lengths.astype(np.int64).sum()) != len(self.frequencies):
            return "tables of at least two frequencies"
        sums = np.add.reduceat(self.frequencies.astype(np.int64), self.starts())
        if self.frequencies.min() < 1 or (sums != TOTAL).any():
            return f"positive frequencies that sum to {TOTAL}"
        highest = self.lowest.astype(np.int64) + self.lengths - 2
        if self.lowest.min() < -(1 << 15) or highest.max() >= 1 << 15:
            return "symbols of 16 bits"
        return None

    def costs(self, magnitudes: int) -> npt.NDArray[np.float64]:
        """Bits of the symbols 0 .. magnitudes - 1, (tables, magnitudes); one beyond a table costs as its last does."""
        symbols = np.minimum(np.arange(magnitudes), (self.lengths - 2 + self.lowest)[:, None])
        letters = np.maximum(symbols - self.lowest[:, None], 0)
        return FREQUENCY_BITS - np.log2(self.frequencies[self.starts()[:, None] + letters])

    def starts(self) -> npt.NDArray[np.int64]:
        """Where each table begins in `frequencies`."""
        return np.concatenate([[0], np.cumsum(self.lengths[:-1], dtype=np.int64)])


def quantise_probabilities(probabilities: npt.NDArray[np.float64]) -> npt.NDArray[np.int32]:
    """Frequencies of at least 1 that follow `probabilities` (n,), and one for the escape: (n + 1,), sum 2^24."""
    spare = TOTAL - ESCAPE_FREQUENCY - len(probabilities)
    exact = probabilities / probabilities.sum() * spare
    frequencies = np.floor(exact).astype(np.int64)
    short = spare - int(frequencies.sum())
    frequencies[np.argsort(frequencies - exact, kind="stable")[:short]] += 1
    return np.append(frequencies + 1, ESCAPE_FREQUENCY).astype(np.int32)


def build_tables(distributions: list[tuple[int, npt.NDArray[np.float64]]]) -> FrequencyTables:
    """Tables from (lowest symbol, probabilities of it and its successors) pairs."""
    parts = [quantise_probabilities(probabilities) for _, probabilities in distributions]
    return FrequencyTables(
        np.concatenate(parts),
        np.array([len(part) for part in parts], np.int32),
        np.array([lowest for lowest, _ in distributions], np.int32),
    )
