"""How far two pictures are apart, and how many bits a picture takes."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

_PEAK = 255
_CHUNK_VALUES = 1 << 20  # values compared at a time: wide integers for a whole photo would take 0.5 GB


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


def bits_per_pixel(byte_count: int, height: int, width: int) -> float:
    """Bits of a file of `byte_count` bytes per pixel of a picture; ValueError if there are no pixels."""
    if byte_count < 0 or height < 1 or width < 1:
        raise ValueError(f"expected a file of a picture, got {byte_count} bytes for {width} x {height} pixels")
    return 8 * byte_count / (height * width)
