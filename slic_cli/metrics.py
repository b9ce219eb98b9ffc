"""How far two pictures are apart, and how many bits a picture takes."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from torch import Tensor

MS_SSIM_SIDE = 161  # the shortest side that five scales and a window of 11 pixels leave something of

_PEAK = 255
_BLOCK = 64  # side of the parts that are looked at one by one
_CHUNK_VALUES = 1 << 20  # values compared at a time: wide integers for a whole photo would take 0.5 GB
_SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # Wang, Simoncelli & Bovik 2003, section 3.2
_WINDOW, _WINDOW_SIGMA = 11, 1.5
_C1, _C2 = (0.01 * _PEAK) ** 2, (0.03 * _PEAK) ** 2


def psnr_db(a: npt.NDArray[np.uint8], b: npt.NDArray[np.uint8]) -> float:
    """Peak signal-to-noise ratio in dB: 10 log10(255^2 / mean squared difference), channels taken together.

    `a` and `b` are uint8 arrays of one shape; pictures of differing sizes are never made to fit. The squares
    are summed in whole numbers, so that their order does not matter. Equal arrays give math.inf, which JSON
    cannot hold: a report has to write something else, such as null.

    Raises ValueError for arrays that are empty, differ in shape or are not uint8.
    """
    if a.shape != b.shape or a.dtype != np.uint8 or b.dtype != np.uint8 or a.size == 0:
        raise ValueError(f"expected two uint8 arrays of one shape, got {a.dtype} {a.shape} and {b.dtype} {b.shape}")
    squares = _sum_of_squared_differences(a.reshape(-1), b.reshape(-1))
    return 10 * math.log10(_PEAK**2 * a.size / squares) if squares else math.inf


def _sum_of_squared_differences(a: npt.NDArray[np.uint8], b: npt.NDArray[np.uint8]) -> int:
    total = 0
    for start in range(0, a.size, _CHUNK_VALUES):
        chunk = slice(start, start + _CHUNK_VALUES)
        difference = a[chunk].astype(np.int32) - b[chunk]
        total += int(np.square(difference).sum(dtype=np.int64))
    return total


def worst_block_db(a: npt.NDArray[np.uint8], b: npt.NDArray[np.uint8]) -> float:
    """PSNR in dB of the worst whole 64 x 64 block of two pictures (H, W, 3), of the whole of pictures that have none.

    Where a photograph happens to look like the perturbation, its very first decode is destroyed, and the mean hides it.
    Raises ValueError as psnr_db does.
    """
    height, width = a.shape[:2]
    if min(height, width) < _BLOCK:
        return psnr_db(a, b)
    tops, lefts = (range(0, side - _BLOCK + 1, _BLOCK) for side in (height, width))
    blocks = ((slice(top, top + _BLOCK), slice(left, left + _BLOCK)) for top in tops for left in lefts)
    return min(psnr_db(a[block], b[block]) for block in blocks)


def bits_per_pixel(byte_count: int, height: int, width: int) -> float:
    """Bits of a file of `byte_count` bytes per pixel of a picture; ValueError if there are no pixels."""
    if byte_count < 0 or height < 1 or width < 1:
        raise ValueError(f"expected a file of a picture, got {byte_count} bytes for {width} x {height} pixels")
    return 8 * byte_count / (height * width)


def ms_ssim(a: npt.NDArray[np.uint8], b: npt.NDArray[np.uint8]) -> float:
    """Multi-scale structural similarity, at most 1 for equal pictures (Wang, Simoncelli & Bovik 2003, eq. 7).

    `a` and `b` are uint8 (H, W, 3) of one shape with sides of at least MS_SSIM_SIDE; the mean of the three channels,
    each on its own. Negative contrast terms count as 0, as in the package pytorch-msssim. Raises ValueError.
    """
    bytes_alike = a.shape == b.shape and a.dtype == b.dtype == np.uint8
    if not bytes_alike or a.ndim != 3 or a.shape[2] != 3 or min(a.shape[:2]) < MS_SSIM_SIDE:
        expected = f"expected two uint8 pictures of one shape, {MS_SSIM_SIDE} pixels a side at least"
        raise ValueError(f"{expected}, got {a.dtype} {a.shape} and {b.dtype} {b.shape}")
    import torch
    from torch.nn import functional as F

    x, y = (torch.from_numpy(np.ascontiguousarray(p)).permute(2, 0, 1)[None].float() for p in (a, b))
    product = torch.ones(3)
    for scale, weight in enumerate(_SCALE_WEIGHTS):
        if scale:  # an odd side gets a row of zeros before it, as in pytorch-msssim
            padding = [side % 2 for side in x.shape[2:]]
            x, y = (F.avg_pool2d(p, 2, padding=padding) for p in (x, y))
        similarity, contrast = _ssim_terms(x, y)
        last = scale == len(_SCALE_WEIGHTS) - 1
        product = product * (similarity if last else contrast).clamp(min=0) ** weight
    return float(product.mean())


def _ssim_terms(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Means over the picture of the similarity and of its contrast-structure part, (3,) each; x, y (1, 3, H, W)."""
    import torch
    from torch.nn import functional as F

    offsets = torch.arange(_WINDOW, dtype=torch.float32) - _WINDOW // 2
    window = torch.exp(-(offsets**2) / (2 * _WINDOW_SIGMA**2))
    window /= window.sum()
    planes = torch.cat([x, y, x * x + y * y, x * y], 1)
    for shape in ((1, 1, -1, 1), (1, 1, 1, -1)):
        planes = F.conv2d(planes, window.view(shape).repeat(12, 1, 1, 1), groups=12)
    mean_x, mean_y, squares, products = planes.chunk(4, 1)
    mean_squares, mean_product = mean_x * mean_x + mean_y * mean_y, mean_x * mean_y
    contrast = (2 * (products - mean_product) + _C2) / (squares - mean_squares + _C2)
    similarity = contrast * (2 * mean_product + _C1) / (mean_squares + _C1)
    return similarity.mean((0, 2, 3)), contrast.mean((0, 2, 3))
