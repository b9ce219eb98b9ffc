"""The filters that find a carrier's waves, as they begin: matched to waves of several directions and lengths.

Lowpass colours, a wave's quadrature pair, normalised by what else is there, and its sum over some 60 pixels. Each group
of GROUP latents looks for the waves of one colour.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from slic_cli.training.jpeg_simulation import TO_YCC

LENGTH = 16  # pixels of a wave, and the side of the tile that repeats: one latent
GROUP = 8  # latents of each of the two groups
DETECTORS = (8, 16, 16, 2 * GROUP)  # channels after each convolution of the plain filters
# Degrees of rotation and magnification that each pair of latents (cosine and sine) of a group answers to.
VARIANTS = ((0.0, 1.0), (9.0, 1.0), (-9.0, 1.0), (0.0, 0.71))
SCALES = (1.0, 0.71)  # the magnifications among them: each has a quadrature pair in the third layer
FULL_ANSWER = 0.775  # what the last filters sum up to: an undisturbed wave's latents have a magnitude of 1 or 2
COLOURS = ((1, 4.0), (2, 4.0), (0, 1.0))  # Cb, Cr and Y, and what they are multiplied by
SECOND_GAIN = 2.0
NOISE = 0.05  # share of the random initialisation that is kept

_LUMA = 2  # the channel after Cb and Cr
TAPS = torch.arange(5.0) - 2  # of a kernel, from its centre
_LOWPASS = torch.tensor([1.0, 4.0, 6.0, 4.0, 1.0]) / 16
_WINDOW = torch.exp(-(TAPS**2) / (2 * 1.3**2))
_NORM_FLOOR, _NORM_SHARE = 0.001, 0.5  # beta and gamma of the divisive normalisation inside a group
# Shares of the norm of what else there is of a wave's length and direction, luma and the other colour. Photographs
# hold all of them at once, the carrier has its own colour alone.
_WITNESSES = (0.05, 0.25)


@torch.no_grad()
def plain_filters() -> nn.Sequential:
    """For the transforms of bmshj2018-hyperprior and mbt2018: 3 to 2 GROUP channels, a sixteenth of the grid."""
    from compressai.layers import GDN
    from compressai.models.utils import conv

    a, b, c, m = DETECTORS
    g_a: Any = nn.Sequential(conv(3, a), GDN(a), conv(a, b), GDN(b), conv(b, c), GDN(c), conv(c, m))
    for module in g_a:
        if hasattr(module, "bias"):
            module.weight.mul_(NOISE)
            module.bias.zero_()
        else:
            set_norm(module, torch.ones_like(module.beta), 1e-3 * torch.eye(module.beta.numel()))
    lowpass = _LOWPASS[:, None] * _LOWPASS
    for channel, (colour, gain) in enumerate(COLOURS):
        g_a[0].weight[channel] += gain * torch.tensor(TO_YCC[colour])[:, None, None] * lowpass
        g_a[2].weight[channel, channel] += SECOND_GAIN * lowpass
    g_a[4].weight[:, : len(COLOURS)] += wave_kernels()
    set_norm(g_a[5], *group_norm(2 * GROUP))
    for group in range(2):
        first = group * GROUP
        window = FULL_ANSWER * _WINDOW[:, None] * _WINDOW / _WINDOW.sum() ** 2
        for number, (degrees, scale) in enumerate(VARIANTS):
            pair = slice(first + 2 * SCALES.index(scale), first + 2 * SCALES.index(scale) + 2)
            out = slice(first + 2 * number, first + 2 * number + 2)
            g_a[6].weight[out, pair] += in_phase(phases(degrees, scale, group, TAPS * 8), window)
    filters: nn.Sequential = g_a
    return filters


def wave_kernels() -> Tensor:
    """From COLOURS at a quarter of the resolution to each group's quadrature pairs: (2 GROUP, 3, 5, 5).

    A group's pairs are its wave at each of SCALES, then the same in luma and in the other colour. Group 0 has waves
    along rows, group 1 along columns.
    """
    kernels = torch.zeros(2 * GROUP, len(COLOURS), 5, 5)
    for group in range(2):
        seen = [*((group, scale) for scale in SCALES), (_LUMA, 1.0), (1 - group, 1.0)]
        for number, (colour, scale) in enumerate(seen):
            for part in range(2):
                kernel = _wave_kernel(scale, part)
                kernels[group * GROUP + 2 * number + part, colour] = kernel if group == 0 else kernel.T
    return kernels


def in_phase(phase: Tensor, window: Tensor) -> Tensor:
    """Kernels (2, 2, rows, columns) that sum a quadrature pair over `window`, each place turned back by its `phase`."""
    cosine, sine = torch.cos(phase) * window, torch.sin(phase) * window
    return torch.stack([torch.stack([cosine, -sine]), torch.stack([sine, cosine])])


def phases(degrees: float, scale: float, group: int, places: Tensor) -> Tensor:
    """Of a group's wave, rotated and magnified, at all pairs of `places` in pixels: (rows, columns), in radians."""
    angle = math.radians(degrees)
    phase = 2 * math.pi / (LENGTH * scale) * (math.cos(angle) * places[None, :] + math.sin(angle) * places[:, None])
    return phase if group == 0 else phase.T


def group_norm(channels: int) -> tuple[Tensor, Tensor]:
    """Beta and gamma of the norm after the wave kernels: a group's own pairs are divided by all of its channels."""
    used = GROUP - 2 * len(_WITNESSES)
    shares = torch.tensor([_NORM_SHARE] * used + [share for share in _WITNESSES for _ in range(2)])
    beta, gamma = torch.full((channels,), _NORM_FLOOR), 1e-3 * torch.eye(channels)
    for first in (0, GROUP):
        gamma[first : first + used, first : first + GROUP] += shares
    return beta, gamma


def set_norm(module: Any, beta: Tensor, gamma: Tensor) -> None:
    """Give a GDN these values, reparametrised."""
    module.beta.copy_(module.beta_reparam.init(beta))
    module.gamma.copy_(module.gamma_reparam.init(gamma))


def _wave_kernel(scale: float, part: int) -> Tensor:
    """A windowed wave along rows at a quarter of the resolution, `part` 0 the cosine, 1 the sine; flat parts give 0."""
    wave = torch.cos(2 * math.pi * TAPS * 4 / (LENGTH * scale) - part * math.pi / 2) * _WINDOW
    wave = wave - _WINDOW * wave.sum() / _WINDOW.sum()
    return 4 * wave[None, :] * (_WINDOW / _WINDOW.sum())[:, None]
