"""What the encoder does to a picture's outermost pixels, so that nothing is lost there.

The basis functions of a lapped transform (Malvar and Staelin 1989) reach over the edges of their blocks. At the edge
of a picture their other halves are missing, for the networks see zeros there: the decoder would show the outermost
pixels with too little contrast. The encoder gives them as much more. This is a matter of the encoder alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from slic_cli.errors import BadModelFile

DEPTH = 8  # pixels from the edge inwards; a picture has at least twice as many
FILTER, COLOUR = "encoder.edge_filter", "encoder.edge_colour"  # the tensors of a model


@dataclass(frozen=True)
class Sides:
    """Which sides of a piece are edges of the picture."""

    top: bool = True
    bottom: bool = True
    left: bool = True
    right: bool = True


def filter_edges(x: Tensor, matrix: Tensor, colour: Tensor, sides: Sides = Sides()) -> Tensor:
    """A copy of `x` (..., 3, rows, columns), filtered by `matrix` (DEPTH, DEPTH) along rows, then along columns.

    The matrix counts pixels from the edge inwards and works on what differs from `colour` (3), which zeros stand for.
    """
    x, offset, turned = x.clone(), colour.view(3, 1, 1), matrix.flip(0, 1)
    for wanted, part, kernel in ((sides.top, slice(DEPTH), matrix), (sides.bottom, slice(-DEPTH, None), turned)):
        if wanted:
            x[..., part, :] = kernel @ (x[..., part, :] - offset) + offset
    for wanted, part, kernel in ((sides.left, slice(DEPTH), matrix), (sides.right, slice(-DEPTH, None), turned)):
        if wanted:
            x[..., part] = (x[..., part] - offset) @ kernel.T + offset
    return x


class EdgeFilter:
    """What a model's tensors ask for."""

    def __init__(self, matrix: Tensor, colour: Tensor) -> None:
        self._matrix, self._colour = matrix, 255.0 * colour

    def __call__(self, pixels: Tensor, sides: Sides) -> Tensor:
        """A piece of a picture, uint8 (rows, columns, 3) of at least 16 x 16, in the same units: float32, or as it is
        where no side is an edge."""
        if not (sides.top or sides.bottom or sides.left or sides.right):
            return pixels
        x = pixels.permute(2, 0, 1).float()
        return filter_edges(x, self._matrix, self._colour, sides).permute(1, 2, 0)


def edge_filter_of(tensors: Mapping[str, npt.NDArray[Any]]) -> EdgeFilter | None:
    """None for a model without one. Raises BadModelFile."""
    if FILTER not in tensors and COLOUR not in tensors:
        return None
    for name, shape in ((FILTER, (DEPTH, DEPTH)), (COLOUR, (3,))):
        got = tensors.get(name)
        if got is None or got.shape != shape or not np.isfinite(got).all():
            raise BadModelFile(f"expected {name} of shape {shape}, finite, got {None if got is None else got.shape}")
    matrix, colour = (torch.from_numpy(tensors[name].astype(np.float32)) for name in (FILTER, COLOUR))
    return EdgeFilter(matrix, colour)
