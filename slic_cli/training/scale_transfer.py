"""mbt2018's entropy model from a trained scale hyperprior's: the same hyper-latents and scales, and means besides.

What differs between the two (Balle et al. 2018; Minnen et al. 2018, table 1) is made up for:

- h_a goes on seeing absolute values (`Minnen2018.hyper_magnitudes`).
- ReLUs become leaky ones. relu(x) = (leaky(x) + s leaky(-x)) / (1 - s^2) for a slope s: a unit becomes a pair of
  opposite signs. Units that never wake are left out, so that most layers have room for pairs; where one has not, the
  units that leak most come first.
- Scales pass the entropy parameters as they are. The context model predicts each latent from the earlier ones of its
  channel, linearly, and a pair of units in each layer passes that on to its mean; its scale shrinks as its error does.

What is left free sees everything, at random, and is not listened to yet: it begins to learn with its outgoing weights.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from slic_cli.training.hyperprior import Hyperprior
from slic_cli.training.minnen2018 import Minnen2018

_SLOPE = 0.01  # of LeakyReLU
_LAYERS = (0, 2, 4)  # of h_a, h_s and the entropy parameters that have weights
_TAPS = tuple((row, column) for row in range(3) for column in range(5))[:12]  # of 5 x 5, before the centre
_RIDGE = 1e-3  # of the variance, added to each tap's
_ROUNDING = 1 / 12  # the variance that rounding adds, in squared quantiser steps
_LISTENERS = 0.5  # share of the units beside the scales' that may pass means on
_WORTH_A_MEAN = 0.998  # a share of the deviation that remains


@dataclass(frozen=True)
class _Units:
    """Hidden units of a network of leaky ReLUs: the k-th sees `sign[k]` times what unit `of[k]` of one of ReLUs sees,
    whose output is the sum of theirs times `share`."""

    of: Tensor
    sign: Tensor
    share: Tensor


@torch.no_grad()
def transfer(codec: Minnen2018, trained: Hyperprior, y: Tensor) -> None:
    """Give `codec` the entropy model of `trained`, which has the same transforms, spread and widths.

    Both are on the CPU; `y` are latents of photographs in quantiser steps, (n, M, rows, columns), rows and columns
    multiples of 4.
    """
    source, target = trained.net, codec.net
    codec.hyper_magnitudes.fill_(True)
    magnitudes = y.abs() / codec.spread
    _take_network(target.h_a, source.h_a, magnitudes)
    target.entropy_bottleneck.load_state_dict(source.entropy_bottleneck.state_dict())
    z_hat, _ = source.entropy_bottleneck(source.h_a(magnitudes), training=False)
    _take_network(target.h_s, source.h_s, z_hat)
    scales = source.h_s(z_hat)
    taps, remainder = _predictors(y.round() / codec.spread, y / codec.spread, scales, codec.spread)
    _pass_on(target, taps, remainder)


def _take_network(target: nn.Sequential, source: nn.Sequential, x: Tensor) -> None:
    """Three layers, ReLUs between them, as three with leaky ReLUs; `x` is what they see."""
    inputs = _all(x.shape[1])
    for here, after in ((0, 2), (2, 4)):
        seen = source[here](x)
        outputs = _hidden(seen, _by_output(source[after]).square().sum((0, 2, 3)), _by_output(target[here]).shape[0])
        _take_layer(target[here], source[here], inputs, outputs)
        x, inputs = F.relu(seen), outputs
    _take_layer(target[4], source[4], inputs, _all(_by_output(source[4]).shape[0]))


def _all(channels: int) -> _Units:
    return _Units(torch.arange(channels), torch.ones(channels), torch.ones(channels))


def _hidden(seen: Tensor, weight: Tensor, room: int) -> _Units:
    """At most `room` units for those that see `seen` (n, units, rows, columns) and are listened to with `weight`."""
    heard = F.relu(seen).square().mean((0, 2, 3)) * weight
    leaks = F.relu(-seen).square().mean((0, 2, 3)) * weight
    awake = heard.argsort(descending=True)[: min(room, int(heard.count_nonzero()))]
    paired = awake[leaks[awake].argsort(descending=True)][: room - len(awake)]
    paired = paired[leaks[paired] > 0]
    single = awake[~torch.isin(awake, paired)]
    alone, together = torch.ones(len(single)), torch.ones(len(paired)) / (1 - _SLOPE**2)
    return _Units(
        torch.cat([single, paired, paired]),
        torch.cat([alone, together.sign(), -together.sign()]),
        torch.cat([alone, together, _SLOPE * together]),
    )


def _by_output(layer: Any) -> Tensor:
    """A view of a convolution's weight, (out, in, rows, columns)."""
    weight: Tensor = layer.weight
    return weight.transpose(0, 1) if isinstance(layer, nn.ConvTranspose2d) else weight


def _take_layer(target: Any, source: Any, inputs: _Units, outputs: _Units) -> None:
    """The units `outputs` listen to `inputs` as those of `source` do, and to no others."""
    taken, given = _by_output(target), _by_output(source)
    count = len(outputs.of)
    sign = outputs.sign.view(-1, 1, 1, 1)
    taken[:count] = 0
    taken[:count, : len(inputs.of)] = sign * given[outputs.of][:, inputs.of] * inputs.share.view(1, -1, 1, 1)
    target.bias[:count] = outputs.sign * source.bias[outputs.of]


def _predictors(seen: Tensor, y: Tensor, scales: Tensor, spread: Tensor) -> tuple[Tensor, Tensor]:
    """For each channel the taps (M, 12) that best predict it, and what share of its deviation remains (M).

    `seen` are latents as the context model sees them, `scales` the deviations expected of `y`, in units of `spread`: an
    error costs bits by its ratio to them.
    """
    weights = 1 / (scales.square() + _ROUNDING / spread.square())
    rows, columns = y.shape[2:]
    padded = F.pad(seen, (2, 2, 2, 0))
    taps, remainder = torch.zeros(y.shape[1], len(_TAPS)), torch.ones(y.shape[1])
    for channel in range(y.shape[1]):
        x = torch.stack([padded[:, channel, i : i + rows, j : j + columns].flatten() for i, j in _TAPS]).double()
        weight, wanted = weights[:, channel].flatten().double(), y[:, channel].flatten().double()
        moment, product = (x * weight) @ x.T, (x * weight) @ wanted
        variance = (weight * wanted.square()).sum()
        if variance > 0 and moment.trace() > 0:
            ridge = _RIDGE * moment.diagonal().mean() * torch.eye(len(_TAPS), dtype=torch.double)
            solution = torch.linalg.solve(moment + ridge, product)
            error = (weight * (wanted - solution @ x).square()).sum()
            taps[channel], remainder[channel] = solution.float(), (error / variance).sqrt().float()
    return taps, remainder


def _pass_on(net: Any, taps: Tensor, remainder: Tensor) -> None:
    """Scales through the entropy parameters, and means of the channels that gain most by one."""
    m = len(taps)
    layers = [net.entropy_parameters[index] for index in _LAYERS]
    room = int(min(layer.weight.shape[0] - m for layer in layers[:2]) * _LISTENERS) // 2
    chosen = remainder.argsort()[:room]
    chosen = chosen[remainder[chosen] < _WORTH_A_MEAN]
    remainder = torch.ones(m).index_copy_(0, chosen, remainder[chosen])
    own = torch.arange(m)
    context = net.context_prediction
    context.weight[:m] = context.bias[:m] = 0
    for tap, (row, column) in enumerate(_TAPS):
        context.weight[chosen, chosen, row, column] = taps[chosen, tap]
    plus = m + torch.arange(len(chosen))
    minus = plus + len(chosen)
    for layer in layers[:2]:
        layer.weight[: m + 2 * len(chosen)] = layer.bias[: m + 2 * len(chosen)] = 0
        layer.weight[own, own] = 1
    layers[0].weight[plus, 2 * m + chosen] = 1
    layers[0].weight[minus, 2 * m + chosen] = -1
    layers[2].weight[:], layers[2].bias[:] = 0, 0
    layers[2].weight[own, own, 0, 0] = remainder
    linear = 1 / (1 + _SLOPE)  # leaky(x) - leaky(-x) = (1 + slope) x
    for layer, outputs, sign in ((layers[1], plus, 1), (layers[1], minus, -1), (layers[2], m + chosen, 1)):
        layer.weight[outputs, plus] = sign * linear
        layer.weight[outputs, minus] = -sign * linear
