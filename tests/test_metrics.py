"""The measures, against values worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest
import torch
from conftest import photograph

from slic_cli import metrics
from slic_cli.metrics import MS_SSIM_SIDE, bits_per_pixel, ms_ssim, psnr_db, worst_block_db


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


def test_the_worst_block_by_hand() -> None:
    a = np.zeros((130, 128, 3), np.uint8)
    b = a.copy()
    b[64:128, :64] = 10
    b[128:] = 255  # no whole block
    ten = psnr_db(np.zeros((1, 1, 3), np.uint8), np.full((1, 1, 3), 10, np.uint8))
    assert worst_block_db(a, b) == pytest.approx(ten)
    assert worst_block_db(a, a) == math.inf
    assert worst_block_db(a[:63], b[:63]) == math.inf
    assert worst_block_db(a[64:100], b[64:100]) == psnr_db(a[64:100], b[64:100])


def test_bits_per_pixel() -> None:
    assert bits_per_pixel(49152, 512, 768) == 1.0
    assert bits_per_pixel(1, 3, 1) == pytest.approx(8 / 3)
    assert bits_per_pixel(0, 1, 1) == 0.0


@pytest.mark.parametrize("arguments", [(-1, 2, 2), (5, 0, 2), (5, 2, 0)])
def test_bits_per_pixel_needs_a_picture(arguments: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match="expected a file of a picture"):
        bits_per_pixel(*arguments)


def slow_ms_ssim(a: npt.NDArray[np.uint8], b: npt.NDArray[np.uint8]) -> float:
    """The definition, one channel and one window position at a time (Wang, Simoncelli & Bovik 2003, section 3)."""
    window = np.exp(-((np.arange(11) - 5.0) ** 2) / (2 * 1.5**2))
    window2 = np.outer(window, window) / window.sum() ** 2
    results = []
    for channel in range(3):
        x, y = a[..., channel].astype(np.float64), b[..., channel].astype(np.float64)
        result = 1.0
        for scale, weight in enumerate((0.0448, 0.2856, 0.3001, 0.2363, 0.1333)):
            views = [np.lib.stride_tricks.sliding_window_view(p, (11, 11)) for p in (x, y)]
            mean_x, mean_y = (np.einsum("hwij,ij->hw", v, window2) for v in views)
            var_x, var_y = (
                np.einsum("hwij,ij->hw", v**2, window2) - m**2 for v, m in zip(views, (mean_x, mean_y), strict=True)
            )
            covariance = np.einsum("hwij,ij->hw", views[0] * views[1], window2) - mean_x * mean_y
            contrast = (2 * covariance + 58.5225) / (var_x + var_y + 58.5225)
            luminance = (2 * mean_x * mean_y + 6.5025) / (mean_x**2 + mean_y**2 + 6.5025)
            term = (contrast * luminance if scale == 4 else contrast).mean()
            result *= max(term, 0) ** weight
            x, y = (p.reshape(p.shape[0] // 2, 2, p.shape[1] // 2, 2).mean((1, 3)) if scale < 4 else p for p in (x, y))
        results.append(result)
    return float(np.mean(results))


def test_ms_ssim_is_that_of_the_definition() -> None:
    a = photograph(176, 192, 1)
    random = np.random.default_rng(0)
    b = np.clip(a * 0.8 + random.normal(0, 20, a.shape), 0, 255).astype(np.uint8)
    assert 0.5 < ms_ssim(a, b) < 0.95
    assert ms_ssim(a, b) == pytest.approx(slow_ms_ssim(a, b), abs=1e-5)
    assert ms_ssim(a, b) == pytest.approx(ms_ssim(b, a), abs=1e-6)


@pytest.mark.parametrize("shape", [(161, 161), (163, 250), (200, 164)])
def test_ms_ssim_is_that_of_the_package(shape: tuple[int, int]) -> None:
    package = pytest.importorskip("pytorch_msssim")
    a, b = photograph(*shape, 1), photograph(*shape, 2)
    tensors = [torch.from_numpy(p).permute(2, 0, 1)[None].float() for p in (a, b)]
    assert ms_ssim(a, b) == pytest.approx(float(package.ms_ssim(*tensors, data_range=255)), abs=1e-5)


def test_ms_ssim_of_equals_and_of_opposites() -> None:
    a = photograph(170, 170)
    assert ms_ssim(a, a.copy()) == 1.0
    assert ms_ssim(a, np.bitwise_not(a)) < 0.1
    assert ms_ssim(a[:, ::-1], a[:, ::-1].copy()) == 1.0


@pytest.mark.parametrize("shape", [(MS_SSIM_SIDE - 1, 300, 3), (300, MS_SSIM_SIDE - 1, 3), (300, 300), (300, 300, 4)])
def test_ms_ssim_needs_room(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="expected two uint8 pictures of one shape, 161 pixels"):
        ms_ssim(np.zeros(shape, np.uint8), np.zeros(shape, np.uint8))
