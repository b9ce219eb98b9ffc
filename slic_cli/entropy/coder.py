"""Symbols to bytes and back with constriction's range coder.

Symbols that share a probability table are coded in one call, table after table, so that the cost per symbol is that of
the coder and not of Python. The order is fixed by the tables alone, which the decoder knows before it reads a symbol.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import constriction
import numpy as np
import numpy.typing as npt

from slic_cli.entropy.tables import FrequencyTables
from slic_cli.errors import BadSlicFile
from slic_cli.quantisation import SYMBOL_MIN

Symbols = npt.NDArray[np.int16]
_ESCAPED_VALUES = 1 << 16


class TableCoder:
    """Codes symbols of one family of tables. Models of constriction are made on first use and kept."""

    def __init__(self, tables: FrequencyTables) -> None:
        self._tables = tables
        self._starts = tables.starts()
        self._models: dict[int, Any] = {}

    def __len__(self) -> int:
        return len(self._tables.lengths)

    def model(self, index: int) -> Any:
        """The coder's model for table `index`.

        constriction adds one to each weight after scaling them to fill 2^24; frequencies less one are scaled by
        exactly 1, so that the frequencies are used as they are stored (a test decodes them with an independent coder).
        """
        model = self._models.get(index)
        if model is None:
            start, length = self._starts[index], self._tables.lengths[index]
            weights = self._tables.frequencies[start : start + length].astype(np.float64) - 1.0
            model = self._models[index] = constriction.stream.model.Categorical(weights, perfect=False)
        return model

    def encode(self, writer: SymbolWriter, symbols: Symbols, indices: npt.NDArray[np.uint8]) -> None:
        """Append `symbols` (any shape), each with the table that `indices` (same shape) names."""
        writer.note(self, symbols, indices)
        order, counts = _grouping(indices)
        values = symbols.reshape(-1)[order].astype(np.int32)
        lowest, escapes = self._limits(counts)
        letters = values - lowest
        outside = (letters < 0) | (letters >= escapes)
        letters[outside] = escapes[outside]
        for index, start, stop in _groups(counts):
            writer.write(letters[start:stop], self.model(index))
        writer.write_raw(values[outside])

    def decode(self, reader: SymbolReader, indices: npt.NDArray[np.uint8]) -> Symbols:
        """Read the symbols, in the shape of `indices`. Raises BadSlicFile when the data cannot be right."""
        order, counts = _grouping(indices)
        letters = np.empty(indices.size, np.int32)
        for index, start, stop in _groups(counts):
            letters[start:stop] = reader.read(stop - start, self.model(index))
        lowest, escapes = self._limits(counts)
        places = np.flatnonzero(letters == escapes)
        values = letters + lowest
        values[places] = reader.read_raw(len(places))
        symbols = np.empty(indices.size, np.int16)
        symbols[order] = values
        return symbols.reshape(indices.shape)

    def _limits(self, counts: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]:
        """Lowest symbol and escape letter of each symbol in table order, int32."""
        lowest, escapes = self._tables.lowest, self._tables.lengths - 1
        return np.repeat(lowest[: len(counts)], counts), np.repeat(escapes[: len(counts)], counts)


def _grouping(indices: npt.NDArray[np.uint8]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Positions ordered by table, then by place (channel, row, column), and how many each table has."""
    flat = indices.reshape(-1)
    return np.argsort(flat, kind="stable"), np.bincount(flat)


def _groups(counts: npt.NDArray[np.int64]) -> Iterator[tuple[int, int, int]]:
    """Each table that is used, with the first and last place in table order of what it codes."""
    used, ends = np.flatnonzero(counts), np.cumsum(counts)
    return zip(used.tolist(), (ends - counts)[used].tolist(), ends[used].tolist(), strict=True)


class SymbolWriter:
    """Collects symbols into one range-coded payload."""

    def __init__(self) -> None:
        self._encoder = constriction.stream.queue.RangeEncoder()

    def note(self, coder: TableCoder, symbols: Symbols, indices: npt.NDArray[np.uint8]) -> None:
        """Told before `coder` writes `symbols` with the tables `indices`, for who counts them."""

    def write(self, letters: npt.NDArray[np.int32], model: Any) -> None:
        """Append letters, all with one model."""
        self._encoder.encode(letters, model)

    def write_raw(self, values: npt.NDArray[np.int32]) -> None:
        """Append 16-bit values without a model (escaped symbols)."""
        if len(values):
            letters = (values - SYMBOL_MIN).astype(np.int32)
            self._encoder.encode(letters, constriction.stream.model.Uniform(_ESCAPED_VALUES))

    def finish(self) -> bytes:
        """The payload: little-endian 32-bit words."""
        words: bytes = self._encoder.get_compressed().astype("<u4").tobytes()
        return words


class Census(SymbolWriter):
    """Counts what one coder writes: `counts`, int64 (tables, 2 REACH + 1), of the symbols from -REACH to REACH."""

    REACH = 1 << 11

    def __init__(self, coder: TableCoder) -> None:
        super().__init__()
        self._coder = coder
        self.counts = np.zeros((len(coder), 2 * self.REACH + 1), np.int64)

    def note(self, coder: TableCoder, symbols: Symbols, indices: npt.NDArray[np.uint8]) -> None:
        """Count them."""
        if coder is self._coder:
            places = symbols.clip(-self.REACH, self.REACH).astype(np.int64) + self.REACH
            np.add.at(self.counts, (indices.reshape(-1), places.reshape(-1)), 1)


class SymbolReader:
    """Reads symbols back from a payload that a SymbolWriter made."""

    def __init__(self, payload: bytes) -> None:
        if not payload or len(payload) % 4:
            raise BadSlicFile(f"expected a strip of whole 32-bit words, got {len(payload)} bytes")
        words = np.frombuffer(payload, "<u4").astype(np.uint32)
        self._decoder = constriction.stream.queue.RangeDecoder(words)

    def read(self, count: int, model: Any) -> npt.NDArray[np.int32]:
        """The next `count` letters."""
        try:
            letters: npt.NDArray[np.int32] = self._decoder.decode(model, count)
        except AssertionError as error:  # how constriction reports impossible data
            raise BadSlicFile("expected a strip made with these weights, got impossible data") from error
        return letters

    def read_raw(self, count: int) -> npt.NDArray[np.int32]:
        """The next `count` 16-bit values."""
        if not count:
            return np.empty(0, np.int32)
        return self.read(count, constriction.stream.model.Uniform(_ESCAPED_VALUES)) + SYMBOL_MIN

    def finish(self) -> None:
        """Check that the payload ends here. Raises BadSlicFile."""
        if not self._decoder.maybe_exhausted():
            raise BadSlicFile("expected a strip that ends with its last symbol, got more data")
