"""A second decoder of strips with a context model, written from docs/format.md alone: plain Python integers."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product
from typing import Any

import numpy.typing as npt
from reference_decoder import Plane, ReferenceDecoder, decode_symbols, nearest, read_tables, taps

Tensors = Mapping[str, npt.NDArray[Any]]
LIMIT = 1 << 24

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


def shifted(total: int, bits: int, leaky: bool) -> int:
    """The line "result" of the document."""
    if leaky:
        total = max(total << 16, total * 655)
        bits += 16
    return min(max((total + (1 << (bits - 1))) >> bits, -LIMIT), LIMIT)


def decode_strip(
    architecture: str, tensors: Tensors, payload: bytes, rows: int, columns: int
) -> tuple[list[int], dict[tuple[int, int, int], int]]:
    """The symbols of z in raster order, and y_hat in 64ths at (channel, row, column)."""
    decoder = ReferenceDecoder(payload)
    medians = [nearest(value, 8) for value in tensors["entropy_bottleneck.quantiles"][:, 0, 1]]
    places = list(product(range(len(medians)), range(-(-rows // 4)), range(-(-columns // 4))))
    z = decode_symbols(decoder, read_tables(tensors, "z"), [channel for channel, _, _ in places])
    x: Plane = {p: min(max(s * 256 + medians[p[0]], -LIMIT), LIMIT) for p, s in zip(places, z, strict=True)}
    for number, (name, kind) in enumerate(HYPER_LAYERS[architecture], 1):
        x = hyper_layer(x, tensors, name, kind, number < len(HYPER_LAYERS[architecture]))
    y_hat = _decode_y(decoder, tensors, x, rows, columns)
    decoder.finish()
    return z, y_hat


def hyper_layer(x: Plane, tensors: Tensors, name: str, kind: str, leaky: bool) -> Plane:
    """One layer of the hyper-synthesis."""
    weight, bias = tensors[f"{name}.weight"], tensors[f"{name}.bias"]
    fixed = {at: nearest(weight[at], 11) for at in product(*map(range, weight.shape))}
    _, rows, columns = (max(place[axis] for place in x) + 1 for axis in range(3))
    turned, stride = kind == "transposed", 1 if kind == "plain" else 2
    grid = stride if turned else 1
    result = {}
    for o, p, q in product(range(len(bias)), range(rows * grid), range(columns * grid)):
        total = nearest(bias[o], 19)
        for k, l, i_row, i_column in taps(p, q, turned):  # noqa: E741 - the document's letters
            for i in range(weight.shape[0 if turned else 1]):
                total += fixed[(i, o, k, l) if turned else (o, i, k, l)] * x.get((i, i_row, i_column), 0)
        place = (o // 4, 2 * p + o % 4 // 2, 2 * q + o % 2) if kind == "shuffled" else (o, p, q)
        result[place] = shifted(total, 11, leaky)
    return result


def _decode_y(
    decoder: ReferenceDecoder, tensors: Tensors, hyper: Plane, rows: int, columns: int
) -> dict[tuple[int, int, int], int]:
    channels = len(tensors["context_prediction.bias"]) // 2
    tables, thresholds = read_tables(tensors, "y"), [int(t) for t in tensors["tables.y.thresholds"]]
    networks = {name: _Matrix(tensors, f"entropy_parameters.{name}") for name in (0, 2, 4)}
    context = _context_weights(tensors)
    y_hat: Plane = {}
    for t in range(columns + 3 * rows):
        front = [(row, t - 3 * row) for row in range(rows) if 0 <= t - 3 * row < columns]
        indices, means = [], []
        for row, column in front:
            seen = [hyper[o, row, column] for o in range(2 * channels)] + _context(context, y_hat, row, column)
            hidden = [shifted(total, 10, True) for total in networks[0](seen)]
            hidden = [shifted(total, 10, True) for total in networks[2](hidden)]
            last = networks[4](hidden)
            scales = [max(shifted(total, 6, False), 0) for total in last[:channels]]
            indices += [sum(threshold <= scale for threshold in thresholds) for scale in scales]
            means += [min(max(shifted(total, 12, False), -(1 << 21)), 1 << 21) for total in last[channels:]]
        symbols = decode_symbols(decoder, tables, indices)
        for (row, column), c in product(front, range(channels)):
            at = front.index((row, column)) * channels + c
            y_hat[c, row, column] = symbols[at] * 64 + means[at]
    return y_hat


class _Matrix:
    """A 1 x 1 convolution."""

    def __init__(self, tensors: Tensors, name: str) -> None:
        self._rows = [[nearest(value, 10) for value in row] for row in tensors[f"{name}.weight"][:, :, 0, 0]]
        self._bias = [nearest(value, 18) for value in tensors[f"{name}.bias"]]

    def __call__(self, x: list[int]) -> list[int]:
        return [
            offset + sum(w * v for w, v in zip(row, x, strict=True))
            for row, offset in zip(self._rows, self._bias, strict=True)
        ]


def _context_weights(tensors: Tensors) -> tuple[dict[tuple[int, ...], int], list[int]]:
    weight = tensors["context_prediction.weight"]
    before = list(product(range(5), range(5)))[:12]
    fixed: dict[tuple[int, ...], int] = {
        (o, i, k, l): nearest(weight[o, i, k, l], 11)
        for o, i in product(range(weight.shape[0]), range(weight.shape[1]))
        for k, l in before  # noqa: E741
    }
    return fixed, [nearest(value, 17) for value in tensors["context_prediction.bias"]]


def _context(
    weights: tuple[dict[tuple[int, ...], int], list[int]],
    y_hat: Mapping[tuple[int, int, int], int],
    row: int,
    column: int,
) -> list[int]:
    fixed, totals = weights[0], list(weights[1])
    for (o, i, k, l), weight in fixed.items():  # noqa: E741
        totals[o] += weight * y_hat.get((i, row + k - 2, column + l - 2), 0)
    return [shifted(total, 9, False) for total in totals]
