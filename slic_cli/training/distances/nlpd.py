"""The normalised Laplacian pyramid distance (Laparra, Balle, Berardino and Simoncelli 2016), with its parameters.

Those of the authors' NLP_dist.m, learned from photographs of the McGill collection.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from slic_cli.training.distances.base import Distance, filtered, halves, luma, mean_square, soft_root

_BLUR = (0.05, 0.25, 0.4, 0.25, 0.05)  # Burt and Adelson 1983
_FLOORS = (0.0248, 0.0185, 0.0179, 0.0191, 0.0220, 0.2782)  # finest level first, the low-pass rest last
_NEIGHBOURS = (  # what each neighbour adds to the divisor: from below, from the right, from the left, from above
    (0.1011, 0.1493, 0.1460, 0.1015),
    (0.0757, 0.1986, 0.1846, 0.0837),
    (0.0477, 0.2138, 0.2243, 0.0467),
    (0.0, 0.2503, 0.2616, 0.0),
    (0.0, 0.2598, 0.2552, 0.0),
    (0.0, 0.2215, 0.0717, 0.0),
)
_SECOND_LEFT = 0.0072  # the finest level's one further neighbour, two to the left


class Nlpd(Distance):
    """Mean over six levels of the root of the mean squared difference of two normalised pyramids, on luma in [0, 1].

    Each level of the Laplacian pyramid is divided by a constant plus its neighbours' weighted magnitudes, as local
    luminance and contrast gains of the eye would.
    """

    blur: Tensor
    neighbours: Tensor

    def __init__(self) -> None:
        super().__init__()
        blur = torch.tensor(_BLUR)
        self.register_buffer("blur", blur.outer(blur)[None, None], persistent=False)
        kernels = torch.zeros(len(_FLOORS), 1, 1, 5, 5)
        for kernel, (below, right, left, above) in zip(kernels[:, 0, 0], _NEIGHBOURS, strict=True):
            kernel[3, 2], kernel[2, 3], kernel[2, 1], kernel[1, 2] = below, right, left, above
        kernels[0, 0, 0, 2, 0] = _SECOND_LEFT
        self.register_buffer("neighbours", kernels, persistent=False)

    def compare(self, features: list[Tensor]) -> Tensor:
        levels = [soft_root(mean_square(*halves(z))) for z in self.pyramid(luma(features[0]))]
        return torch.stack(levels).mean(0)

    def pyramid(self, x: Tensor) -> list[Tensor]:
        """(n, 1, h, w) to six normalised levels, (n, 1, ceil(h / 2^k), ceil(w / 2^k))."""
        levels = []
        for _ in range(len(_FLOORS) - 1):
            low = filtered(_mirrored(x), self.blur, stride=2)
            levels.append(x - self._enlarged(low, x))
            x = low
        return [self._normalised(z, level) for level, z in enumerate([*levels, x])]

    def _enlarged(self, low: Tensor, like: Tensor) -> Tensor:
        """Twice the size, cut to that of `like`: zeros between the pixels, then four times the blur."""
        framed = F.pad(low, (1, 1, 1, 1), "replicate")
        spread = F.pad(framed[:, :, :, None, :, None], (0, 1, 0, 0, 0, 1)).flatten(4, 5).flatten(2, 3)
        return filtered(spread, 4 * self.blur, padding=2)[:, :, 2 : 2 + like.shape[2], 2 : 2 + like.shape[3]]

    def _normalised(self, z: Tensor, level: int) -> Tensor:
        return z / (_FLOORS[level] + filtered(z.abs(), self.neighbours[level], padding=2))


def _mirrored(x: Tensor) -> Tensor:
    """Two pixels more on each side, mirrored with the edge itself repeated."""
    for axis in (2, 3):
        last = x.narrow(axis, x.shape[axis] - 2, 2).flip(axis)
        x = torch.cat([x.narrow(axis, 0, 2).flip(axis), x, last], axis)
    return x
