"""Pictures made larger and smaller: whole latents, the middle of large ones, waves as long as they should be."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from slic_cli.transform.sizes import SIZES, other_sizes


def wave(rows: int, columns: int, length: float) -> Tensor:
    """uint8 (rows, columns, 3), the same in all columns of a colour and in all rows."""
    line = 128 + 60 * torch.sin(2 * math.pi * (torch.arange(columns) + 0.5) / length)
    return line.round().to(torch.uint8)[None, :, None].expand(rows, columns, 3)


def test_they_are_whole_latents() -> None:
    sizes = [tuple(other.shape) for other in other_sizes(wave(200, 330, 16))]
    assert sizes == [(400, 640, 3), (272, 464, 3), (128, 224, 3), (96, 160, 3)]
    assert all(other.dtype == torch.uint8 for other in other_sizes(wave(200, 330, 16)))


@pytest.mark.parametrize("number", range(len(SIZES)))
def test_a_wave_gets_longer_and_shorter(number: int) -> None:
    length = 16 * SIZES[number]
    other = list(other_sizes(wave(256, 320, 16)))[number].float()
    spectrum = torch.fft.rfft(other[8, :, 1] - other[8, :, 1].mean(), n=4096).abs()
    assert 4096 / spectrum.argmax().item() == pytest.approx(length, rel=0.03)


def test_of_a_large_picture_it_is_the_middle() -> None:
    pixels = wave(2000, 3000, 16).clone()
    pixels[960:1040, 1460:1540] = 0
    for other, size in zip(other_sizes(pixels), SIZES, strict=True):
        assert max(other.shape) <= 640
        black = (other.sum(2) == 0).nonzero().float().mean(0)
        assert ((black - torch.tensor(other.shape[:2]) / 2).abs() < 16).all(), size


def test_what_is_too_small_is_left_out() -> None:
    assert [tuple(other.shape) for other in other_sizes(wave(16, 16, 16))] == [(32, 32, 3), (16, 16, 3)]
