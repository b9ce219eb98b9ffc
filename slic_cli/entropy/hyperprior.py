"""The entropy model of bmshj2018-hyperprior: one strip's latents to bytes and back, exactly.

A payload holds, in one range-coded stream, z (each channel with its own table), then y (each symbol with the table its
predicted scale names). docs/format.md specifies it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from slic_cli.entropy.coder import SymbolReader, Symbols, SymbolWriter, TableCoder
from slic_cli.entropy.integer_network import ACTIVATION_BITS, IntegerHyperSynthesis, to_fixed_point
from slic_cli.entropy.tables import FrequencyTables
from slic_cli.errors import BadModelFile
from slic_cli.quantisation import ScaleTable

HYPER_UNIT = 4  # rows and columns of y per row and column of z


class HyperpriorCoder:
    """Codes strips of latents with the tables and the integer hyper-synthesis of one model."""

    def __init__(self, tensors: Mapping[str, npt.NDArray[Any]]) -> None:
        try:
            self._z_coder = TableCoder(_tables(tensors, "z"))
            self._y_coder = TableCoder(_tables(tensors, "y"))
            thresholds = tensors["tables.y.thresholds"]
            self.medians = tensors["entropy_bottleneck.quantiles"][:, 0, 1].astype(np.float32)
            layers = ("h_s.0", "h_s.2", "h_s.4")
            self._h_s = IntegerHyperSynthesis(
                [tensors[f"{name}.weight"] for name in layers], [tensors[f"{name}.bias"] for name in layers]
            )
        except KeyError as error:
            raise BadModelFile(f"expected the tensor {error.args[0]}, got a model without it") from error
        self._medians_fixed = to_fixed_point(self.medians, ACTIVATION_BITS)[:, None, None]

        if len(self._medians_fixed) != len(self._z_coder) or len(thresholds) != len(self._y_coder) - 1:
            raise BadModelFile("expected a table for each channel of z and each scale, got another number")
        self._scale_table = ScaleTable(thresholds)

    def table_indices(self, z_symbols: Symbols, rows: int, columns: int) -> npt.NDArray[np.uint8]:
        """The table of each symbol of y, (M, rows, columns), from z: int16 (N, ceil(rows / 4), ceil(columns / 4))."""
        z_hat = z_symbols.astype(np.float64) * (1 << ACTIVATION_BITS) + self._medians_fixed
        return self._scale_table(self._h_s(z_hat)[:, :rows, :columns])

    def encode(self, y_symbols: Symbols, z_symbols: Symbols) -> bytes:
        """Code one strip: y (M, rows, columns) and z (N, ceil(rows / 4), ceil(columns / 4)), both int16."""
        writer = SymbolWriter()
        self._z_coder.encode(writer, z_symbols, _channels(z_symbols.shape))
        self._y_coder.encode(writer, y_symbols, self.table_indices(z_symbols, *y_symbols.shape[1:]))
        return writer.finish()

    def decode(self, payload: bytes, rows: int, columns: int) -> Symbols:
        """The very symbols of y that `encode` was given: int16 (M, rows, columns). Raises BadSlicFile."""
        reader = SymbolReader(payload)
        shape = (len(self.medians), -(-rows // HYPER_UNIT), -(-columns // HYPER_UNIT))
        z_symbols = self._z_coder.decode(reader, _channels(shape))
        y_symbols = self._y_coder.decode(reader, self.table_indices(z_symbols, rows, columns))
        reader.finish()
        return y_symbols


def _channels(shape: tuple[int, ...]) -> npt.NDArray[np.uint8]:
    """Each position's channel: the factorised prior has one table a channel."""
    return np.broadcast_to(np.arange(shape[0], dtype=np.uint8)[:, None, None], shape)


def _tables(tensors: Mapping[str, npt.NDArray[Any]], family: str) -> FrequencyTables:
    names = ("frequencies", "lengths", "lowest")
    tables = FrequencyTables(*(tensors[f"tables.{family}.{name}"] for name in names))
    problem = tables.problem()
    if problem:
        raise BadModelFile(f"expected {problem} in tables.{family}, got others")
    return tables
