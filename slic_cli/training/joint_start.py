"""Entropy models of mbt2018 and cheng2020-anchor that work before their first step, as scale hyperpriors.

z holds the activity of groups of latents, as in initialisation.py. But h_a sees latents with their signs, through leaky
ReLUs: a group is seen as sums of its latents with random signs, each sum in two channels, whose leaky ReLUs add up to
its magnitude. All that follows is positive and passes the leaky ReLUs unchanged, up to the scales. Means begin near 0.
What those paths leave free in the context model stays random, for the means to learn from.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from slic_cli.training.activity import (
    ACTIVITY_TAPS,
    DEVIATION_PER_ACTIVITY,
    LEAST_SCALE,
    NOISE,
    Z_PER_ACTIVITY,
    latent_groups,
)

_PAIRS = 8  # sums with random signs for each group
_PER_GROUP = 2 * _PAIRS  # channels of h_a's first layer, and of z: the places of a 4 x 4 block


def start_joint_prior(net: Any, order: Tensor) -> None:
    """Initialise the entropy model of `net`; `order` lists the latents in use, the strongest first."""
    h_a, h_s = (_convolutions(part) for part in (net.h_a, net.h_s))
    m = net.entropy_parameters[4].weight.shape[0] // 2
    groups = net.h_a[0].weight.shape[0] // _PER_GROUP
    if groups:  # else there are too few channels for the places of a 4 x 4 block
        for layer in (*h_a, *h_s):
            layer.weight.mul_(NOISE)
            nn.init.zeros_(layer.bias)
        members = [order[start:stop] for start, stop in latent_groups(len(order), groups)]
        _start_analysis(h_a, members)
        _start_synthesis(h_s, members)
    h_s[-1].bias[:m] = LEAST_SCALE if groups else 1.0
    _pass_scales(net.entropy_parameters, m)


def _convolutions(network: Any) -> list[Any]:
    return [module for module in network.modules() if isinstance(module, nn.Conv2d | nn.ConvTranspose2d)]


def _start_analysis(layers: list[Any], members: list[Tensor]) -> None:
    for group, latents in enumerate(members):
        for pair in range(_PAIRS):
            signs = torch.randn(len(latents)).sign() / len(latents) ** 0.5
            channel = group * _PER_GROUP + 2 * pair
            layers[0].weight[channel, latents, 1, 1] += signs
            layers[0].weight[channel + 1, latents, 1, 1] -= signs
    _add_magnitudes(layers[1], len(members))
    channels = len(members) * (4 if layers[1].stride[0] == 2 else 1)
    for layer in layers[2:]:
        if layer.stride[0] == 1:
            _pass_on(layer, channels)
            continue
        centre = layer.kernel_size[0] // 2
        for channel in range(channels):
            for place in range(4):
                layer.weight[4 * channel + place, channel, centre + place // 2, centre + place % 2] += 1
        channels *= 4


def _add_magnitudes(layer: Any, groups: int) -> None:
    """Each group's sums, smoothed; a layer that halves the grid moves its 2 x 2 places into channels too."""
    places = 4 if layer.stride[0] == 2 else 1
    for group in range(groups):
        own = slice(group * _PER_GROUP, (group + 1) * _PER_GROUP)
        for place in range(places):
            row, column = (place // 2 + 1, place % 2 + 1) if places == 4 else (0, 0)
            kernel = layer.weight[group * places + place, own, row : row + 3, column : column + 3]
            kernel += ACTIVITY_TAPS * (Z_PER_ACTIVITY / _PAIRS)


def _start_synthesis(layers: list[Any], members: list[Tensor]) -> None:
    channels = len(members) * _PER_GROUP
    for layer in layers[:-1]:
        if isinstance(layer, nn.Conv2d):  # its pixel shuffle, where it has one, moves channels into 2 x 2 places
            _pass_on(layer, channels)
            continue
        channels //= 4
        for channel in range(channels):
            for place in range(4):
                layer.weight[4 * channel + place, channel, 2 + place // 2, 2 + place % 2] += 1
    for group, latents in enumerate(members):
        layers[-1].weight[latents, group] += ACTIVITY_TAPS * (DEVIATION_PER_ACTIVITY / Z_PER_ACTIVITY)


def _pass_on(layer: Any, channels: int) -> None:
    centre = layer.kernel_size[0] // 2
    own = torch.arange(channels)
    layer.weight[own, own, centre, centre] += 1


def _pass_scales(entropy_parameters: Any, m: int) -> None:
    """The first M channels of the hyper-synthesis to the scales, as they are; means near 0."""
    for index in (0, 2, 4):
        layer = entropy_parameters[index]
        layer.weight[:m] = torch.eye(m, layer.weight.shape[1])[:, :, None, None]
        layer.bias[:m] = 0
    last = entropy_parameters[4]
    last.weight[m:] *= NOISE
    last.bias[m:] = 0
