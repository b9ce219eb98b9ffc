"""The codec as it is trained: CompressAI's scale hyperprior in normalised units around the latents.

Latents span three decades of scale and exceed the transforms' own units by 1/quantiser step; trained as they are, the
linear hyper-synthesis needs far too many steps to reach them. So the four maps around the latents work in normalised
units (y = gain g_a(x); g_s(y / gain); h_a(|y| / spread); scale = spread h_s(z)), and are folded into plain CompressAI
weights when they leave: exact, because the gains are positive and the last ReLU is homogeneous.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from slic_cli.errors import BadModelFile
from slic_cli.shapes import Shapes, hyperprior_shapes
from slic_cli.training.norms import give_units
from slic_cli.training.rounding import straight_through_round
from slic_cli.transform.edges import DEPTH, filter_edges

Array = npt.NDArray[Any]
Arrays = dict[str, Array]
LEAST_SPREAD = 0.2  # of a latent channel, in quantiser steps
QUIET_SCALE = 0.12  # of latents that are nearly always what they are expected to be
_DERIVED = ("_offset", "_quantized_cdf", "_cdf_length", ".scale_table", ".scale_bound", ".mask", ".unit")


@dataclass(frozen=True)
class Coded:
    """A pass through the codec: `pictures` (n, 3, h, w), unclamped; `bits`, estimated, of the whole batch;
    `latents` before rounding."""

    pictures: Tensor
    bits: Tensor
    latents: Tensor


@dataclass(frozen=True)
class Prior:
    """What latents are coded with: `scales` and `means` (None: all 0), in quantiser steps, and the hyper-latents'
    `bits`, estimated."""

    scales: Tensor
    means: Tensor | None
    bits: Tensor

    def round(self, y: Tensor) -> Tensor:
        """`y` as the decoder gets it, straight through: the offset from the mean is what is a whole number."""
        return straight_through_round(y) if self.means is None else straight_through_round(y - self.means) + self.means


Rounding = Callable[[Prior, Tensor], Tensor]  # latents as the decoder gets them, straight through


def best_gain(rate_weight: float) -> float:
    """1/step of the uniform quantiser that balances rate and distortion for coded coefficients at that lambda."""
    return math.sqrt(math.log(2) * rate_weight * 255**2 / 18)


def narrow_transforms(widths: Sequence[int]) -> tuple[nn.Sequential, nn.Sequential]:
    """g_a and g_s (Balle et al. 2018) with `widths` channels after the four analysis convolutions."""
    from compressai.layers import GDN
    from compressai.models.utils import conv, deconv

    a, b, c, m = widths
    g_a = nn.Sequential(conv(3, a), GDN(a), conv(a, b), GDN(b), conv(b, c), GDN(c), conv(c, m))
    norms = [GDN(width, inverse=True) for width in (c, b, a)]
    g_s = nn.Sequential(deconv(m, c), norms[0], deconv(c, b), norms[1], deconv(b, a), norms[2], deconv(a, 3))
    return g_a, g_s


class Hyperprior(nn.Module):
    """bmshj2018-hyperprior (Balle et al. 2018) with N = `n`, M = `m`, in normalised units.

    `widths`, at most (N, N, N, M), are the channels in use after the four analysis convolutions: early layers see most
    pixels and need the fewest. The others are zeros in the weights that leave.
    Runs under the caller's autocast; what is rounded, and the likelihoods, stay in float32.
    """

    architecture: ClassVar[str] = "bmshj2018-hyperprior"
    halves: ClassVar[Mapping[str, int]] = {}  # weights of which an axis holds two lots of channels: name to axis
    net: Any
    spread: Tensor
    edge_filter: Tensor
    edge_colour: Tensor

    def __init__(self, n: int, m: int, gain: float = 1.0, widths: Sequence[int] | None = None) -> None:
        super().__init__()
        self.n, self.m = n, m
        self.widths = tuple(widths or (n, n, n, m))
        self.net = self._make_net()
        self.gain = gain
        self.register_buffer("spread", torch.ones(1, self.widths[3], 1, 1))
        self.register_buffer("edge_filter", torch.eye(DEPTH))
        self.register_buffer("edge_colour", torch.zeros(3))

    def shapes(self) -> Shapes:
        """Of plain weights."""
        return hyperprior_shapes(self.n, self.m)

    def _make_net(self) -> nn.Module:
        from compressai.models import ScaleHyperprior

        return self._with_own_transforms(ScaleHyperprior(self.n, self.widths[3]))

    def _with_own_transforms(self, net: Any) -> nn.Module:
        if self.widths[:3] != (self.n, self.n, self.n):
            net.g_a, net.g_s = narrow_transforms(self.widths)
        for layers in (net.g_a, net.g_s):
            give_units(layers)
        module: nn.Module = net
        return module

    def forward(self, x: Tensor, noisy: bool = False, rounding: Rounding = Prior.round) -> Coded:
        """Code pictures (n, 3, h, w) in [0, 1], h and w multiples of 64; `noisy` latents reach the synthesis unrounded,
        others after `rounding`.

        In training mode the rate is that of latents with uniform noise (Balle et al. 2018, section 3); in evaluation
        mode that of rounded ones.
        """
        y = self.analyse(x)
        bits, y_noisy, prior = self.code(y)
        return Coded(self.synthesise(y_noisy if noisy else rounding(prior, y)), bits, y)

    def code(self, y: Tensor) -> tuple[Tensor, Tensor, Prior]:
        """The bits that latents cost, the latents whose bits these are (with noise in training mode), and the prior."""
        prior = self.prior(y, self.training)
        y_noisy, likelihoods = self._without_autocast(self.net.gaussian_conditional, y, prior.scales, prior.means)
        return prior.bits - likelihoods.log2().sum(), y_noisy, prior

    def prior(self, y: Tensor, noisy: bool) -> Prior:
        """What `y` is coded with, by way of hyper-latents with noise or rounded ones."""
        z_hat, bits = self._hyper_latents(self.net.h_a(y.abs() / self.spread), noisy)
        return Prior(self.net.h_s(z_hat).float() * self.spread, None, bits)

    def _hyper_latents(self, z: Tensor, noisy: bool) -> tuple[Tensor, Tensor]:
        z_hat, likelihoods = self._without_autocast(self.net.entropy_bottleneck, z.float(), noisy)
        return z_hat, -likelihoods.log2().sum()

    def analyse(self, x: Tensor) -> Tensor:
        """Pictures to latents in quantiser steps, float32, before rounding."""
        y: Tensor = self.net.g_a(filter_edges(x, self.edge_filter, self.edge_colour)).float() * self.gain
        return y

    def decoded(self, y: Tensor) -> Tensor:
        """Latents as the decoder gets them, straight through."""
        return straight_through_round(y)

    def synthesise(self, y_hat: Tensor) -> Tensor:
        """Latents to pictures, float32 and unclamped."""
        pictures: Tensor = self.net.g_s(y_hat / self.gain).float()
        return pictures

    def recompress(self, x: Tensor) -> Tensor:
        """The pictures a second pass makes of `x`, in [0, 1]: gradients pass both roundings straight through."""
        return self.synthesise(self.decoded(self.analyse(x))).clamp(0, 1)

    @torch.no_grad()
    def isolate(self, own: slice) -> None:
        """Make the latents `own` no part of the hyper-latents, expected to be 0; the very last, always 1, is too."""
        self.spread[:, own] = 1
        self.net.h_a[0].weight[:, own] = 0
        self.net.h_s[4].weight[own] = 0
        self.net.h_s[4].bias[own] = QUIET_SCALE
        self.net.h_s[4].bias[-1] = 1

    @staticmethod
    def _without_autocast(module: Callable[..., Any], *inputs: Any) -> tuple[Tensor, Tensor]:
        with torch.autocast(inputs[0].device.type, enabled=False):
            outputs: tuple[Tensor, Tensor] = module(*inputs)
        return outputs

    def quantile_loss(self) -> Tensor:
        """What moves the factorised prior's quantiles; its gradient reaches nothing else."""
        loss: Tensor = self.net.entropy_bottleneck.loss()
        return loss

    def folded(self) -> Arrays:
        """Plain CompressAI weights, float32, `spread`, and what the encoder does at the edges, if anything."""
        state = {k: v.detach().float().cpu() for k, v in self.net.state_dict().items() if not k.endswith(_DERIVED)}
        for name, factor in self._factors().items():
            state[name] = state[name] * factor
        shapes = self.shapes()
        arrays = {
            name: _widened(np.asarray(tensor), shapes.get(name), self.halves.get(name))
            for name, tensor in state.items()
        }
        return arrays | {name: np.asarray(tensor.detach().float().cpu()) for name, tensor in self._measured().items()}

    def _measured(self) -> dict[str, Tensor]:
        """What goes with the weights and is no weight."""
        edges = {"edge_filter": self.edge_filter, "edge_colour": self.edge_colour}
        plain = torch.equal(self.edge_filter.cpu(), torch.eye(DEPTH))
        return {"spread": self.spread.flatten(), **({} if plain else edges)}

    def regain(self, gain: float) -> None:
        """Other quantiser steps, 1 / `gain`, for the same networks: a start for another lambda."""
        self.spread *= gain / self.gain
        self.gain = gain

    def load_folded(self, arrays: Mapping[str, Array], gain: float) -> None:
        """Take plain CompressAI weights; constants that vanish in half precision stay as they are made.

        Raises BadModelFile for weights of another architecture or size, or of more channels than `widths`.
        """
        self._take("", arrays, gain)

    def load_transforms(self, arrays: Mapping[str, Array], gain: float) -> None:
        """The same for g_a and g_s alone; the entropy model stays as it is."""
        self._take("g_", arrays, gain)

    def _take(self, prefix: str, arrays: Mapping[str, Array], gain: float) -> None:
        self.gain = gain
        if "spread" in arrays:
            spread = np.full(self.widths[3], LEAST_SPREAD, np.float32)
            spread[: len(arrays["spread"])] = arrays["spread"][: len(spread)]
            self.spread.copy_(torch.from_numpy(spread).view(1, -1, 1, 1))
        for name in ("edge_filter", "edge_colour"):
            if name in arrays:
                getattr(self, name).copy_(torch.from_numpy(np.array(arrays[name], np.float32)))
        state = self.net.state_dict()
        taken = {name for name, _ in self.net.named_parameters() if name.startswith(prefix)}
        shapes = self.shapes()
        for name in taken:
            expected = shapes.get(name, tuple(state[name].shape))
            got = None if name not in arrays else tuple(arrays[name].shape)
            if got != expected:
                wanted = f"{self.architecture} weights with {name} of shape {expected}"
                raise BadModelFile(f"expected {wanted}, got {got or 'none'}")
            state[name] = torch.from_numpy(_narrowed(name, arrays[name], state[name].shape, self.halves.get(name)))
        for name, factor in self._factors().items():
            state[name] = state[name] / factor if name in taken else state[name]
        self.net.load_state_dict(state)

    def _factors(self) -> dict[str, Tensor | float]:
        """What each weight is multiplied by on leaving."""
        return self._transform_factors() | self._entropy_factors()

    def _transform_factors(self) -> dict[str, Tensor | float]:
        units = {name: unit for name, unit in self.net.named_buffers() if name.endswith(".unit")}
        gammas = {f"{name.removesuffix('unit')}gamma": unit.detach().float().cpu() for name, unit in units.items()}
        return {"g_a.6.weight": self.gain, "g_a.6.bias": self.gain, "g_s.0.weight": 1 / self.gain, **gammas}

    def _entropy_factors(self) -> dict[str, Tensor | float]:
        spread = self.spread.detach().float().cpu()
        by_output = spread.view(-1, 1, 1, 1)
        return {"h_a.0.weight": 1 / spread, "h_s.4.weight": by_output, "h_s.4.bias": by_output.flatten()}


def _widened(array: Array, shape: Sequence[int] | None, halved: int | None) -> Array:
    """`array` with zeros for the channels it lacks of `shape`, in both halves along an axis that is `halved`."""
    if shape is None or array.shape == tuple(shape):
        return array
    if halved is not None:
        parts = np.split(array, 2, halved)
        return np.concatenate([_widened(part, _half(shape, halved), None) for part in parts], halved)
    return np.pad(array, [(0, want - got) for want, got in zip(shape, array.shape, strict=True)])


def _narrowed(name: str, array: Array, shape: Sequence[int], halved: int | None) -> npt.NDArray[np.float32]:
    """The leading part of `array`, or of its halves, that has `shape`; the rest must be zeros."""
    if halved is not None:
        parts = np.split(array, 2, halved)
        return np.concatenate([_narrowed(name, part, _half(shape, halved), None) for part in parts], halved)
    kept = np.array(array[tuple(slice(side) for side in shape)], np.float32)
    if np.count_nonzero(kept) != np.count_nonzero(array):
        raise BadModelFile(f"expected {name} to use channels {tuple(shape)} at most, got weights beyond them")
    return kept


def _half(shape: Sequence[int], axis: int) -> tuple[int, ...]:
    return tuple(side // 2 if index == axis else side for index, side in enumerate(shape))
