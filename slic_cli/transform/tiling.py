"""Tiles with halo: a convolutional map over a large plane, piece by piece, with the whole plane's result.

Each tile is computed on a window that exceeds it by the receptive field; at the plane's own border the window ends, and
the network's zero padding acts there as it does on the whole plane.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from slic_cli.transform.edges import EdgeFilter, Sides
from slic_cli.transform.layers import LATENT_UNIT


@dataclass(frozen=True)
class Span:
    """One axis of a tile: the core [start, stop) inside the window [window_start, window_stop), in grid units."""

    start: int
    stop: int
    window_start: int
    window_stop: int

    def window(self, unit: int) -> slice:
        """The window on a plane with `unit` samples a grid unit."""
        return slice(self.window_start * unit, self.window_stop * unit)

    def ends(self, length: int) -> tuple[bool, bool]:
        """Whether the window begins and ends where an axis of `length` does."""
        return self.window_start == 0, self.window_stop == length

    def core(self, unit: int) -> slice:
        """The core on the same plane."""
        return slice(self.start * unit, self.stop * unit)

    def core_in_window(self, unit: int) -> slice:
        """The core, counted from the window's start."""
        return slice((self.start - self.window_start) * unit, (self.stop - self.window_start) * unit)


def spans(start: int, stop: int, length: int, size: int, halo: int) -> Iterator[Span]:
    """Cut [start, stop) of an axis of `length` into cores of at most `size`, windows `halo` larger on each side."""
    for first in range(start, stop, size):
        last = min(first + size, stop)
        yield Span(first, last, max(0, first - halo), min(length, last + halo))


def analyse_tiles(
    analysis: Callable[[Tensor], Tensor],
    pixels: Tensor,
    rows: tuple[int, int],
    channels: int,
    tile: int,
    halo: int,
    edge_filter: EdgeFilter | None = None,
) -> Tensor:
    """Latent rows [start, stop) of a whole padded picture: float32 (channels, stop - start, columns).

    `analysis` maps (16 rows, 16 columns, 3), uint8 or filtered at the picture's edges, to (channels, rows, columns);
    `tile` and `halo` count latents.
    """
    (start, stop), (height, columns) = rows, (side // LATENT_UNIT for side in pixels.shape[:2])
    y = torch.empty(channels, stop - start, columns)
    for row in spans(start, stop, height, tile, halo):
        for column in spans(0, columns, columns, tile, halo):
            seen = pixels[row.window(LATENT_UNIT), column.window(LATENT_UNIT)]
            if edge_filter:
                seen = edge_filter(seen, Sides(*row.ends(height), *column.ends(columns)))
            piece = analysis(seen)
            core = piece[:, row.core_in_window(1), column.core_in_window(1)]
            y[:, row.start - start : row.stop - start, column.core(1)] = core
    return y


def synthesise_tiles(synthesis: Callable[[Tensor], Tensor], y_hat: Tensor, tile: int, halo: int) -> Tensor:
    """A whole picture from all its latents (M, rows, columns): uint8 (16 rows, 16 columns, 3)."""
    _, rows, columns = y_hat.shape
    pixels = torch.empty(rows * LATENT_UNIT, columns * LATENT_UNIT, 3, dtype=torch.uint8)
    for row in spans(0, rows, rows, tile, halo):
        for column in spans(0, columns, columns, tile, halo):
            piece = synthesis(y_hat[:, row.window(1), column.window(1)])
            core = piece[row.core_in_window(LATENT_UNIT), column.core_in_window(LATENT_UNIT)]
            pixels[row.core(LATENT_UNIT), column.core(LATENT_UNIT)] = core
    return pixels
