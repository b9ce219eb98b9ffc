"""Karhunen-Loeve initialisation: a codec that works before its first step.

Stage by stage, the centre 2 x 2 taps of each 5 x 5 stride-2 convolution take the principal axes of the 2 x 2 blocks of
what lies below, the synthesis their transpose; GDN starts near the identity. Random initialisation needs ten minutes
of training to come within 16 dB of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from slic_cli.training.hyperprior import LEAST_SPREAD, Hyperprior

_NOISE = 0.005  # share of the random initialisation that is kept, so that equal channels can part
_GAMMA = 0.002  # GDN's diagonal
_ACTIVITY_TAPS = torch.tensor([[0.05, 0.1, 0.05], [0.1, 0.4, 0.1], [0.05, 0.1, 0.05]])  # around a latent
_Z_PER_ACTIVITY = 3.0  # z is rounded to whole numbers; latents' mean magnitudes are of the order of their spread
_DEVIATION_PER_ACTIVITY = 1.25  # a Gaussian's standard deviation over its mean magnitude
_LEAST_SCALE = 0.08  # of a latent where all is flat, in units of its spread
_CENTRE = slice(2, 4)  # the two taps of five that a stride-2 convolution's own block falls on


@torch.no_grad()
def karhunen_loeve(codec: Hyperprior, crops: Sequence[Tensor]) -> None:
    """Initialise `codec`, on the CPU, from float crops (3, h, w) in [0, 1] with h and w multiples of 16."""
    net = codec.net
    for module in [*net.g_a, *net.g_s]:
        if hasattr(module, "gamma_reparam"):
            module.gamma.copy_(module.gamma_reparam.init(_GAMMA * torch.eye(module.beta.numel())))
    analysis = [module for module in net.g_a if isinstance(module, nn.Conv2d)]
    synthesis = [module for module in net.g_s if isinstance(module, nn.ConvTranspose2d)][::-1]
    below, used = list(crops), 3
    for number, (down, up) in enumerate(zip(analysis, synthesis, strict=True)):
        mean, axes = _principal_axes(below, down.out_channels, centred=number == 0)
        _set_layer(down, up, axes, used)
        if number == 0 and down.bias is not None and up.bias is not None:
            down.bias[: len(axes)] = -(axes @ mean)
            up.bias[:used] = mean.reshape(used, 4).mean(1)
        below = [_project(axes, mean, crop) for crop in below]
        used = len(axes)
    deviations = torch.stack([crop.square().mean((1, 2)) for crop in below]).mean(0).sqrt()
    spread = torch.full((codec.spread.numel(),), LEAST_SPREAD)
    spread[:used] = (deviations * codec.gain).clamp(min=LEAST_SPREAD)
    codec.spread.copy_(spread.view(1, -1, 1, 1))
    _activity_prior(codec.net, used)


def _principal_axes(pictures: Sequence[Tensor], limit: int, centred: bool) -> tuple[Tensor, Tensor]:
    """Mean of the 2 x 2 blocks (zero unless `centred`) and their leading axes, one a row."""
    total, moment, count = torch.zeros(0), torch.zeros(0), 0
    for picture in pictures:
        blocks = F.pixel_unshuffle(picture[None], 2)[0].flatten(1)
        total = blocks.sum(1).double() + (total if count else 0)
        moment = (blocks @ blocks.T).double() + (moment if count else 0)
        count += blocks.shape[1]
    mean = total / count if centred else torch.zeros_like(total)
    covariance = moment / count - torch.outer(mean, mean)
    _, axes = torch.linalg.eigh(covariance)
    return mean.float(), axes.flip(1).float().T[:limit]


def _set_layer(down: nn.Conv2d, up: nn.ConvTranspose2d, axes: Tensor, used: int) -> None:
    for layer in (down, up):
        layer.weight.mul_(_NOISE)
        if layer.bias is not None:
            layer.bias.zero_()
        layer.weight[: len(axes), :used, _CENTRE, _CENTRE] += axes.reshape(-1, used, 2, 2)


def _project(axes: Tensor, mean: Tensor, picture: Tensor) -> Tensor:
    blocks = F.pixel_unshuffle(picture[None], 2)[0] - mean.view(-1, 1, 1)
    return torch.einsum("kc,chw->khw", axes, blocks)


def _activity_prior(net: Any, used: int) -> None:
    """Hyper-networks that work at once: z holds the mean activity of groups of latents, a scale is its group's.

    Each stride-2 convolution of h_a moves 2 x 2 places into channels, each of h_s moves them back. Latents are grouped
    in the order of their variance, the strongest in the smallest groups.
    """
    n = net.h_s[-2].weight.shape[1]
    groups = n // 16
    if not groups:  # too few channels for the places of a 4 x 4 block
        net.h_s[-2].bias.fill_(1.0)
        return
    edges = np.unique(np.rint(np.geomspace(1, used + 1, groups + 1)).astype(int)) - 1
    for module in (*net.h_a, *net.h_s):
        if hasattr(module, "weight"):
            module.weight.mul_(_NOISE)
            module.bias.zero_()
    for group, (start, stop) in enumerate(pairwise(edges)):
        net.h_a[0].weight[group, start:stop] += _ACTIVITY_TAPS * (_Z_PER_ACTIVITY / (stop - start))
        net.h_s[4].weight[start:stop, group] += _ACTIVITY_TAPS * (_DEVIATION_PER_ACTIVITY / _Z_PER_ACTIVITY)
    net.h_s[4].bias.fill_(_LEAST_SCALE)
    for level, channels in enumerate((groups, 4 * groups)):
        down, up = net.h_a[2 + 2 * level], net.h_s[2 - 2 * level]
        for channel in range(channels):
            for place in range(4):
                row, column = 2 + place // 2, 2 + place % 2
                down.weight[4 * channel + place, channel, row, column] += 1
                up.weight[4 * channel + place, channel, row, column] += 1
