"""A picture turned, made larger and smaller, to look for waves that have been: a carrier's filters know few of them."""

from __future__ import annotations

from collections.abc import Iterator

import torch.nn.functional as F
from torch import Tensor

from slic_cli.transform.layers import LATENT_UNIT

SIZES = (2.0, 2**0.5, 0.5**0.5, 0.5)  # with the filters' own range, waves of 0.35 to 2.5 of their length are found
_SIDE = 40 * LATENT_UNIT  # pixels: a wave that is all over is in the middle, too, at the same cost for any picture


def other_views(pixels: Tensor) -> Iterator[tuple[float, Tensor]]:
    """The middle of uint8 (rows, columns, 3) with rows and columns exchanged, then at each of SIZES.

    Each with its size and cut to whole latents, where a latent of it is left.
    """
    for size in (1.0, *SIZES):
        seen = middle(pixels, int(_SIDE / size))
        rows, columns = (int(side * size) // LATENT_UNIT * LATENT_UNIT for side in seen.shape[:2])
        if not (rows and columns):
            continue
        if size == 1:
            yield size, seen[:rows, :columns].transpose(0, 1)
        else:
            scaled = F.interpolate(seen.permute(2, 0, 1)[None], scale_factor=size, mode="bicubic", antialias=True)
            yield size, scaled[0, :, :rows, :columns].permute(1, 2, 0)


def middle(pixels: Tensor, most: int) -> Tensor:
    """At most so many rows and columns of (rows, columns, 3)."""
    rows, columns = (slice((side - min(side, most)) // 2, (side + min(side, most)) // 2) for side in pixels.shape[:2])
    return pixels[rows, columns]
