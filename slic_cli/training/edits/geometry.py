"""Edits that move pixels: affine maps, scaling, and the shift that stands for a crop."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from slic_cli.training.edits.base import Edit, choice, choices, span


@dataclass(frozen=True, kw_only=True)
class Affine(Edit):
    """Rotation in degrees, then a translation by shares of each side in either direction, and a magnification."""

    name: ClassVar[str] = "affine"
    degrees: tuple[float, float] = span(-10.0, 10.0, -180, 180)
    translation: tuple[float, float] = span(0.0, 0.1, 0, 0.5)
    scale: tuple[float, float] = span(0.9, 1.1, 0.25, 4)
    outside: str = choice("black", "black", "reflect")

    def edited(self, x: Tensor, draw: random.Random) -> Tensor:
        right, down = (draw.choice((-1, 1)) * draw.uniform(*self.translation) for _ in range(2))
        return affine(x, draw.uniform(*self.degrees), draw.uniform(*self.scale), right, down, self.outside)


def affine(x: Tensor, degrees: float, scale: float, right: float, down: float, outside: str = "black") -> Tensor:
    """Rotate anticlockwise and magnify about the centre, then move by shares of width and height; bilinear."""
    height, width = x.shape[2:]
    cosine, sine = math.cos(math.radians(degrees)) / scale, math.sin(math.radians(degrees)) / scale
    # The way back, from a place in the output to its origin, in units of half a side.
    back = torch.tensor([[cosine, -sine * height / width], [sine * width / height, cosine]], dtype=torch.float64)
    moved = back @ torch.tensor([-2.0 * right, -2.0 * down], dtype=torch.float64)
    matrix = torch.cat([back, moved[:, None]], 1).to(x)
    grid = F.affine_grid(matrix.expand(len(x), 2, 3), list(x.shape), align_corners=False)
    padding = "zeros" if outside == "black" else "reflection"
    return F.grid_sample(x, grid, padding_mode=padding, align_corners=False)


@dataclass(frozen=True, kw_only=True)
class Shift(Edit):
    """Moves the picture against the codec's grid of 16 pixels, as a crop does; reflected at the border."""

    name: ClassVar[str] = "shift"
    pixels: tuple[int, int] = span(0, 15, 0, 64, whole=True)

    def edited(self, x: Tensor, draw: random.Random) -> Tensor:
        down, right = (draw.choice((-1, 1)) * draw.randint(*self.pixels) for _ in range(2))
        return place(x, x.shape[2], x.shape[3], down, right)


@dataclass(frozen=True, kw_only=True)
class Turn(Edit):
    """Turns the picture by quarters or mirrors it, or both; one that is not square by halves only."""

    name: ClassVar[str] = "turn"

    def edited(self, x: Tensor, draw: random.Random) -> Tensor:
        square = x.shape[2] == x.shape[3]
        return oriented(x, draw.randrange(1, 8) if square else draw.choice((2, 4, 6)))


def oriented(x: Tensor, orientation: int) -> Tensor:
    """Pictures turned by `orientation` mod 4 quarters and, from 4 on, mirrored; 0 leaves them as they are."""
    turned = torch.rot90(x, orientation % 4, (2, 3))
    return turned.flip(3) if orientation >= 4 else turned


@dataclass(frozen=True, kw_only=True)
class Resize(Edit):
    """Scales down and leaves the picture small, somewhere in a frame of the old size filled by reflection.

    This is what the codec sees of a real resize: finer detail than before, which scaling up again would blur.
    """

    name: ClassVar[str] = "resize"
    scale: tuple[float, float] = span(0.5, 0.95, 0.1, 1)
    filters: tuple[str, ...] = choices(("bicubic",), "bilinear", "bicubic", "lanczos")

    def edited(self, x: Tensor, draw: random.Random) -> Tensor:
        height, width = x.shape[2:]
        small = _scaled_down(x, draw.uniform(*self.scale), draw.choice(self.filters))
        down, right = draw.randint(0, height - small.shape[2]), draw.randint(0, width - small.shape[3])
        return place(small, height, width, down, right)


@dataclass(frozen=True, kw_only=True)
class Resample(Edit):
    """Scales down and up again to the old size."""

    name: ClassVar[str] = "resample"
    scale: tuple[float, float] = span(0.5, 0.95, 0.1, 1)
    filters: tuple[str, ...] = choices(("bicubic",), "bilinear", "bicubic", "lanczos")

    def edited(self, x: Tensor, draw: random.Random) -> Tensor:
        kernel = draw.choice(self.filters)
        return resize(_scaled_down(x, draw.uniform(*self.scale), kernel), x.shape[2], x.shape[3], kernel)


def place(x: Tensor, height: int, width: int, down: int, right: int) -> Tensor:
    """Pictures of any size in a frame of height x width, their corner at (down, right); the rest is reflected."""
    rows = _reflected(torch.arange(height, device=x.device) - down, x.shape[2])
    columns = _reflected(torch.arange(width, device=x.device) - right, x.shape[3])
    return x.index_select(2, rows).index_select(3, columns)


def _reflected(index: Tensor, length: int) -> Tensor:
    """Indices of any size folded into [0, length), turning at the first and the last without repeating them."""
    period = max(1, 2 * (length - 1))
    index = index.remainder(period)
    return torch.minimum(index, period - index)


def _scaled_down(x: Tensor, scale: float, kernel: str) -> Tensor:
    return resize(x, max(1, round(x.shape[2] * scale)), max(1, round(x.shape[3] * scale)), kernel)


def resize(x: Tensor, height: int, width: int, kernel: str) -> Tensor:
    """Scale (n, 3, h, w) to height x width as Pillow does, antialiased, without its rounding to 8 bits."""
    rows = _resampling_matrix(x.shape[2], height, kernel, x.device)
    columns = _resampling_matrix(x.shape[3], width, kernel, x.device)
    return rows @ (x @ columns.T)


@lru_cache(maxsize=256)
def _resampling_matrix(old: int, new: int, kernel: str, device: torch.device) -> Tensor:
    """What each of `new` samples takes from each of `old`: (new, old), rows of sum 1, the kernel widened to `old`."""
    stretch = max(1.0, old / new)
    centre = (torch.arange(new, dtype=torch.float64) + 0.5) * old / new
    distance = (torch.arange(old, dtype=torch.float64) + 0.5 - centre[:, None]) / stretch
    weights = _KERNELS[kernel](distance.abs())
    return (weights / weights.sum(1, keepdim=True)).to(device, torch.float32)


def _bilinear(t: Tensor) -> Tensor:
    return (1 - t).clamp(min=0)


def _bicubic(t: Tensor) -> Tensor:
    """Keys' cubic with a = -1/2, Pillow's choice."""
    near = (1.5 * t - 2.5) * t * t + 1
    far = ((-0.5 * t + 2.5) * t - 4) * t + 2
    return torch.where(t < 1, near, torch.where(t < 2, far, torch.zeros_like(t)))


def _lanczos(t: Tensor) -> Tensor:
    return torch.where(t < 3, torch.sinc(t) * torch.sinc(t / 3), torch.zeros_like(t))


_KERNELS: dict[str, Callable[[Tensor], Tensor]] = {"bilinear": _bilinear, "bicubic": _bicubic, "lanczos": _lanczos}
