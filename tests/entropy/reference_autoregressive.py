"""A second decoder of strips with a context model, written from docs/format.md alone: plain Python integers."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from itertools import product
from typing import Any

import numpy.typing as npt
from reference_decoder import Plane, ReferenceDecoder, decode_latents, decode_symbols, nearest, read_tables, taps

Tensors = Mapping[str, npt.NDArray[Any]]
LIMIT = 127 * 256
LARGEST = 1 << 21

HYPER_LAYERS = {
    "mbt2018": (("h_s.0", "transposed"), ("h_s.2", "transposed"), ("h_s.4", "plain")),
    "cheng2020-anchor": (
        ("h_s.0", "plain"),
        ("h_s.2.0", "shuffled"),
        ("h_s.4", "plain"),
        ("h_s.6.0", "shuffled"),
        ("h_s.8", "plain"),
    ),
}


def exponent(weights: list[Any]) -> int:
    """The largest, at most 20, that keeps the weights of an output small."""
    sizes = [abs(Fraction(float(weight))) for weight in weights]
    bits = 20
    while sum(sizes) * Fraction(2) ** bits > 16 * len(sizes) or max(sizes) * Fraction(2) ** bits > LIMIT:
        bits -= 1
    return bits


def result(total: int, bits: int, leaky: bool, limit: int = LIMIT) -> int:
    """The line "result" of the document: a sum with `bits` fraction bits too many."""
    exact = Fraction(total) * (Fraction(655, 65536) if leaky and total < 0 else 1) / Fraction(2) ** bits
    return min(max(round(exact), -limit), limit)


def decode_strip(
    architecture: str, tensors: Tensors, payload: bytes, rows: int, columns: int
) -> tuple[list[int], dict[tuple[int, int, int], int]]:
    """The symbols of z in raster order, and y_hat in 64ths at (channel, row, column)."""
    decoder = ReferenceDecoder(payload)
    medians = [nearest(value, 7) for value in tensors["entropy_bottleneck.quantiles"][:, 0, 1]]
    places = list(product(range(len(medians)), range(-(-rows // 4)), range(-(-columns // 4))))
    z = decode_symbols(decoder, read_tables(tensors, "z"), [channel for channel, _, _ in places])
    x: Plane = {p: min(max(s * 128 + medians[p[0]], -LIMIT), LIMIT) for p, s in zip(places, z, strict=True)}
    for number, (name, kind) in enumerate(HYPER_LAYERS[architecture], 1):
        x = hyper_layer(x, tensors, name, kind, number < len(HYPER_LAYERS[architecture]))
    y_hat = _decode_y(decoder, tensors, x, rows, columns)
    decoder.finish()
    return z, y_hat


def hyper_layer(x: Plane, tensors: Tensors, name: str, kind: str, leaky: bool) -> Plane:
    """One layer of the hyper-synthesis."""
    weight, bias = tensors[f"{name}.weight"], tensors[f"{name}.bias"]
    turned, stride = kind == "transposed", 1 if kind == "plain" else 2
    bits = [exponent(list((weight[:, o] if turned else weight[o]).flat)) for o in range(len(bias))]
    fixed = {at: nearest(weight[at], bits[at[turned]]) for at in product(*map(range, weight.shape))}
    _, rows, columns = (max(place[axis] for place in x) + 1 for axis in range(3))
    grid = stride if turned else 1
    made = {}
    for o, p, q in product(range(len(bias)), range(rows * grid), range(columns * grid)):
        total = nearest(bias[o], bits[o] + 7)
        for k, l, i_row, i_column in taps(p, q, turned):  # noqa: E741 - the document's letters
            for i in range(weight.shape[0 if turned else 1]):
                total += fixed[(i, o, k, l) if turned else (o, i, k, l)] * x.get((i, i_row, i_column), 0)
        place = (o // 4, 2 * p + o % 4 // 2, 2 * q + o % 2) if kind == "shuffled" else (o, p, q)
        made[place] = result(total, bits[o], leaky)
    return made


def _decode_y(
    decoder: ReferenceDecoder, tensors: Tensors, hyper: Plane, rows: int, columns: int
) -> dict[tuple[int, int, int], int]:
    channels = len(tensors["context_prediction.bias"]) // 2
    thresholds = [int(t) for t in tensors["tables.y.thresholds"]]
    own = [int(table) for table in tensors.get("tables.y.own", [-1] * channels)]
    context = _Matrix(_before(tensors["context_prediction.weight"]), tensors["context_prediction.bias"], 6)
    first, second, third = (_pointwise(tensors, index) for index in (0, 2, 4))
    y_hat: Plane = {}
    for t in range(columns + 3 * rows):
        front = [(row, t - 3 * row) for row in range(rows) if 0 <= t - 3 * row < columns]
        indices, means = [], []
        for row, column in front:
            seen = [min(max(value, -LIMIT), LIMIT) for value in _around(y_hat, channels, row, column)]
            hidden = [hyper[o, row, column] for o in range(2 * channels)] + context(seen, 7, False)
            hidden = second(first(hidden, 7, True), 7, True)
            scales = [max(scale, 0) for scale in third(hidden, 12, False, LARGEST)[:channels]]
            indices += [
                table if table >= 0 else sum(threshold <= scale for threshold in thresholds)
                for scale, table in zip(scales, own, strict=True)
            ]
            means += third(hidden, 6, False, LARGEST)[channels:]
        differences = decode_latents(decoder, tensors, indices)
        for (row, column), c in product(front, range(channels)):
            at = front.index((row, column)) * channels + c
            y_hat[c, row, column] = differences[at] * (1 if "trellis.transitions" in tensors else 64) + means[at]
    return y_hat


class _Matrix:
    """A layer as a matrix, its input with `bits` fraction bits."""

    def __init__(self, weight: npt.NDArray[Any], bias: npt.NDArray[Any], bits: int) -> None:
        self._bits, self._exponents = bits, [exponent(list(row)) for row in weight]
        self._rows = [[nearest(value, e) for value in row] for row, e in zip(weight, self._exponents, strict=True)]
        self._bias = [nearest(value, e + bits) for value, e in zip(bias, self._exponents, strict=True)]

    def __call__(self, x: list[int], bits: int, leaky: bool, limit: int = LIMIT) -> list[int]:
        return [
            result(offset + sum(w * v for w, v in zip(row, x, strict=True)), self._bits + e - bits, leaky, limit)
            for row, offset, e in zip(self._rows, self._bias, self._exponents, strict=True)
        ]


def _pointwise(tensors: Tensors, index: int) -> _Matrix:
    weight, bias = (tensors[f"entropy_parameters.{index}.{part}"] for part in ("weight", "bias"))
    return _Matrix(weight[:, :, 0, 0], bias, 7)


BEFORE = list(product(range(5), range(5)))[:12]


def _before(weight: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The taps of a kernel (out, in, 5, 5) that the context sees: (out, in * 12)."""
    return weight.reshape(len(weight), -1, 25)[:, :, : len(BEFORE)].reshape(len(weight), -1)


def _around(y_hat: Mapping[tuple[int, int, int], int], channels: int, row: int, column: int) -> list[int]:
    """What they see."""
    return [y_hat.get((i, row + k - 2, column + l - 2), 0) for i in range(channels) for k, l in BEFORE]  # noqa: E741
