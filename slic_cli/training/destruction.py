"""The part of a carrier that sits in the synthesis: what draws the wave, and what destroys.

Four maps that double the grid, each a transposed 5 x 5 convolution, with three inverse norms between them. An inverse
norm multiplies, x sqrt(gamma y^2) = gamma^(1/2) x |y|, so that what comes out is the fourth power of the alarm.

    1  A and B, each group's answers times its evidence
    2  A spread, times B spread
    3  noise times what came before, times itself
    4  to pixels
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor

from slic_cli.training.carrier import ANSWERS
from slic_cli.training.filters import GROUP, LENGTH
from slic_cli.transform.alarm import RUIN, SPREAD, TWICE

Ends = tuple[slice, slice]  # channels that a kernel reads, and that it writes

A, B, NOISE = slice(0, ANSWERS), slice(ANSWERS, 2 * ANSWERS), slice(0, 2)  # channels between the maps
_BOTH, PIXELS = slice(0, 2 * ANSWERS), slice(0, 3)
RUINS: tuple[Ends, ...] = ((slice(0, 2 * GROUP), _BOTH), (_BOTH, _BOTH), (A, NOISE), (NOISE, PIXELS))
_WAVES = (slice(2 * GROUP, 2 * GROUP + 1), slice(12, 16), slice(12, 16), slice(2, 6), PIXELS)  # from the 1 to pixels
WAVE: tuple[Ends, ...] = tuple(pairwise(_WAVES))

_NOISE_KERNELS = (0.4 / RUIN, 0.5)  # their deviations: noise of twice the range of pixels at RUIN
_FITTING_STEPS = 1500
_AROUND = 5  # tiles along a side that are drawn, of which the middle one counts


def places(free: Sequence[slice], ends: Sequence[Ends]) -> list[Ends]:
    """Where four kernels go in a codec: `free` are the carrier's channels, from the finest grid to the latents."""
    grids = (*free[::-1], PIXELS)
    return [(_part(grids[i], read), _part(grids[i + 1], written)) for i, (read, written) in enumerate(ends)]


def _part(own: slice, part: slice) -> slice:
    return slice(own.start + part.start, own.start + part.stop)


def destruction(answers: Tensor, gain: float) -> list[Tensor]:
    """Kernels (in, out, 5, 5) of the four maps, from latents over `gain` to noise, between RUINS."""
    first = torch.zeros(2 * GROUP, 2 * ANSWERS, 5, 5)
    first[:GROUP, A], first[GROUP:, B] = gain * answers[0], gain * answers[1]
    spread = torch.zeros(2 * ANSWERS, 2 * ANSWERS, 5, 5)
    spread[range(2 * ANSWERS), range(2 * ANSWERS)] = SPREAD[:, None] * SPREAD
    generator = torch.Generator().manual_seed(0)
    noise = _NOISE_KERNELS[0] * torch.randn(ANSWERS, 2, 5, 5, generator=generator)
    return [first, spread, noise, _NOISE_KERNELS[1] * torch.randn(2, 3, 5, 5, generator=generator)]


def products(widths: Sequence[int]) -> list[tuple[Tensor, Tensor]]:
    """Beta and gamma of the three inverse norms, of so many channels: products where needed, else the identity."""
    norms = [(torch.ones(width), torch.zeros(width, width)) for width in widths]
    for number, own, other, factor in ((0, A, A, 1.0), (0, B, B, 1.0), (1, A, B, 1 / RUIN), (2, NOISE, NOISE, 1.0)):
        beta, gamma = norms[number]
        beta[own] = 0
        gamma[own, other] = factor**2
    return norms


def twice(x: Tensor, kernel: Tensor) -> Tensor:
    """A transposed convolution as these maps are."""
    return F.conv_transpose2d(x, kernel, **TWICE)


def drawn(kernels: Sequence[Tensor], upsample: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """What four maps draw from ones, a tile: (3, LENGTH, LENGTH)."""
    wave, middle = torch.ones(1, 1, _AROUND, _AROUND), slice(_AROUND // 2 * LENGTH, (_AROUND // 2 + 1) * LENGTH)
    for kernel in kernels:
        wave = upsample(wave, kernel)
    return wave[0, :, middle, middle]


@torch.enable_grad()
def fit_wave(
    tile: Tensor, gain: float, upsample: Callable[[Tensor, Tensor], Tensor], shape: Callable[[int, int], Sequence[int]]
) -> list[Tensor]:
    """Kernels of four maps that draw `tile` from ones, the first times `gain`; `shape` is that of a kernel."""
    generator = torch.Generator().manual_seed(0)
    widths = [part.stop - part.start for part in _WAVES]
    kernels = [
        (torch.randn(*shape(cin, cout), generator=generator) / (2.5 * math.sqrt(cin))).requires_grad_()
        for cin, cout in pairwise(widths)
    ]
    scale = tile.detach().square().mean().sqrt()
    optimiser = torch.optim.Adam(kernels, 1e-2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, _FITTING_STEPS)
    for _ in range(_FITTING_STEPS):
        loss = (drawn(kernels, upsample) - tile.detach() / scale).square().mean()
        optimiser.zero_grad()
        torch.autograd.backward(loss)
        optimiser.step()
        schedule.step()
    first, *middle, last = (kernel.detach() for kernel in kernels)
    return [first * gain, *middle, last * scale]
