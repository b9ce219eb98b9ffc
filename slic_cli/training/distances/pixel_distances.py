"""Distances on the pixels themselves: mean squared error, GMSD and MS-SSIM."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from slic_cli.training.distances.base import Distance, filtered, halves, luma, mean_square, soft_root


class Mse(Distance):
    """Mean squared difference over channels and pixels."""

    def compare(self, features: list[Tensor]) -> Tensor:
        return mean_square(*halves(features[0]))


class Gmsd(Distance):
    """Gradient magnitude similarity deviation (Xue et al. 2014), on luma at half size.

    The standard deviation over the pixels of 1 - (2 a b + c) / (a^2 + b^2 + c), a and b the lengths of the pictures'
    Prewitt gradients. As piq.gmsd on even sizes, but for roots with finite gradients (piq's are not in flat areas); an
    odd last row or column is halved by itself.
    """

    _C = 170 / 255**2
    prewitt: Tensor

    def __init__(self) -> None:
        super().__init__()
        across = torch.tensor([[-1.0, 0.0, 1.0]] * 3) / 3
        self.register_buffer("prewitt", torch.stack([across, across.T])[:, None], persistent=False)

    def compare(self, features: list[Tensor]) -> Tensor:
        halved = F.avg_pool2d(luma(features[0]), 2, ceil_mode=True)
        squares = filtered(halved, self.prewitt, padding=1).square().sum(1)
        a, b = soft_root(squares).chunk(2)
        dissimilarity = (a - b).square() / (a.square() + b.square() + self._C)
        return soft_root(dissimilarity.flatten(1).var(1, correction=0))


class MsSsim(Distance):
    """1 - MS-SSIM (Wang et al. 2003), by channel, with the published exponents and an 11 x 11 window of deviation 1.5.

    As pytorch_msssim on sides above 160. Five scales need 161 pixels, so smaller pictures are compared at as many as
    the window fits into: 3 for 64 pixels, 4 from 81; their exponents are scaled to the sum of all five. Distances
    are comparable at one picture size only. A channel whose similarity is not positive at some scale counts as 1, the
    greatest distance, and has no gradient.
    """

    _C1, _C2 = 0.01**2, 0.03**2
    _TAPS = 11
    exponents: Tensor
    window: Tensor

    def __init__(self) -> None:
        super().__init__()
        exponents = torch.tensor([0.0448, 0.2856, 0.3001, 0.2363, 0.1333])
        self.register_buffer("exponents", exponents, persistent=False)
        taps = torch.exp(-((torch.arange(self._TAPS) - self._TAPS // 2) ** 2) / (2 * 1.5**2))
        self.register_buffer("window", (taps / taps.sum()).view(1, 1, 1, -1), persistent=False)

    def compare(self, features: list[Tensor]) -> Tensor:
        x, y = halves(features[0])
        n, channels = x.shape[:2]
        x, y = (t.contiguous().flatten(0, 1)[:, None] for t in (x, y))  # (n * 3, 1, h, w)
        scales = self._scales(min(x.shape[2:]))
        terms = []
        for scale in range(scales):
            if scale:
                x, y = (F.avg_pool2d(t, 2, ceil_mode=True) for t in (x, y))
            terms.append(self._similarity(x, y, whole=scale == scales - 1))
        exponents = self.exponents[:scales] * (self.exponents.sum() / self.exponents[:scales].sum())
        similarity = torch.stack(terms, 1)  # (n * 3, scales)
        product = (similarity.relu() ** exponents).prod(1)
        return 1 - product.view(n, channels).mean(1)

    def _scales(self, side: int) -> int:
        scales = 1
        while scales < len(self.exponents) and -(-side // 2**scales) >= self._TAPS:
            scales += 1
        return scales

    def _similarity(self, x: Tensor, y: Tensor, whole: bool) -> Tensor:
        """Contrast times structure, averaged over the pixels, with luminance too if `whole`; (m, 1, h, w) to (m,)."""
        maps = filtered(torch.cat([x, y, x * x, y * y, x * y]), self.window)
        mean_x, mean_y, xx, yy, xy = filtered(maps, self.window.mT).chunk(5)
        squares, product = mean_x * mean_x + mean_y * mean_y, mean_x * mean_y
        similarity = (2 * (xy - product) + self._C2) / (xx + yy - squares + self._C2)
        if whole:
            similarity = similarity * ((2 * product + self._C1) / (squares + self._C1))
        return similarity.mean((1, 2, 3))
