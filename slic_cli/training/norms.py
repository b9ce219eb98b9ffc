"""GDN that learns to normalise, and hidden channels worth normalising by.

GDN divides by the root of beta plus activations' squares weighed by gamma. Hidden activations of principal axes are
about 1/30, so gamma must reach hundreds before a norm does anything, and what is learnt is its root: at the pace of
the other weights a codec stays all but linear. Here gamma is learnt in units of the activations. And the principal
axes fill 12, 48 and 192 channels of the first three layers; a trained codec's others stay a hundred times weaker.
They get a larger unit, which the layer after them takes back: the codec computes the same until it learns to use
them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_MOST = 100.0  # times louder: what is weaker than this allows stays weaker
_LEAST_RMS = 0.01  # of activations, for gamma's unit
_SENSITIVE = 0.1  # rms of outputs above which errors of the norm show: it learns more slowly
_SEED = 0.002  # root of gamma, in its unit: from 0 it would not grow


class UnitGDN(nn.Module):
    """CompressAI's GDN (Balle et al. 2016); gamma has a `unit` for each pair of channels, and its root over that is
    what is learnt."""

    unit: Tensor

    def __init__(self, norm: Any) -> None:
        super().__init__()
        self.inverse = norm.inverse
        self.beta, self.beta_reparam = norm.beta, norm.beta_reparam
        self.gamma, self.gamma_reparam = norm.gamma, norm.gamma_reparam
        self.register_buffer("unit", torch.ones_like(norm.gamma))

    def forward(self, x: Tensor) -> Tensor:
        """Activations (n, channels, h, w), normalised."""
        beta, gamma = self.beta_reparam(self.beta), self.gamma_reparam(self.gamma * self.unit)
        norm = F.conv2d(x**2, gamma[:, :, None, None], beta)
        return x * (torch.sqrt(norm) if self.inverse else torch.rsqrt(norm))

    @torch.no_grad()
    def set_unit(self, x: Tensor) -> None:
        """The unit that activations `x` (n, channels, h, w) ask for; gamma stays, but for a seed where it is 0."""
        rms = x.square().mean((0, 2, 3)).sqrt().clamp(min=_LEAST_RMS)
        unit = (_SENSITIVE / rms).clamp(max=1)[:, None] / rms
        self.gamma.mul_(self.unit / unit).clamp_(min=_SEED)
        self.unit.copy_(unit)


def give_units(layers: Any) -> None:
    """Put a norm with units, all 1, in the place of each of CompressAI's."""
    for index, layer in enumerate(layers):
        if hasattr(layer, "gamma_reparam"):
            layers[index] = UnitGDN(layer)


@torch.no_grad()
def set_units(codec: Any, crops: Sequence[Tensor]) -> None:
    """Give gamma in plain transforms the units of activations, from float crops (3, h, w) in [0, 1] of one size."""
    for layers, x in _transforms(codec, crops):
        for layer in layers:
            if isinstance(layer, UnitGDN):
                layer.set_unit(x)
            x = layer(x)


@torch.no_grad()
def wake(codec: Any, crops: Sequence[Tensor], deviation: float) -> None:
    """Bring the hidden channels of plain transforms up to `deviation`, on float crops (3, h, w) in [0, 1] of one size.

    Pictures and bits stay what they are, up to rounding. The codec is on the CPU, its gammas have no units yet.
    """
    for axis, (layers, x) in enumerate(_transforms(codec, crops)):
        _wake_layers(layers, x, deviation, axis)


def _transforms(codec: Any, crops: Sequence[Tensor]) -> Iterator[tuple[Any, Tensor]]:
    """Analysis and synthesis, and what each is given."""
    x = torch.stack(list(crops))
    yield codec.net.g_a, x
    yield codec.net.g_s, codec.decoded(codec.analyse(x)) / codec.gain


def _wake_layers(layers: Any, x: Tensor, deviation: float, outputs: int) -> None:
    """Convolution, norm, convolution ...; `outputs` is the axis of a weight that counts its output channels."""
    for before, norm, after in zip(layers[:-2:2], layers[1:-1:2], layers[2::2], strict=True):
        x = before(x)
        louder = (deviation / x.std((0, 2, 3))).clamp(1, _MOST)
        before.weight.mul_(_along(louder, outputs))
        before.bias.mul_(louder)
        gamma = norm.gamma_reparam(norm.gamma)
        norm.gamma.copy_(norm.gamma_reparam.init(gamma / louder.square()))
        after.weight.div_(_along(louder, 1 - outputs))
        x = norm(x * louder.view(-1, 1, 1))


def _along(values: Tensor, axis: int) -> Tensor:
    return values.view(-1, 1, 1, 1) if axis == 0 else values.view(1, -1, 1, 1)
