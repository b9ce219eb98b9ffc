"""Hidden channels that carry next to nothing, made loud enough to be of use.

The principal axes fill 12, 48 and 192 channels of the first three layers; a trained codec's others stay a hundred times
weaker, and GDN weighs squares: nothing that could normalise by them is ever learnt. They get a larger unit, which the
layer after them takes back, so that the codec computes the same until it learns to use them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from slic_cli.training.hyperprior import Hyperprior

_MOST = 100.0  # times louder: what is weaker than this allows stays weaker


@torch.no_grad()
def wake(codec: Hyperprior, crops: Sequence[Tensor], deviation: float) -> None:
    """Bring the hidden channels of plain transforms up to `deviation`, on float crops (3, h, w) in [0, 1] of one size.

    Pictures and bits stay what they are, up to rounding. The codec is on the CPU.
    """
    x = torch.stack(list(crops))
    _wake_layers(codec.net.g_a, x, deviation, inputs=1, outputs=0)
    y = codec.decoded(codec.analyse(x))
    _wake_layers(codec.net.g_s, y / codec.gain, deviation, inputs=0, outputs=1)


def _wake_layers(layers: Any, x: Tensor, deviation: float, inputs: int, outputs: int) -> None:
    """Convolution, norm, convolution ...; `inputs` and `outputs` are the axes of a weight that count channels."""
    for before, norm, after in zip(layers[:-2:2], layers[1:-1:2], layers[2::2], strict=True):
        x = before(x)
        louder = (deviation / x.std((0, 2, 3))).clamp(1, _MOST)
        before.weight.mul_(_along(louder, outputs))
        before.bias.mul_(louder)
        gamma = norm.gamma_reparam(norm.gamma)
        norm.gamma.copy_(norm.gamma_reparam.init(gamma / louder.square()))
        after.weight.div_(_along(louder, inputs))
        x = norm(x * louder.view(-1, 1, 1))


def _along(values: Tensor, axis: int) -> Tensor:
    return values.view(-1, 1, 1, 1) if axis == 0 else values.view(1, -1, 1, 1)
