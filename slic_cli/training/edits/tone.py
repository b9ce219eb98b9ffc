"""Edits that map each pixel's colour: lightness in CIE LAB, and equalisation of the histogram."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from slic_cli.training.edits.base import Edit, span
from slic_cli.training.jpeg_simulation import mix_channels

# Linear sRGB to CIE XYZ (IEC 61966-2-1), each row divided by its sum so that white, D65, is (1, 1, 1).
_XYZ = torch.tensor([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]], dtype=torch.float64)
_XYZ /= _XYZ.sum(1, keepdim=True)
_NUDGE = 2.0**-10  # levels of 8-bit pictures are whole numbers but for rounding, which must not decide their slope
_KNEE = 6 / 29  # where CIE LAB passes from a straight line to a cube root


@dataclass(frozen=True, kw_only=True)
class Lighten(Edit):
    """Multiplies L of CIE LAB, up to 100."""

    name: ClassVar[str] = "lighten"
    factor: tuple[float, float] = span(1.2, 1.6, 0.05, 4)

    def edited(self, x: Tensor, draw: random.Random) -> Tensor:
        return scale_lightness(x, draw.uniform(*self.factor))


@dataclass(frozen=True, kw_only=True)
class Darken(Lighten):
    """Multiplies L of CIE LAB by less than 1."""

    name: ClassVar[str] = "darken"
    factor: tuple[float, float] = span(0.4, 0.8, 0.05, 1)


def scale_lightness(x: Tensor, factor: float) -> Tensor:
    """Scale L, keep a and b; colours that leave the sRGB gamut leave [0, 1].

    Powers are taken of numbers bounded away from 0 only, in the branches not used as well: their slopes are infinite
    there, and infinity times 0 would make the gradient NaN.
    """
    x = x.clamp(0, 1)
    linear = torch.where(x <= 0.04045, x / 12.92, ((x + 0.055) / 1.055) ** 2.4)
    xyz = mix_channels(linear, _rows(_XYZ))
    f = torch.where(xyz > _KNEE**3, xyz.clamp(min=_KNEE**3) ** (1 / 3), xyz / (3 * _KNEE**2) + 4 / 29)
    lightness = 116 * f[:, 1:2] - 16
    # a and b are differences of two f: to change L alone, move all three alike.
    f = f + ((lightness * factor).clamp(max=100) - lightness) / 116
    xyz = torch.where(f > _KNEE, f**3, 3 * _KNEE**2 * (f - 4 / 29))
    linear = mix_channels(xyz, _rows(_XYZ.inverse())).clamp(0, 1)
    return torch.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear.clamp(min=0.0031308) ** (1 / 2.4) - 0.055)


def _rows(matrix: Tensor) -> tuple[tuple[float, float, float], ...]:
    return tuple((row[0], row[1], row[2]) for row in matrix.tolist())


@dataclass(frozen=True, kw_only=True)
class Equalize(Edit):
    """Equalises the histogram of each channel of each picture."""

    name: ClassVar[str] = "equalize"

    def edited(self, x: Tensor, draw: random.Random) -> Tensor:  # noqa: ARG002 - the interface of all edits
        return equalize(x)


def equalize(x: Tensor) -> Tensor:
    """Each picture's lookup table, taken as given and drawn out to a broken line, so that its slope is the gradient."""
    levels = x.clamp(0, 1).flatten(2) * 255
    table = _equalising_tables(levels.detach().round().long())
    below = (levels.detach() + _NUDGE).floor().clamp(max=254).long()
    low, high = table.gather(2, below), table.gather(2, below + 1)
    return ((low + (levels - below) * (high - low)) / 255).view(x.shape)


def _equalising_tables(levels: Tensor) -> Tensor:
    """Pillow's tables for levels (n, c, pixels) of 0 to 255, less its rounding: (n, c, 256) from 0 to 255.

    One step of the result for each 255th of the pixels, those of the brightest level not counted; a channel that has
    too few pixels or levels for that keeps what it has.
    """
    n, c, pixels = levels.shape
    counts = torch.zeros(n, c, 256, device=levels.device)
    counts.scatter_add_(2, levels, torch.ones_like(levels, dtype=torch.float32))
    brightest = counts.gather(2, levels.amax(2, keepdim=True))
    step = torch.floor((pixels - brightest) / 255)
    below = counts.cumsum(2) - counts
    unchanged = torch.arange(256.0, device=levels.device).expand_as(counts)
    return torch.where(step > 0, (below / step.clamp(min=1)).clamp(max=255), unchanged)
