"""The symbols of y: which table a predicted scale names, what an encoder rounds to, and how they are coded."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from slic_cli.entropy.coder import SymbolReader, Symbols, SymbolWriter, TableCoder
from slic_cli.entropy.hyper_latents import Tensors, read_tables
from slic_cli.errors import BadModelFile
from slic_cli.quantisation import BITS_PER_SQUARED_STEP, RateDistortionQuantiser, ScaleTable

TRADEOFF = "encoder.bits_per_squared_step"  # the tensor that says what the encoder pays for exactness
OWN = "tables.y.own"  # the tensor that gives channels of y a table of their own
LATENT_BITS = 6  # fraction bits of means and of decoded latents
LATENT_UNITS = 1 << LATENT_BITS  # of them in a quantiser step
_MAGNITUDES = 16  # of symbols whose bits an encoder weighs one by one; larger ones are all alike to it

Indices = npt.NDArray[np.uint8]
Latents = npt.NDArray[np.int32]


class LatentCoder:
    """What all entropy models do alike once scales, and means where there are any, are known.

    `indices` gives the tables of fixed-point scales, `quantise` the symbols of latents, or of their differences from a
    mean, with those tables. Channels with a table of their own, `own` (numbers of channels), are rounded plainly.
    """

    def __init__(self, tensors: Tensors, paired: int = 0) -> None:
        """`paired` of the tables are the second ones of scale levels. Raises BadModelFile, KeyError."""
        self.tables = read_tables(tensors, "y")
        self.coder = TableCoder(self.tables)
        thresholds = tensors["tables.y.thresholds"]
        self.levels = len(thresholds) + 1
        self._scale_table = ScaleTable(thresholds)
        self.own, self._own_tables = self._read_own(tensors.get(OWN), len(tensors["g_a.6.bias"]))
        extra = len(self.coder) - self.levels - paired
        if extra < 0 or len(self.coder) > 256 or (extra > 0 and not len(self.own)):
            raise BadModelFile("expected a table for each channel of z and each scale, got another number")
        self.paid = _bits_per_squared_step(tensors)
        costs = self.tables.costs(_MAGNITUDES)
        costs[self._own_tables] = 0
        self.quantise = RateDistortionQuantiser(costs, self.paid, meant=not len(self.own))

    def _read_own(self, own: npt.NDArray[Any] | None, channels: int) -> tuple[npt.NDArray[np.int64], Indices]:
        """The channels with a table of their own, of all, and those tables."""
        if own is None:
            return np.empty(0, np.int64), np.empty(0, np.uint8)
        named = own[own >= 0] if own.shape == (channels,) and own.dtype == np.int32 else np.array([-1])
        if len(named) and not self.levels <= named.min() <= named.max() < len(self.coder):
            raise BadModelFile(
                f"expected for each channel a table beyond those of scale levels, or -1, in {OWN}, got others"
            )
        return np.flatnonzero(own >= 0), named.astype(np.uint8)

    def indices(self, scales: npt.NDArray[np.floating[Any]], axis: int) -> Indices:
        """The table of each symbol; `axis` of the scales, integers in float64, has the channels."""
        indices = self._scale_table(scales)
        if len(self.own):
            channels_last = np.moveaxis(indices, axis, -1)
            channels_last[..., self.own] = self._own_tables
        return indices

    def write(self, writer: SymbolWriter, y: torch.Tensor, indices: Indices) -> Latents:
        """Quantise latents, less their means, and append them: what `read` will give."""
        symbols = self.quantise(y, indices)
        self.encode(writer, symbols, indices)
        return symbols.astype(np.int32) * LATENT_UNITS

    def read(self, reader: SymbolReader, indices: Indices) -> Latents:
        """Latents, less their means, in 64ths: int32 in the shape of `indices`. Raises BadSlicFile."""
        return self.decode(reader, indices).astype(np.int32) * LATENT_UNITS

    def encode(self, writer: SymbolWriter, symbols: Symbols, indices: Indices) -> None:
        """Append symbols, each with its table."""
        self.coder.encode(writer, symbols, indices)

    def decode(self, reader: SymbolReader, indices: Indices) -> Symbols:
        """Read them back. Raises BadSlicFile."""
        return self.coder.decode(reader, indices)


def _bits_per_squared_step(tensors: Tensors) -> float:
    tradeoff = tensors.get(TRADEOFF)
    if tradeoff is not None and (tradeoff.shape != (1,) or not tradeoff[0] > 0):
        raise BadModelFile(f"expected one number above 0 in {TRADEOFF}, got {tradeoff}")
    return BITS_PER_SQUARED_STEP if tradeoff is None else float(tradeoff[0])
