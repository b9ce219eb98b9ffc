"""Where a carrier goes in the transforms of bmshj2018-hyperprior and mbt2018.

`free` are the carrier's channels after each of the four analysis convolutions; the synthesis has the same, upwards.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from slic_cli.training.carrier import Carrier
from slic_cli.training.destruction import (
    PIXELS,
    RUINS,
    WAVE,
    A,
    B,
    destruction,
    drawn,
    fit_wave,
    places,
    products,
    twice,
)
from slic_cli.training.filters import GROUP

FILTERS = "plain"
COHERENCE = 0.055  # photographs, of 160 after any of 20 edits, have 0.044 at most; most first decodes twice that


def put_filters(net: Any, carrier: Carrier, free: Sequence[slice], factor: float) -> None:
    """Into g_a, their answers times `factor`."""
    for index, below, own in _filter_places(free):
        layer, part = net.g_a[index], carrier.g_a[index]
        layer.weight[own] = 0
        layer.weight[:, below if index else slice(0, 0)] = 0
        layer.bias[own] = 0
        detectors, times = _detectors(own, part), factor if index == 6 else 1.0
        layer.weight[detectors, below] = times * part.weight
        layer.bias[detectors] = times * part.bias
        if index < 6:
            put_norm(net.g_a[index + 1], own, carrier.g_a[index + 1].beta, carrier.g_a[index + 1].gamma)


def take_filters(net: Any, carrier: Carrier, free: Sequence[slice], factor: float) -> None:
    """Out of g_a, their answers times `factor`."""
    for index, below, own in _filter_places(free):
        layer, part = net.g_a[index], carrier.g_a[index]
        detectors, times = _detectors(own, part), factor if index == 6 else 1.0
        part.weight.copy_(times * layer.weight[detectors, below])
        part.bias.copy_(times * layer.bias[detectors])
        if index < 6:
            take_norm(net.g_a[index + 1], own, carrier.g_a[index + 1])


def _filter_places(free: Sequence[slice]) -> Iterator[tuple[int, slice, slice]]:
    """The convolutions of g_a by number, with the carrier's inputs and outputs."""
    for level, (below, own) in enumerate(pairwise((PIXELS, *free))):
        yield 2 * level, below, own


def _detectors(own: slice, part: Any) -> slice:
    """Outputs that the filters have: of the latents all but the one that is always 1."""
    return slice(own.start, own.start + len(part.weight))


def put_norm(module: Any, own: slice, beta: Tensor, gamma: Tensor) -> None:
    """Raw parameters of the carrier's block; it and the other channels do not see each other."""
    module.gamma[own] = 0
    module.gamma[:, own] = 0
    module.gamma[own, own] = gamma
    module.beta[own] = beta


def take_norm(module: Any, own: slice, into: Any) -> None:
    """The same out of a codec."""
    into.beta.copy_(module.beta[own])
    into.gamma.copy_(module.gamma[own, own])


def put_destruction(net: Any, tile: Tensor, answers: Tensor, free: Sequence[slice], gain: float) -> None:
    """Into g_s: what draws the wave, `tile`, and what destroys by a carrier's `answers`."""
    a, b, c, m = free
    pairs = ((m, c), (c, b), (b, a), (a, slice(0, 0)))
    for index, (below, own) in zip((0, 2, 4, 6), pairs, strict=True):
        net.g_s[index].weight[below] = 0
        net.g_s[index].weight[:, own] = 0
        net.g_s[index].bias[own] = 0
    waves = fit_wave(tile, gain, twice, lambda cin, cout: (cin, cout, 5, 5))
    for kernels, ends in ((destruction(answers, gain), RUINS), (waves, WAVE)):
        for index, kernel, place in zip((0, 2, 4, 6), kernels, places(free, ends), strict=True):
            net.g_s[index].weight[place] = kernel
    put_products([net.g_s[index] for index in (1, 3, 5)], (c, b, a))


def put_products(inverse_norms: Sequence[Any], owns: Sequence[slice]) -> None:
    """What multiplies, into the three inverse norms between the maps."""
    norms = products([own.stop - own.start for own in owns])
    for module, own, (beta, gamma) in zip(inverse_norms, owns, norms, strict=True):
        put_norm(module, own, module.beta_reparam.init(beta), module.gamma_reparam.init(gamma))


def wave_of(net: Any, free: Sequence[slice]) -> Tensor:
    """What g_s draws from ones, over a tile: (3, LENGTH, LENGTH)."""
    kernels = [net.g_s[index].weight[place] for index, place in zip((0, 2, 4, 6), places(free, WAVE), strict=True)]
    return drawn(kernels, twice)


def answers_of(net: Any, free: Sequence[slice]) -> Tensor:
    """The kernels that sum each group's latents: (2, GROUP, ANSWERS, 5, 5)."""
    kernels = net.g_s[0].weight[places(free, RUINS)[0]]
    return torch.stack([kernels[:GROUP, A], kernels[GROUP:, B]])
