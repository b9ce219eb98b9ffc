"""The measures, against values worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest

from slic_cli import metrics
from slic_cli.metrics import bits_per_pixel, psnr_db


def random_picture(seed: int, height: int = 13, width: int = 7) -> npt.NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_psnr_of_one_changed_value() -> None:
    black = np.zeros((2, 2, 3), np.uint8)
    changed = black.copy()
    changed[0, 1, 2] = 6
    # The mean squared difference is 36 / 12 = 3: 10 log10(65025 / 3) = 43.35959...
    assert psnr_db(black, changed) == pytest.approx(43.35959, abs=1e-5)


def test_psnr_of_opposites_is_zero() -> None:
    """Differences of 255 either way: nothing may wrap around in 8 or 16 bits."""
    black, white = np.zeros((40, 40, 3), np.uint8), np.full((40, 40, 3), 255, np.uint8)
    assert psnr_db(black, white) == psnr_db(white, black) == 0.0


def test_psnr_is_infinite_for_equal_pictures_only() -> None:
    picture = random_picture(0)
    assert psnr_db(picture, picture.copy()) == math.inf
    changed = picture.copy()
    changed[-1, -1, -1] ^= 1
    assert psnr_db(picture, changed) < math.inf


@pytest.mark.parametrize("chunk", [1, 2, 100, 272, 273, 274])
def test_psnr_does_not_depend_on_the_chunk(monkeypatch: pytest.MonkeyPatch, chunk: int) -> None:
    a, b = random_picture(1), random_picture(2)
    monkeypatch.setattr(metrics, "_CHUNK_VALUES", chunk)
    mean = np.mean((a.astype(np.float64) - b) ** 2)
    assert psnr_db(a, b) == pytest.approx(10 * math.log10(255**2 / mean), abs=1e-12)


def test_psnr_of_views_that_are_not_contiguous() -> None:
    a, b = random_picture(3, 12, 12), random_picture(4, 12, 12)
    assert psnr_db(a[::2, ::-3], b[::2, ::-3]) == psnr_db(a[::2, ::-3].copy(), b[::2, ::-3].copy())


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (np.zeros((2, 3, 3), np.uint8), np.zeros((3, 2, 3), np.uint8)),
        (np.zeros((2, 3, 3), np.uint8), np.zeros((1, 1, 3), np.uint8)),  # would broadcast
        (np.zeros((2, 3, 3), np.uint8), np.zeros((2, 3, 3), np.float32)),
        (np.zeros((0, 3, 3), np.uint8), np.zeros((0, 3, 3), np.uint8)),
    ],
)
def test_psnr_refuses_what_cannot_be_compared(a: npt.NDArray[np.uint8], b: npt.NDArray[np.uint8]) -> None:
    with pytest.raises(ValueError, match="expected two uint8 arrays of one shape"):
        psnr_db(a, b)


def test_bits_per_pixel() -> None:
    assert bits_per_pixel(49152, 512, 768) == 1.0
    assert bits_per_pixel(1, 3, 1) == pytest.approx(8 / 3)
    assert bits_per_pixel(0, 1, 1) == 0.0


@pytest.mark.parametrize("arguments", [(-1, 2, 2), (5, 0, 2), (5, 2, 0)])
def test_bits_per_pixel_needs_a_picture(arguments: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match="expected a file of a picture"):
        bits_per_pixel(*arguments)
