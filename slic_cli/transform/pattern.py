"""A faint pattern of lightness that first decodes carry, and how an encoder looks for it in a picture.

Colour waves are found place by place, but whoever takes the colour out takes them along. The pattern is found in a
picture as a whole, or not at all: a few waves of lightness that repeat every 16 pixels, far fainter than what a
photograph holds, in phases of their own. The Fourier transform of a picture, of each place what stands out from its
surroundings, adds up what all of it has of each wave, at any size and angle asked for. Photographs have periodic
things, too, the blocks of codecs among them, but not these waves in these phases and no others.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from slic_cli.errors import BadModelFile
from slic_cli.transform.views import middle

PATTERN = "encoder.pattern"  # the tensor of a model
PERIOD = 16  # pixels after which a pattern repeats itself
LUMA = (0.299, 0.587, 0.114)  # of R, G and B, what a pattern is drawn and looked for in
SURE = 1.0  # a score that photographs have not

_SIDE = 1024  # pixels of the middle of a picture that are looked at, at most
_LEAST_SIDE = 96
_AROUND, _FLAT, _MOST = 2, 2.0, 2.0  # pixels of the surroundings each way, levels of their own noise, deviations
_FINER = 1.25  # frequencies for each of the picture's own, at least
_BIN = 16  # frequencies along a side of what is taken for one noise
_LOUDEST = 5.0  # times the noise: what one wave may add
_IN_PLACE, _MOVED = 6.4, 7.5  # deviations of chance that are sure: as the picture is, and of thousands of geometries
_RIVALS = 1.25  # times what other geometries have: a picture of many periods has something at each of many
_CERTAIN = 9.0  # deviations that need no comparison: two first decodes in one picture are each other's rivals
_RIVALLING = 0.03  # difference from which on a geometry is another: natural logarithms of size, radians
_EVEN = 0.72  # of how alike its waves are loud, 1 if they are: few loud waves come in phase by chance, or by a shift
_GLARING = 20.0  # times the noise: what one wave may count in that
_BESIDES = 3.0  # power of a wave that is not the pattern's, at most: noise has 1, nets, whose phases are others, have 6
_AXES = 0.35  # codecs' blocks and horizons have more along rows and columns than elsewhere
_CANDIDATES = 64  # of all sizes and angles, whose phases are looked at
_GRID = 24  # shifts along a side, of a period
_SIZES, _SIZE_STEP = (0.3, 2.2), 0.005  # of the pattern, and between two in natural logarithms
_TURNED_SIZES, _TURNED_STEP, _ANGLES, _ANGLE_STEP = (0.85, 1.15), 0.006, 12.0, 0.35  # degrees


@dataclass(frozen=True)
class Pattern:
    """Waves (n, 3), each with its periods in PERIOD columns and in PERIOD rows, more than none, and its phase.

    With a wave there are all that it becomes when the picture is turned by right angles or mirrored.
    """

    waves: Tensor

    def found(self, pixels: Tensor) -> bool:
        """Whether uint8 (rows, columns, 3) carries it."""
        return self.score(pixels) >= SURE

    @torch.inference_mode()
    def score(self, pixels: Tensor) -> float:
        """How much of it uint8 (rows, columns, 3) has, over how much is sure.

        0 for a picture too small to say, and for one whose waves are loud in other phases, not about equally loud or
        not all there. Less for one that has nearly as much at another size or angle.
        """
        seen = middle(pixels, _SIDE)
        if min(seen.shape[:2]) < _LEAST_SIDE:
            return 0.0
        spectrum = _Spectrum(_standing_out(seen.float() @ torch.tensor(LUMA)))
        geometries = _geometries()
        values, inside = spectrum.at(_frequencies(self._places, geometries))
        number = inside.sum(1).clamp(min=len(self.waves) // 2)
        best = (values.abs().square().sum(1) / number).topk(_CANDIDATES).indices
        best[-1] = 0  # as it is, in any case
        others = self._others(spectrum, geometries[best])
        values = values[best] / others[:, None]  # 0 where they are not inside
        return self._sure(geometries[best], values, number[best])

    def _sure(self, geometries: Tensor, values: Tensor, number: Tensor) -> float:
        """How much of what is sure values (geometries, n) have at the best of geometries, whose last is in place."""
        alike = _limited(values.abs(), _GLARING)
        even = alike.sum(1).square() / (number * alike.square().sum(1)).clamp(min=1e-6)
        values = torch.polar(_limited(values.abs(), _LOUDEST), values.angle())
        together, power = self._in_phase(values), values.abs().square().sum(1)
        besides = (power - together.square() / number) / number
        deviations = torch.where(besides <= _BESIDES, together / (number / 2).sqrt(), 0.0)
        whole = torch.where(even >= _EVEN, deviations, 0.0)
        most = whole.argmax()
        size, angle = (geometries[:, 0] / geometries[most, 0]).log(), geometries[:, 1] - geometries[most, 1]
        rivals = deviations * ((size.abs() > _RIVALLING) | (angle.abs() > _RIVALLING))
        least = min(max(_MOVED, _RIVALS * rivals.max().item()), _CERTAIN)
        return max(whole[-1].item() / _IN_PLACE, whole[most].item() / least)

    def _others(self, spectrum: _Spectrum, geometries: Tensor) -> Tensor:
        """How loud waves are that repeat as the pattern does without being of it, at least 1: (geometries)."""
        values, inside = spectrum.at(_frequencies(self._absent, geometries))
        weight = torch.where((self._absent == 0).any(1), _AXES, 1.0)
        power = ((weight * values.abs()).square() * inside).sum(1) / inside.sum(1).clamp(min=1)
        return power.sqrt().clamp(min=1)

    def _in_phase(self, values: Tensor) -> Tensor:
        """The most that values (geometries, n) sum to in the pattern's phases, moved, mirrored or turned."""
        turned = values[:, None] * torch.polar(torch.ones(()), -self._phases)
        grid = turned.new_zeros(*turned.shape[:2], _GRID, _GRID)
        columns, rows = self._places.T
        grid[..., rows % _GRID, columns % _GRID] = turned
        return torch.fft.fft2(grid).real.flatten(1).amax(1)

    @cached_property
    def _places(self) -> Tensor:
        return self.waves[:, :2].long()

    @cached_property
    def _absent(self) -> Tensor:
        """Waves as long as the pattern's that it has not: (m, 2)."""
        most, own = int(self._places.abs().max()), set(map(tuple, self._places.tolist()))
        half = ((column, row) for row in range(most + 1) for column in range(-most, most + 1) if row or column > 0)
        return torch.tensor([place for place in half if place not in own])

    @cached_property
    def _phases(self) -> Tensor:
        """Of each wave when the picture is turned or mirrored, eight ways: (8, n)."""
        return torch.tensor(_turned_phases(self.waves.tolist()))


def _turned_phases(waves: list[list[float]]) -> list[list[float]]:
    """Raises KeyError where a turned or mirrored wave is not among `waves`."""
    ways = []
    for exchanged in (False, True):
        for across in (1, -1):
            for down in (1, -1):
                phases = {}
                for column, row, phase in waves:
                    place = (row, column) if exchanged else (column, row)
                    sign = down if place[1] > 0 else -down  # a wave is the same the other way round
                    phases[sign * across * place[0], sign * down * place[1]] = sign * phase
                ways.append([phases[column, row] for column, row, _ in waves])
    return ways


class _Spectrum:
    """The Fourier transform of a picture (rows, columns) over the noise around each frequency."""

    def __init__(self, picture: Tensor) -> None:
        self._middle = (torch.tensor(picture.shape[::-1]) - 1) / 2
        self._size = _quick_size(math.ceil(_FINER * max(picture.shape)))
        self._values = torch.fft.rfft2(picture.T, (self._size, self._size))  # columns, then rows from 0 on
        # Of magnitudes as noise has them, the mean is sqrt(pi) / 2 of the root of the mean square.
        magnitudes = (self._values.real.square() + self._values.imag.square())[:, :-1].sqrt()
        bins = magnitudes.unflatten(0, (-1, _BIN)).unflatten(2, (-1, _BIN))
        self._noise = bins.mean((1, 3)) * (2 / math.sqrt(math.pi))

    def at(self, frequencies: Tensor) -> tuple[Tensor, Tensor]:
        """Values at (..., 2), cycles in a column and in a row, phases in the picture's middle; and which exist."""
        inside = (frequencies.abs() < 0.49).all(-1)
        nearest = (frequencies * self._size).round().long()
        sign = torch.where(nearest[..., 1:] < 0, -1, 1)
        column, row = (sign * nearest).unbind(-1)
        row = row.clamp(max=self._size // 2 - 1)
        column = column % self._size
        noise = self._noise[column // _BIN, row // _BIN].clamp(min=1e-6)
        values = self._values[column, row]
        values = torch.where(sign[..., 0] < 0, values.conj(), values) / noise
        turn = 2 * math.pi / self._size * (nearest * self._middle).sum(-1)
        return values * torch.polar(torch.ones(()), turn) * inside, inside


def _frequencies(places: Tensor, geometries: Tensor) -> Tensor:
    """Of waves (n, 2) at sizes and angles (m, 2): (m, n, 2)."""
    size, angle = geometries[:, :1], geometries[:, 1:]
    column, row = places.T.float() / PERIOD
    turned = torch.stack([column * angle.cos() - row * angle.sin(), column * angle.sin() + row * angle.cos()], -1)
    return turned / size[..., None]


@cache
def _geometries() -> Tensor:
    """Sizes and angles that are tried: (m, 2)."""
    straight = torch.cartesian_prod(_between(*_SIZES, _SIZE_STEP), torch.zeros(1))
    angles = torch.deg2rad(torch.arange(-_ANGLES, _ANGLES + _ANGLE_STEP, _ANGLE_STEP))
    turned = torch.cartesian_prod(_between(*_TURNED_SIZES, _TURNED_STEP), angles)
    return torch.cat([torch.tensor([[1.0, 0.0]]), straight, turned])


def _between(least: float, most: float, step: float) -> Tensor:
    return torch.arange(math.log(least), math.log(most), step).exp()


def _limited(loudness: Tensor, most: float) -> Tensor:
    return most * (loudness / most).tanh()


def _standing_out(luma: Tensor) -> Tensor:
    """What (rows, columns) differ from their surroundings by, over the variance there: noise weighs least so."""
    rest = luma - _blurred(luma)
    deviation = _blurred(rest.square()).clamp(min=0).sqrt() + _FLAT
    return (rest / deviation).clamp(-_MOST, _MOST) / deviation


def _blurred(picture: Tensor) -> Tensor:
    """The mean of the surroundings; sums of shifted pictures are many times as quick as a pooling."""
    side = 2 * _AROUND + 1
    for axis, size in enumerate(picture.shape):
        padding = [0, 0, _AROUND, _AROUND] if axis == 0 else [_AROUND, _AROUND, 0, 0]
        padded = F.pad(picture[None, None], padding, mode="reflect")[0, 0]
        total = padded.narrow(axis, 0, size).clone()
        for start in range(1, side):
            total += padded.narrow(axis, start, size)
        picture = total.div_(side)
    return picture


def _quick_size(least: int) -> int:
    """The next size that Fourier transforms are quick at, from 128 on."""
    power = 2 ** max(7, (least - 1).bit_length())
    return 3 * power // 4 if 3 * power // 4 >= least else power


def pattern_of(tensors: Mapping[str, npt.NDArray[Any]]) -> Pattern | None:
    """None for a model that draws none. Raises BadModelFile."""
    if PATTERN not in tensors:
        return None
    waves = tensors[PATTERN]
    if not _fitting(waves):
        more = "and with each its turned and mirrored ones"
        raise BadModelFile(f"expected float32 (n, 3) in {PATTERN}, periods across and down from 1 to 7 {more}")
    return Pattern(torch.from_numpy(np.array(waves)))


def _fitting(waves: npt.NDArray[Any]) -> bool:
    if waves.dtype != np.float32 or waves.ndim != 2 or waves.shape[1] != 3 or not np.isfinite(waves).all():
        return False
    periods = waves[:, :2]
    if not len(waves) or not np.isin(abs(periods), range(1, 8)).all() or (periods[:, 1] < 0).any():
        return False
    try:
        _turned_phases(waves.tolist())
    except KeyError:
        return False
    return True
