"""Edits that work on each pixel's neighbourhood, noise, and no edit at all."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from slic_cli.training.edits.base import Edit, choice, choices, span


@dataclass(frozen=True, kw_only=True)
class Unedited(Edit):
    """The picture as it is: what comes of a first decode that is compressed again."""

    name: ClassVar[str] = "none"

    def edited(self, x: Tensor, draw: random.Random) -> Tensor:  # noqa: ARG002 - the interface of all edits
        return x


@dataclass(frozen=True, kw_only=True)
class Blur(Edit):
    """A Gaussian of `variance` square pixels, cut to a square of `kernel` pixels a side. The paper's is 3."""

    name: ClassVar[str] = "blur"
    variance: tuple[float, float] = span(0.1, 1.5, 0.01, 25)
    kernel: int = choice(3, 3, 5, 7, 9, 11, 13)

    def edited(self, x: Tensor, draw: random.Random) -> Tensor:
        return gaussian_blur(x, draw.uniform(*self.variance), self.kernel)


def gaussian_blur(x: Tensor, variance: float, kernel: int) -> Tensor:
    """Convolve (n, 3, h, w) with a normalised Gaussian of `kernel` x `kernel` taps, reflecting at the border."""
    reach = kernel // 2
    place = torch.arange(-reach, reach + 1, device=x.device, dtype=x.dtype)
    taps = torch.softmax(-(place**2) / (2 * variance), 0).expand(3, 1, 1, kernel)
    rows = F.conv2d(F.pad(x, (reach,) * 4, mode="reflect"), taps, groups=3)
    return F.conv2d(rows, taps.transpose(2, 3), groups=3)


@dataclass(frozen=True, kw_only=True)
class Median(Edit):
    """The median of a square of `size` pixels a side, by channel."""

    name: ClassVar[str] = "median"
    size: tuple[int, ...] = choices((3, 5), 3, 5)

    def edited(self, x: Tensor, draw: random.Random) -> Tensor:
        return median(x, draw.choice(self.size))


def median(x: Tensor, size: int) -> Tensor:
    """The median of each `size` x `size` neighbourhood, repeating the border; the gradient goes to the pixel chosen."""
    height, width = x.shape[2:]
    padded = F.pad(x, (size // 2,) * 4, mode="replicate")
    places = [(row, column) for row in range(size) for column in range(size)]
    with torch.no_grad():
        window = torch.stack([padded[:, :, r : r + height, c : c + width] for r, c in places], 4)
        index = window.median(4).indices
        row = torch.arange(height, device=x.device)[:, None] + index // size
        column = torch.arange(width, device=x.device) + index % size
        where = row * padded.shape[3] + column
    return padded.flatten(2).gather(2, where.flatten(2)).view(x.shape)


@dataclass(frozen=True, kw_only=True)
class Sharpen(Edit):
    """A 3 x 3 kernel, 1 + 8 a at the centre and -a around it: a = 1 is the 9 and -1 of the real edit."""

    name: ClassVar[str] = "sharpen"
    amount: tuple[float, float] = span(0.2, 1.0, 0, 2)

    def edited(self, x: Tensor, draw: random.Random) -> Tensor:
        around = F.avg_pool2d(F.pad(x, (1,) * 4, mode="reflect"), 3, stride=1)
        return x + 9 * draw.uniform(*self.amount) * (x - around)


@dataclass(frozen=True, kw_only=True)
class Noise(Edit):
    """White Gaussian noise; `levels` is its standard deviation in 8-bit levels."""

    name: ClassVar[str] = "noise"
    levels: tuple[float, float] = span(1.0, 4.0, 0, 64)

    def edited(self, x: Tensor, draw: random.Random) -> Tensor:
        return x + torch.randn_like(x) * (draw.uniform(*self.levels) / 255)
