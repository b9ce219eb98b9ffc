"""Karhunen-Loeve initialisation: a codec that works before its first step.

Stage by stage, the centre 2 x 2 taps of each 5 x 5 stride-2 convolution take the principal axes of the 2 x 2 blocks of
what lies below, the synthesis their transpose; GDN starts near the identity. Random initialisation needs ten minutes
of training to come within 16 dB of it.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from slic_cli.training.hyperprior import Hyperprior

_NOISE = 0.005  # share of the random initialisation that is kept, so that equal channels can part
_GAMMA = 0.002  # GDN's diagonal
_LEAST_SPREAD = 0.2  # of a latent channel, in quantiser steps
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
    net.h_s[-2].bias.fill_(1.0)
    deviations = torch.stack([crop.square().mean((1, 2)) for crop in below]).mean(0).sqrt()
    spread = torch.full((codec.spread.numel(),), _LEAST_SPREAD)
    spread[:used] = (deviations * codec.gain).clamp(min=_LEAST_SPREAD)
    codec.spread.copy_(spread.view(1, -1, 1, 1))


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
