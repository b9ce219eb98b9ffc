"""The hyper-latents z of a strip: coded with a factorised prior, one table a channel, around fixed-point medians."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from slic_cli.entropy.coder import SymbolReader, Symbols, SymbolWriter, TableCoder
from slic_cli.entropy.integer_network import Array, to_fixed_point
from slic_cli.entropy.tables import FrequencyTables
from slic_cli.errors import BadModelFile
from slic_cli.quantisation import quantise

HYPER_UNIT = 4  # rows and columns of y per row and column of z

Tensors = Mapping[str, npt.NDArray[Any]]


class HyperLatentCoder:
    """z to bytes and back, and to the fixed-point z_hat that hyper-syntheses read, with `bits` fraction bits."""

    def __init__(self, tensors: Tensors, bits: int) -> None:
        self._coder = TableCoder(read_tables(tensors, "z"))
        self.medians = tensors["entropy_bottleneck.quantiles"][:, 0, 1].astype(np.float32)
        self._bits = bits
        self._medians_fixed = to_fixed_point(self.medians, bits)[:, None, None]
        if len(self.medians) != len(self._coder):
            raise BadModelFile("expected a table for each channel of z and each scale, got another number")

    def quantise(self, z: torch.Tensor) -> Symbols:
        """Real z (N, rows, columns), on any device, to symbols around the medians."""
        return quantise(z.cpu() - torch.from_numpy(self.medians)[:, None, None])

    def z_hat(self, symbols: Symbols) -> Array:
        """What the symbols stand for, as integers with the fraction bits asked for; float64."""
        return symbols.astype(np.float64) * (1 << self._bits) + self._medians_fixed

    def encode(self, writer: SymbolWriter, symbols: Symbols) -> None:
        """Append z: int16 (N, rows, columns)."""
        self._coder.encode(writer, symbols, _channels(symbols.shape))

    def decode(self, reader: SymbolReader, rows: int, columns: int) -> Symbols:
        """Read the z of a strip whose y has so many rows and columns."""
        shape = (len(self.medians), -(-rows // HYPER_UNIT), -(-columns // HYPER_UNIT))
        return self._coder.decode(reader, _channels(shape))


def _channels(shape: tuple[int, ...]) -> npt.NDArray[np.uint8]:
    """Each position's channel: the factorised prior has one table a channel."""
    return np.broadcast_to(np.arange(shape[0], dtype=np.uint8)[:, None, None], shape)


def read_tables(tensors: Tensors, family: str) -> FrequencyTables:
    """The tables of `family` in a model. Raises BadModelFile, KeyError."""
    names = ("frequencies", "lengths", "lowest")
    tables = FrequencyTables(*(tensors[f"tables.{family}.{name}"] for name in names))
    problem = tables.problem()
    if problem:
        raise BadModelFile(f"expected {problem} in tables.{family}, got others")
    return tables
