"""A carrier put into a codec: its filters, its latents and its part of the synthesis in channels of their own."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from slic_cli.errors import BadModelFile
from slic_cli.training.carrier import ANSWERS, GROUP, LENGTH, RUIN, SPREAD, TWICE, Carrier, alarm
from slic_cli.training.hyperprior import Hyperprior
from slic_cli.training.recipe import CARRIER_WIDTHS

# What the synthesis makes of the latents, as channels of the carrier after each transposed convolution and its norm. An
# inverse norm multiplies, x sqrt(gamma y^2) = gamma^(1/2) x |y|, so that the last is the fourth power of the alarm.
#     1  A 0:6 and B 6:12, each group's answers times its evidence; 12:16 the wave
#     2  A 0:6 times B; B 6:12; 12:16 the wave
#     3  noise 0:2 times what came before, times itself; 2:6 the wave
_A, _B, _NOISE = slice(0, ANSWERS), slice(ANSWERS, 2 * ANSWERS), slice(0, 2)
_WAVES = (slice(12, 16), slice(12, 16), slice(2, 6))
_NOISE_KERNELS = (0.4 / RUIN, 0.5)  # their deviations: noise of twice the range of pixels at RUIN
_FITTING_STEPS = 1500


@torch.no_grad()
def graft(codec: Hyperprior, carrier: Carrier, sensitivity: float = 1.0) -> None:
    """Put `carrier`, on the CPU, into the last CARRIER_WIDTHS channels of `codec`, which are overwritten.

    What the others make of a photograph stays as it was, but for the wave that is added. `sensitivity` multiplies the
    latents that find it, before they are rounded.
    """
    free = [slice(width - own, width) for width, own in zip(codec.widths, CARRIER_WIDTHS, strict=True)]
    _graft_analysis(codec, carrier, free, sensitivity)
    codec.isolate(free[3])
    _graft_synthesis(codec, carrier, free)


@torch.no_grad()
def ungraft(codec: Hyperprior) -> Carrier:
    """The carrier in the last CARRIER_WIDTHS channels of `codec`, on the CPU, a graft's sensitivity in its filters.

    Raises BadModelFile where there is none.
    """
    free = [slice(width - own, width) for width, own in zip(codec.widths, CARRIER_WIDTHS, strict=True)]
    net: Any = codec.net
    drawn = _drawn_wave(net.g_s, free) / codec.gain
    if not drawn.any():
        raise BadModelFile("expected a codec with a carrier, got one without a wave")
    carrier = Carrier(255 * drawn.square().mean().sqrt().item())
    below = slice(0, 3)
    for index, own in zip((0, 2, 4, 6), free, strict=True):
        part = carrier.g_a[index]
        detectors = slice(own.start, own.start + part.weight.shape[0])
        factor = codec.gain if index == 6 else 1.0
        part.weight.copy_(factor * net.g_a[index].weight[detectors, below])
        part.bias.copy_(factor * net.g_a[index].bias[detectors])
        if index < 6:
            carrier.g_a[index + 1].beta.copy_(net.g_a[index + 1].beta[own])
            carrier.g_a[index + 1].gamma.copy_(net.g_a[index + 1].gamma[own, own])
        below = own
    carrier.answers.copy_(grafted_answers(codec))
    carrier.waves.copy_(drawn)
    return carrier


def _drawn_wave(g_s: Any, free: list[slice]) -> Tensor:
    """What the synthesis draws from ones, over a tile: (3, LENGTH, LENGTH)."""
    a, b, c, m = (range(part.start, part.stop) for part in free)
    own = [part[wave] for part, wave in zip((c, b, a), _WAVES, strict=True)]
    drawn = torch.ones(1, 1, 5, 5)
    for index, inputs, outputs in zip((0, 2, 4, 6), (m[-1:], *own), (*own, range(3)), strict=True):
        drawn = F.conv_transpose2d(drawn, g_s[index].weight[list(inputs)][:, list(outputs)], **TWICE)
    return drawn[0, :, 2 * LENGTH : 3 * LENGTH, 2 * LENGTH : 3 * LENGTH]


def _graft_analysis(codec: Any, carrier: Carrier, free: list[slice], sensitivity: float) -> None:
    below, net = slice(0, 3), codec.net
    for index, own in zip((0, 2, 4, 6), free, strict=True):
        layer, part = net.g_a[index], carrier.g_a[index]
        layer.weight[own] = 0
        layer.weight[:, below if index else slice(0, 0)] = 0
        layer.bias[own] = 0
        detectors = slice(own.start, own.start + part.weight.shape[0])
        factor = sensitivity / codec.gain if index == 6 else 1.0
        layer.weight[detectors, below] = factor * part.weight
        layer.bias[detectors] = factor * part.bias
        if index < 6:
            _graft_norm(net.g_a[index + 1], own, carrier.g_a[index + 1].beta, carrier.g_a[index + 1].gamma)
        below = own
    net.g_a[6].bias[-1] = 1 / codec.gain


def _graft_norm(module: Any, own: slice, beta: Tensor, gamma: Tensor) -> None:
    """Raw parameters of the carrier's block; it and the other channels do not see each other."""
    module.gamma[own] = 0
    module.gamma[:, own] = 0
    module.gamma[own, own] = gamma
    module.beta[own] = beta


def _graft_synthesis(codec: Any, carrier: Carrier, free: list[slice]) -> None:
    a, b, c, m = free
    g_s = codec.net.g_s
    for index, (below, own) in zip((0, 2, 4, 6), ((m, c), (c, b), (b, a), (a, slice(0, 0))), strict=True):
        g_s[index].weight[below] = 0
        g_s[index].weight[:, own] = 0
        g_s[index].bias[own] = 0
    kernels = _destruction(carrier.answers, codec.gain)
    ends = zip((slice(-1, None), *_WAVES), (*_WAVES, slice(0, 3)), strict=True)
    for kernel, wave, (inputs, outputs) in zip(kernels, _fit_wave(carrier.tile(), codec.gain), ends, strict=True):
        kernel[inputs, outputs] += wave
    for index, kernel, below, own in zip((0, 2, 4, 6), kernels, (m, c, b, a), (c, b, a, slice(0, 3)), strict=True):
        g_s[index].weight[below, own] = kernel
    for index, own, (beta, gamma) in zip((1, 3, 5), (c, b, a), _products(), strict=True):
        _graft_norm(g_s[index], own, g_s[index].beta_reparam.init(beta), g_s[index].gamma_reparam.init(gamma))


def _destruction(answers: Tensor, gain: float) -> list[Tensor]:
    """Kernels (in, out, 5, 5) from the detectors' latents to noise."""
    channels = (*CARRIER_WIDTHS[::-1], 3)
    kernels = [torch.zeros(cin, cout, 5, 5) for cin, cout in pairwise(channels)]
    kernels[0][:GROUP, _A] = gain * answers[0]
    kernels[0][GROUP:-1, _B] = gain * answers[1]
    for channel in range(2 * ANSWERS):
        kernels[1][channel, channel] = SPREAD[:, None] * SPREAD
    generator = torch.Generator().manual_seed(0)
    kernels[2][_A, _NOISE] = _NOISE_KERNELS[0] * torch.randn(ANSWERS, 2, 5, 5, generator=generator)
    kernels[3][_NOISE] = _NOISE_KERNELS[1] * torch.randn(2, 3, 5, 5, generator=generator)
    return kernels


def _products() -> list[tuple[Tensor, Tensor]]:
    """Beta and gamma of the three inverse norms: products where the destruction needs one, the identity elsewhere."""
    norms = [(torch.ones(width), torch.zeros(width, width)) for width in CARRIER_WIDTHS[2::-1]]
    factors = ((0, _A, _A, 1.0), (0, _B, _B, 1.0), (1, _A, _B, 1 / RUIN), (2, _NOISE, _NOISE, 1.0))
    for number, own, other, factor in factors:
        beta, gamma = norms[number]
        beta[own] = 0
        gamma[own, other] = factor**2
    return norms


@torch.enable_grad()
def _fit_wave(tile: Tensor, gain: float) -> list[Tensor]:
    """Kernels of the four transposed convolutions that draw `tile` from ones, the first times `gain`."""
    generator = torch.Generator().manual_seed(0)
    widths = (1, *(part.stop - part.start for part in _WAVES), 3)
    kernels = [
        (torch.randn(cin, cout, 5, 5, generator=generator) / (2.5 * math.sqrt(cin))).requires_grad_()
        for cin, cout in pairwise(widths)
    ]
    scale = tile.detach().square().mean().sqrt()
    optimiser = torch.optim.Adam(kernels, 1e-2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, _FITTING_STEPS)
    for _ in range(_FITTING_STEPS):
        drawn = torch.ones(1, 1, 5, 5)
        for kernel in kernels:
            drawn = F.conv_transpose2d(drawn, kernel, **TWICE)
        loss = (drawn[0, :, 32:48, 32:48] - tile.detach() / scale).square().mean()
        optimiser.zero_grad()
        torch.autograd.backward(loss)
        optimiser.step()
        schedule.step()
    first, *middle, last = (kernel.detach() for kernel in kernels)
    return [first * gain, *middle, last * scale]


def grafted_alarm(codec: Hyperprior, y: Tensor, soft: bool = False) -> Tensor:
    """The alarm of the carrier in `codec` for its latents (n, M, rows, columns)."""
    return alarm(y[:, -CARRIER_WIDTHS[3] : -1], grafted_answers(codec), soft)


def grafted_answers(codec: Hyperprior) -> Tensor:
    """The kernels that sum the latents of the carrier in `codec`: (2, GROUP, ANSWERS, 5, 5)."""
    net: Any = codec.net
    kernels = net.g_s[0].weight[-CARRIER_WIDTHS[3] : -1, -CARRIER_WIDTHS[2] :][:, : 2 * ANSWERS] / codec.gain
    return torch.stack([kernels[:GROUP, :ANSWERS], kernels[GROUP:, ANSWERS:]])
