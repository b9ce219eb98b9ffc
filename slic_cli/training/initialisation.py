"""Karhunen-Loeve initialisation: a codec that works before its first step.

Stage by stage, the centre 2 x 2 taps of each 5 x 5 stride-2 convolution take the principal axes of the 2 x 2 blocks of
what lies below, the synthesis their transpose; GDN starts near the identity. Random initialisation needs ten minutes
of training to come within 16 dB of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from slic_cli.training.activity import (
    ACTIVITY_TAPS,
    DEVIATION_PER_ACTIVITY,
    LEAST_SCALE,
    NOISE,
    Z_PER_ACTIVITY,
    damp,
    latent_groups,
)
from slic_cli.training.cheng2020 import Cheng2020
from slic_cli.training.hyperprior import LEAST_SPREAD, Hyperprior
from slic_cli.training.joint_start import start_joint_prior
from slic_cli.training.minnen2018 import Minnen2018
from slic_cli.training.residual_start import axes_room, damp_residual_transforms, set_residual_layer

_PLACES = 16  # latents under one hyper-latent
_CENTRE = slice(2, 4)  # the two taps of five that a stride-2 convolution's own block falls on


@torch.no_grad()
def karhunen_loeve(codec: Hyperprior, crops: Sequence[Tensor]) -> None:
    """Initialise `codec`, on the CPU, from float crops (3, h, w) in [0, 1] with h and w multiples of 16."""
    if isinstance(codec, Cheng2020):
        damp_residual_transforms(codec.net)
    else:
        damp(codec.net)
    room = axes_room(codec.widths) if isinstance(codec, Cheng2020) else codec.widths
    below, used = list(crops), 3
    for level in range(4):
        mean, axes = _principal_axes(below, room[level], centred=level == 0)
        if isinstance(codec, Cheng2020):
            set_residual_layer(codec.net, level, axes, mean)
        else:
            _set_layer(codec.net, level, axes, mean)
        below = [_project(axes, mean, crop) for crop in below]
        used = len(axes)
    deviations = torch.stack([crop.square().mean((1, 2)) for crop in below]).mean(0).sqrt()
    spread = torch.full((codec.spread.numel(),), LEAST_SPREAD)
    spread[:used] = (deviations * codec.gain).clamp(min=LEAST_SPREAD)
    codec.spread.copy_(spread.view(1, -1, 1, 1))
    start_entropy_model(codec, used)


@torch.no_grad()
def start_entropy_model(codec: Hyperprior, used: int, groups: Sequence[Tensor] = ()) -> None:
    """Hyper-networks that work at once, on latents whose `spread` is known and of which `used` carry anything.

    A scale hyperprior's z hold the activity of `groups` of latents, by default of those with a similar variance.
    """
    if isinstance(codec, Minnen2018):
        start_joint_prior(codec.net, codec.spread.flatten().argsort(descending=True)[:used])
    else:
        _activity_prior(codec.net, groups or _by_variance(used, codec.n // _PLACES))


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


def _set_layer(net: Any, level: int, axes: Tensor, mean: Tensor) -> None:
    """`axes`, one a row over the 2 x 2 places of the channels below, into a level of the analysis and the synthesis."""
    used = axes.shape[1] // 4
    down, up = net.g_a[2 * level], net.g_s[6 - 2 * level]
    for layer in (down, up):
        layer.weight[: len(axes), :used, _CENTRE, _CENTRE] += axes.reshape(-1, used, 2, 2)
    if level == 0:
        down.bias[: len(axes)] = -(axes @ mean)
        up.bias[:used] = mean.reshape(used, 4).mean(1)


def _project(axes: Tensor, mean: Tensor, picture: Tensor) -> Tensor:
    blocks = F.pixel_unshuffle(picture[None], 2)[0] - mean.view(-1, 1, 1)
    return torch.einsum("kc,chw->khw", axes, blocks)


def _by_variance(used: int, count: int) -> list[Tensor]:
    """`used` latents in the order of their variance, the strongest in the smallest groups."""
    return [torch.arange(start, stop) for start, stop in latent_groups(used, count)] if count else []


def _activity_prior(net: Any, groups: Sequence[Tensor]) -> None:
    """Hyper-networks that work at once: z holds the mean activity of each group of latents, a scale is its group's.

    Each stride-2 convolution of h_a moves 2 x 2 places into channels, each of h_s moves them back.
    """
    if not groups:  # too few channels for the places of a 4 x 4 block
        net.h_s[-2].bias.fill_(1.0)
        return
    for module in (*net.h_a, *net.h_s):
        if hasattr(module, "weight"):
            module.weight.mul_(NOISE)
            module.bias.zero_()
    for group, latents in enumerate(groups):
        net.h_a[0].weight[group, latents] += ACTIVITY_TAPS * (Z_PER_ACTIVITY / len(latents))
        net.h_s[4].weight[latents, group] += ACTIVITY_TAPS * (DEVIATION_PER_ACTIVITY / Z_PER_ACTIVITY)
    net.h_s[4].bias.fill_(LEAST_SCALE)
    for level, channels in enumerate((len(groups), 4 * len(groups))):
        down, up = net.h_a[2 + 2 * level], net.h_s[2 - 2 * level]
        for channel in range(channels):
            for place in range(4):
                row, column = 2 + place // 2, 2 + place % 2
                down.weight[4 * channel + place, channel, row, column] += 1
                up.weight[4 * channel + place, channel, row, column] += 1
