"""A second decoder of strip payloads, written from docs/format.md alone: plain Python integers, no library."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from itertools import accumulate, product
from typing import Any

import numpy.typing as npt

WORD, STATE = 1 << 32, 1 << 64
RAW = [256] * (1 << 16)
RAW_ENDS = list(accumulate(RAW))

Plane = dict[tuple[int, int, int], int]  # (channel, row, column) -> value; absent is zero


class ReferenceEncoder:
    """The range coder's encoder, with carries propagated into the words already written."""

    def __init__(self) -> None:
        self.words: list[int] = []
        self._lower, self._range = 0, STATE - 1

    def encode(self, letter: int, frequencies: list[int]) -> None:
        """Append one letter."""
        scale = self._range >> 24
        self._range = scale * frequencies[letter]
        self._lower = self._carried(self._lower + scale * sum(frequencies[:letter]))
        if self._range < WORD:
            self.words.append(self._lower // WORD)
            self._lower, self._range = self._lower * WORD % STATE, self._range * WORD

    def _carried(self, lower: int) -> int:
        if lower >= STATE:
            at = len(self.words) - 1
            while self.words[at] == WORD - 1:
                self.words[at], at = 0, at - 1
            self.words[at] += 1
        return lower % STATE

    def finish(self) -> bytes:
        """The payload."""
        last = self._carried(self._lower + WORD - 1) // WORD
        self.words.append(last)
        if (self._lower + self._range) % STATE // WORD == last:
            self.words.append(0)
        return b"".join(word.to_bytes(4, "little") for word in self.words)


class ReferenceDecoder:
    """The range coder's decoder."""

    def __init__(self, payload: bytes) -> None:
        if not payload or len(payload) % 4:
            raise ValueError("length")
        self._words = [int.from_bytes(payload[i : i + 4], "little") for i in range(0, len(payload), 4)]
        self._lower, self._range = 0, STATE - 1
        self._point = self._word() * WORD
        self._point += self._word()

    def _word(self) -> int:
        return self._words.pop(0) if self._words else 0

    def decode(self, frequencies: list[int], ends: list[int] | None = None) -> int:
        """The next letter."""
        scale = self._range >> 24
        quantile = (self._point - self._lower) % STATE // scale
        if quantile >= 1 << 24:
            raise ValueError("quantile")
        ends = ends or list(accumulate(frequencies))
        letter = bisect_right(ends, quantile)
        self._lower = (self._lower + scale * (ends[letter] - frequencies[letter])) % STATE
        self._range = scale * frequencies[letter]
        if self._range < WORD:
            self._lower, self._range = self._lower * WORD % STATE, self._range * WORD
            self._point = self._point * WORD % STATE + self._word()
        return letter

    def finish(self) -> None:
        """Refuse a message that goes on."""
        if self._words or (self._point - self._lower) % STATE >= 2 * WORD - 1:
            raise ValueError("end")


@dataclass(frozen=True)
class Table:
    """One table: frequencies, escape last, and the symbol of letter 0."""

    frequencies: list[int]
    low: int


def decode_symbols(decoder: ReferenceDecoder, tables: list[Table], indices: list[int]) -> list[int]:
    """Steps 1 and 2, or 3 and 4, of "Order": the symbols in raster order, given each one's table."""
    order = sorted((table, at) for at, table in enumerate(indices))
    ends = {table: list(accumulate(tables[table].frequencies)) for table in set(indices)}
    letters = [(at, table, decoder.decode(tables[table].frequencies, ends[table])) for table, at in order]
    symbols = [0] * len(indices)
    for at, table, letter in letters:
        escape = letter == len(tables[table].frequencies) - 1
        symbols[at] = decoder.decode(RAW, RAW_ENDS) - 32768 if escape else tables[table].low + letter
    return symbols


def nearest(value: float, bits: int) -> int:
    """round(value * 2^bits): Python rounds a Fraction exactly, ties to even."""
    return round(Fraction(float(value)) * Fraction(2) ** bits)


def read_tables(tensors: Mapping[str, npt.NDArray[Any]], family: str) -> list[Table]:
    """The tables of a family, cut out of their concatenation."""
    rest = [int(f) for f in tensors[f"tables.{family}.frequencies"]]
    tables = []
    for length, low in zip(tensors[f"tables.{family}.lengths"], tensors[f"tables.{family}.lowest"], strict=True):
        tables.append(Table(rest[: int(length)], int(low)))
        rest = rest[int(length) :]
    return tables


def decode_strip(
    tensors: Mapping[str, npt.NDArray[Any]], payload: bytes, rows: int, columns: int
) -> tuple[list[int], list[int]]:
    """The symbols of z and the latents of y of one strip, each in raster order."""
    decoder = ReferenceDecoder(payload)
    medians = [nearest(value, 12) for value in tensors["entropy_bottleneck.quantiles"][:, 0, 1]]
    places = list(product(range(len(medians)), range(-(-rows // 4)), range(-(-columns // 4))))
    z = decode_symbols(decoder, read_tables(tensors, "z"), [channel for channel, _, _ in places])
    scales = hyper_synthesis(
        tensors, {place: symbol * 4096 + medians[place[0]] for place, symbol in zip(places, z, strict=True)}
    )
    thresholds = [int(t) for t in tensors["tables.y.thresholds"]]
    channels = len(tensors["h_s.4.bias"])
    own = [int(table) for table in tensors.get("tables.y.own", [-1] * channels)]
    wanted = product(range(channels), range(rows), range(columns))
    indices = [own[place[0]] if own[place[0]] >= 0 else sum(t <= scales[place] for t in thresholds) for place in wanted]
    y = decode_latents(decoder, tensors, indices)
    decoder.finish()
    return z, y


def decode_latents(decoder: ReferenceDecoder, tensors: Mapping[str, npt.NDArray[Any]], indices: list[int]) -> list[int]:
    """The latents of y in raster order, given each one's table by "Tables of y": whole numbers without a trellis, else
    in 64ths."""
    tables = read_tables(tensors, "y")
    if "trellis.transitions" not in tensors:
        return decode_symbols(decoder, tables, indices)
    unit, steps = (int(tensors[f"trellis.{name}"][0]) for name in ("unit", "steps"))
    pairs = [int(pair) for pair in tensors["tables.y.paired"]]
    own, unpaired, dependent = classes(pairs, indices)
    latents = [0] * len(indices)
    for places, factor in ((own, 64), (unpaired, 2 * unit)):
        symbols = decode_symbols(decoder, tables, [indices[place] for place in places])
        for place, symbol in zip(places, symbols, strict=True):
            latents[place] = factor * symbol
    lanes = max(1, min(1024, len(dependent) // steps))
    states = [0] * lanes
    for start in range(0, len(dependent), lanes):
        step = dependent[start : start + lanes]
        quantisers = [state % 2 for state in states]
        chosen = [(pairs[indices[place]] if q else indices[place]) for place, q in zip(step, quantisers, strict=False)]
        for lane, k in enumerate(decode_symbols(decoder, tables, chosen)):
            latents[step[lane]] = (2 * k - ((k > 0) - (k < 0)) * quantisers[lane]) * unit
            states[lane] = int(tensors["trellis.transitions"][states[lane], k % 2])
    return latents


def classes(pairs: list[int], indices: list[int]) -> tuple[list[int], list[int], list[int]]:
    """Places of own, unpaired and dependent latents, the last in the order of "Lanes"."""
    own = [place for place, table in enumerate(indices) if table >= len(pairs)]
    unpaired = [place for place, table in enumerate(indices) if table < len(pairs) and pairs[table] < 0]
    others = {*range(len(indices))} - {*own} - {*unpaired}
    return own, unpaired, sorted(others, key=lambda place: (indices[place], place))


def hyper_synthesis(tensors: Mapping[str, npt.NDArray[Any]], z_hat: Plane) -> Plane:
    """Scales of y, with 12 fraction bits."""
    x = {place: min(max(value, -(1 << 24)), 1 << 24) for place, value in z_hat.items()}
    for name, transposed in (("h_s.0", True), ("h_s.2", True), ("h_s.4", False)):
        x = layer(x, tensors[f"{name}.weight"], tensors[f"{name}.bias"], transposed)
    return x


def layer(x: Plane, weight: npt.NDArray[Any], bias: npt.NDArray[Any], transposed: bool) -> Plane:
    """One layer, output place by output place."""
    fixed = {at: nearest(weight[at], 16) for at in product(*map(range, weight.shape))}
    _, rows, columns = (max(place[axis] for place in x) + 1 for axis in range(3))
    stride = 2 if transposed else 1
    inputs = range(weight.shape[0 if transposed else 1])
    result = {}
    for o, p, q in product(range(len(bias)), range(rows * stride), range(columns * stride)):
        total = nearest(bias[o], 28)
        for k, l, i_row, i_column in taps(p, q, transposed):  # noqa: E741 - the document's letters
            for i in inputs:
                total += fixed[(i, o, k, l) if transposed else (o, i, k, l)] * x.get((i, i_row, i_column), 0)
        result[o, p, q] = min(max((total + (1 << 15)) // (1 << 16), 0), 1 << 24)
    return result


def taps(p: int, q: int, transposed: bool) -> Iterator[tuple[int, int, int, int]]:
    """Kernel row and column, input row and column."""
    if not transposed:
        yield from ((k, l, p + k - 1, q + l - 1) for k in range(3) for l in range(3))  # noqa: E741
        return
    for k, l in product(range(5), range(5)):  # noqa: E741
        if (p + 2 - k) % 2 == 0 and (q + 2 - l) % 2 == 0:
            yield k, l, (p + 2 - k) // 2, (q + 2 - l) // 2
