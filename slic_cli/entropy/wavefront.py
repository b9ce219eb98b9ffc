"""The order in which a strip with a 5 x 5 context is decoded: fronts of positions that need nothing of one another.

A position sees two rows above, up to two columns to its right, and two columns to its left (Minnen et al. 2018, 3.1).
So everything it sees lies in fronts of smaller t = column + 3 row, and the positions of a front are done in one go.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from slic_cli.entropy.byte_product import LIMIT, operand

LAG = 3  # columns by which each row of a front is behind the one above
REACH = 2  # rows and columns that a position sees on each side
TAPS = 12  # positions it sees: five each in two rows, and two in its own


@dataclass(frozen=True)
class Front:
    """`count` positions: (row, column), (row + 1, column - LAG), and so on."""

    row: int
    column: int
    count: int


def fronts(rows: int, columns: int) -> Iterator[Front]:
    """All positions of a strip once, front by front."""
    for t in range(columns + LAG * (rows - 1)):
        first = max(0, -(-(t - columns + 1) // LAG))
        last = min(rows - 1, t // LAG)
        if first <= last:
            yield Front(first, t - LAG * first, last - first + 1)


def along(plane: Tensor, front: Front, run: int = 1, row: int = 0, column: int = 0) -> Tensor:
    """A view of contiguous `plane` (..., rows, columns, channels) at a moved front: (..., count, run * channels).

    Each position is moved by (row, column) and comes with its `run` - 1 successors in its row.
    """
    *several, _, columns, channels = plane.shape
    start = ((front.row + row) * columns + front.column + column) * channels
    step = max(0, columns - LAG) * channels  # in narrower strips each front is one position
    strides = (*plane.stride()[: len(several)], step, 1)
    return plane.as_strided((*several, front.count, run * channels), strides, start)


class LatentPlane:
    """The decoded latents of a strip, and what the context model sees: them with zeros around them, as an operand."""

    def __init__(self, channels: int, rows: int, columns: int) -> None:
        self._latents = torch.empty(rows, columns, channels)
        self._seen = operand(torch.zeros(rows + REACH, columns + 2 * REACH, channels))

    def neighbours(self, front: Front) -> Tensor:
        """What a front sees, an operand (parts, count, 12 channels): the mask's taps in raster order."""
        views = [along(self._seen, front, run, row) for row, run in enumerate((5, 5, 2))]
        return torch.cat(views, 2)

    def write(self, front: Front, values: Tensor) -> None:
        """Set the latents of a front, integers in float32 (count, channels). The context sees them clipped."""
        along(self._latents, front).copy_(values)
        along(self._seen, front, 1, REACH, REACH).copy_(operand(values.clamp(-LIMIT, LIMIT)))

    def latents(self) -> Tensor:
        """All of them: float32 (channels, rows, columns)."""
        return self._latents.permute(2, 0, 1)
