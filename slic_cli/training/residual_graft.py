"""Where a carrier goes in the transforms of cheng2020-anchor: its residual blocks and sub-pixel convolutions.

`free` are the carrier's channels on the grids of 1/2, 1/4, 1/8 and 1/16. What destroys passes a leaky ReLU in two
channels of opposite signs; the wave is drawn by the skips around them. Blocks that keep the grid leave the carrier's
channels alone, but for the one that the filters use.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from slic_cli.training.carrier import Carrier
from slic_cli.training.destruction import PIXELS, RUINS, WAVE, A, B, destruction, drawn, fit_wave, places
from slic_cli.training.filters import GROUP
from slic_cli.training.plain_graft import put_norm, put_products, take_norm
from slic_cli.training.residual_filters import DIFFERENCE, PLACES
from slic_cli.transform.layers import subpixel_kernel, subpixel_taps

FILTERS = "residual"
COHERENCE = 0.21  # photographs, of 60 after any of 12 edits, have 0.2 at most, as JPEG 50; most of them far less
_NONE = slice(0, 0)
_UP = (1, 3, 5)  # blocks of g_s that double the grid


def put_filters(net: Any, carrier: Carrier, free: Sequence[slice], factor: float) -> None:
    """Into g_a, their answers times `factor`."""
    for layer, inputs, outputs in _analysis_layers(net.g_a, free):
        _silence(layer, inputs, outputs)
    for part, layer, inputs, outputs in _filter_layers(net, carrier, free):
        times = factor if layer is net.g_a[6] else 1.0
        layer.weight[outputs, inputs] = times * part.weight
        layer.bias[outputs] = times * part.bias
    for index, own in enumerate(free[:3]):
        put_norm(net.g_a[2 * index].gdn, own, carrier.g_a[index].gdn.beta, carrier.g_a[index].gdn.gamma)


def take_filters(net: Any, carrier: Carrier, free: Sequence[slice], factor: float) -> None:
    """Out of g_a, their answers times `factor`."""
    for part, layer, inputs, outputs in _filter_layers(net, carrier, free):
        times = factor if layer is net.g_a[6] else 1.0
        part.weight.copy_(times * layer.weight[outputs, inputs])
        part.bias.copy_(times * layer.bias[outputs])
    for index, own in enumerate(free[:3]):
        take_norm(net.g_a[2 * index].gdn, own, carrier.g_a[index].gdn)


def _filter_layers(net: Any, carrier: Carrier, free: Sequence[slice]) -> Iterator[tuple[Any, Any, slice, slice]]:
    """Convolutions of the filters, and where they go: (filter, layer, inputs, outputs)."""
    detectors = slice(free[3].start, free[3].stop - 1)
    grids = [PIXELS, *free[:3], free[2], detectors]
    for number, (below, own) in enumerate(pairwise(grids)):
        part, module = carrier.g_a[number], net.g_a[PLACES[number]]
        if number == len(PLACES) - 1:
            yield part, module, below, own
            continue
        yield part.conv1, module.conv1, below, own
        yield part.conv2, module.conv2, own, own
        if number < 3:
            yield part.skip, module.skip, below, own


def _analysis_layers(g_a: Any, free: Sequence[slice]) -> Iterator[tuple[Any, slice, slice]]:
    """All convolutions of g_a with the carrier's inputs and outputs."""
    for level, (below, own) in enumerate(pairwise((_NONE, *free[:3]))):
        first, second = g_a[2 * level], g_a[2 * level + 1]
        yield from ((first.conv1, below, own), (first.conv2, own, own), (first.skip, below, own))
        yield from ((second.conv1, own, own), (second.conv2, own, own))
    yield g_a[6], free[2], free[3]


def _synthesis_layers(g_s: Any, free: Sequence[slice]) -> Iterator[tuple[Any, slice, slice]]:
    """All convolutions of g_s with the carrier's inputs and outputs."""
    yield from ((part, free[3], free[3]) for part in (g_s[0].conv1, g_s[0].conv2))
    for index, (below, own) in zip(_UP, pairwise(free[::-1]), strict=True):
        block, second = g_s[index], g_s[index + 1]
        yield from ((part, below, _shuffled(own)) for part in (block.subpel_conv[0], block.upsample[0]))
        yield from ((part, own, own) for part in (block.conv, second.conv1, second.conv2))
    yield g_s[7][0], free[0], _NONE


def _silence(layer: Any, inputs: slice, outputs: slice) -> None:
    layer.weight[outputs] = 0
    layer.weight[:, inputs] = 0
    layer.bias[outputs] = 0


def _shuffled(own: slice) -> slice:
    """Channels before a pixel shuffle."""
    return slice(4 * own.start, 4 * own.stop)


def put_destruction(net: Any, tile: Tensor, answers: Tensor, free: Sequence[slice], gain: float) -> None:
    """Into g_s: what draws the wave, `tile`, and what destroys by a carrier's `answers`."""
    g_s = net.g_s
    for layer, inputs, outputs in _synthesis_layers(g_s, free):
        _silence(layer, inputs, outputs)
    *maps, last = (subpixel_kernel(kernel) for kernel in destruction(answers, gain))
    *between, to_pixels = places(free, RUINS)
    for index, kernel, (inputs, outputs) in zip(_UP, maps, between, strict=True):
        _put_signed(g_s[index], kernel, inputs, outputs.start)
    g_s[7][0].weight[:, to_pixels[0]] = last
    waves = fit_wave(tile, gain, _upsample, lambda cin, cout: (4 * cout, cin, 3, 3))
    for layer, kernel, (inputs, outputs) in zip(_wave_layers(g_s), waves, places(free, WAVE), strict=True):
        layer.weight[_shuffled(outputs), inputs] = kernel
    put_products([g_s[index].igdn for index in _UP], free[2::-1])


def _put_signed(block: Any, kernel: Tensor, inputs: slice, start: int) -> None:
    """A linear map to channels from `start` on through a block's leaky ReLU, in as many again for the other sign."""
    count = len(kernel) // 4
    for sign, first in ((1.0, start), (-1.0, start + count)):
        block.subpel_conv[0].weight[_shuffled(slice(first, first + count)), inputs] = sign * kernel
        block.conv.weight[range(start, start + count), range(first, first + count), 1, 1] = sign * DIFFERENCE


def wave_of(net: Any, free: Sequence[slice]) -> Tensor:
    """What g_s draws from ones, over a tile: (3, LENGTH, LENGTH)."""
    layers = zip(_wave_layers(net.g_s), places(free, WAVE), strict=True)
    kernels = [layer.weight[_shuffled(outputs), inputs] for layer, (inputs, outputs) in layers]
    return drawn(kernels, _upsample)


def answers_of(net: Any, free: Sequence[slice]) -> Tensor:
    """The kernels that sum each group's latents: (2, GROUP, ANSWERS, 5, 5)."""
    inputs, outputs = places(free, RUINS)[0]
    kernels = _transposed_kernel(net.g_s[1].subpel_conv[0].weight[_shuffled(outputs), inputs])
    return torch.stack([kernels[:GROUP, A], kernels[GROUP:, B]])


def _transposed_kernel(weight: Tensor) -> Tensor:
    """The transposed convolution (in, out, 5, 5) that `subpixel_kernel` made (4 out, in, 3, 3) of."""
    phases = weight.view(-1, 2, 2, *weight.shape[1:])
    kernel = weight.new_zeros(weight.shape[1], len(phases), 5, 5)
    for i, j, place in subpixel_taps():
        kernel[:, :, i, j] = phases[(slice(None), *place)].T
    return kernel


def _upsample(x: Tensor, kernel: Tensor) -> Tensor:
    return F.pixel_shuffle(F.conv2d(x, kernel, padding=1), 2)


def _wave_layers(g_s: Any) -> list[Any]:
    return [*(g_s[index].upsample[0] for index in _UP), g_s[7][0]]
