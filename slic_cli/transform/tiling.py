"""Tiles with halo: a convolutional map over a large plane, piece by piece, with the whole plane's result.

Each tile is computed on a window that exceeds it by the receptive field; at the plane's own border the window ends, and
the network's zero padding acts there as it does on the whole plane.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass


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
