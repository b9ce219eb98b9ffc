"""Pictures turned, made larger and smaller: whole latents, the middle of large ones, waves of the right length."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from slic_cli.transform.views import SIZES, other_views


def wave(rows: int, columns: int, length: float) -> Tensor:
    """uint8 (rows, columns, 3), the same in all columns of a colour and in all rows."""
    line = 128 + 60 * torch.sin(2 * math.pi * (torch.arange(columns) + 0.5) / length)
    return line.round().to(torch.uint8)[None, :, None].expand(rows, columns, 3)


def test_they_are_whole_latents() -> None:
    views = list(other_views(wave(200, 330, 16)))
    assert [size for size, _ in views] == [1, *SIZES]
    shapes = [tuple(view.shape) for _, view in views]
    assert shapes == [(320, 192, 3), (400, 640, 3), (272, 464, 3), (128, 224, 3), (96, 160, 3)]
    assert all(view.dtype == torch.uint8 for _, view in views)


def test_rows_and_columns_are_exchanged() -> None:
    pixels = wave(200, 330, 16)
    _, turned = next(other_views(pixels))
    assert torch.equal(turned, pixels[:192, :320].transpose(0, 1))


@pytest.mark.parametrize("number", range(len(SIZES)))
def test_a_wave_gets_longer_and_shorter(number: int) -> None:
    length = 16 * SIZES[number]
    size, view = list(other_views(wave(256, 320, 16)))[number + 1]
    assert size == SIZES[number]
    line = view[8, :, 1].float()
    spectrum = torch.fft.rfft(line - line.mean(), n=4096).abs()
    assert 4096 / spectrum.argmax().item() == pytest.approx(length, rel=0.03)


def test_of_a_large_picture_it_is_the_middle() -> None:
    pixels = wave(2000, 3000, 16).clone()
    pixels[960:1040, 1460:1540] = 0
    for size, view in other_views(pixels):
        assert max(view.shape) <= 640
        black = (view.sum(2) == 0).nonzero().float().mean(0)
        assert ((black - torch.tensor(view.shape[:2]) / 2).abs() < 16).all(), size


def test_what_is_too_small_is_left_out() -> None:
    assert [tuple(view.shape) for _, view in other_views(wave(16, 16, 16))] == [(16, 16, 3), (32, 32, 3), (16, 16, 3)]
