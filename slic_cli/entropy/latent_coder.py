"""The symbols of y: which table a predicted scale names, what an encoder rounds to, and how they are coded."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from slic_cli.entropy.coder import SymbolReader, Symbols, SymbolWriter, TableCoder
from slic_cli.entropy.hyper_latents import Tensors, read_tables
from slic_cli.errors import BadModelFile
from slic_cli.quantisation import BITS_PER_SQUARED_STEP, RateDistortionQuantiser, ScaleTable

TRADEOFF = "encoder.bits_per_squared_step"  # the tensor that says what the encoder pays for exactness
_MAGNITUDES = 16  # of symbols whose bits an encoder weighs one by one; larger ones are all alike to it

Indices = npt.NDArray[np.uint8]


class LatentCoder:
    """What all entropy models do alike once scales, and means where there are any, are known.

    `indices` gives the tables of fixed-point scales, `quantise` the symbols of latents, or of their differences from a
    mean, with those tables.
    """

    def __init__(self, tensors: Tensors) -> None:
        """Raises BadModelFile, KeyError."""
        self.tables = read_tables(tensors, "y")
        thresholds = tensors["tables.y.thresholds"]
        self._coder = TableCoder(self.tables)
        if len(thresholds) != len(self._coder) - 1:
            raise BadModelFile("expected a table for each channel of z and each scale, got another number")
        self.indices = ScaleTable(thresholds)
        tradeoff = tensors.get(TRADEOFF)
        if tradeoff is not None and (tradeoff.shape != (1,) or not tradeoff[0] > 0):
            raise BadModelFile(f"expected one number above 0 in {TRADEOFF}, got {tradeoff}")
        paid = BITS_PER_SQUARED_STEP if tradeoff is None else float(tradeoff[0])
        self.quantise = RateDistortionQuantiser(self.tables.costs(_MAGNITUDES), paid)

    def encode(self, writer: SymbolWriter, symbols: Symbols, indices: Indices) -> None:
        """Append symbols, each with its table."""
        self._coder.encode(writer, symbols, indices)

    def decode(self, reader: SymbolReader, indices: Indices) -> Symbols:
        """Read them back. Raises BadSlicFile."""
        return self._coder.decode(reader, indices)
