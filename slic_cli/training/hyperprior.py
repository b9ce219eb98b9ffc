"""The codec as it is trained: CompressAI's scale hyperprior in normalised units around the latents.

Latents span three decades of scale and exceed the transforms' own units by 1/quantiser step; trained as they are, the
linear hyper-synthesis needs far too many steps to reach them. So the four maps around the latents work in normalised
units (y = gain g_a(x); g_s(y / gain); h_a(|y| / spread); scale = spread h_s(z)), and are folded into plain CompressAI
weights when they leave: exact, because the gains are positive and the last ReLU is homogeneous.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from slic_cli.errors import BadModelFile
from slic_cli.shapes import hyperprior_shapes
from slic_cli.training.rounding import straight_through_round

Arrays = dict[str, npt.NDArray[Any]]
LEAST_SPREAD = 0.2  # of a latent channel, in quantiser steps
_DERIVED = ("_offset", "_quantized_cdf", "_cdf_length", ".scale_table", ".scale_bound")


@dataclass(frozen=True)
class Coded:
    """A pass through the codec: `pictures` (n, 3, h, w), unclamped; `bits`, estimated, of the whole batch;
    `latents` before rounding."""

    pictures: Tensor
    bits: Tensor
    latents: Tensor


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

    spread: Tensor

    def __init__(self, n: int, m: int, gain: float = 1.0, widths: Sequence[int] | None = None) -> None:
        super().__init__()
        from compressai.models import ScaleHyperprior

        self.n, self.m = n, m
        self.widths = tuple(widths or (n, n, n, m))
        self.net = ScaleHyperprior(n, self.widths[3])
        if self.widths[:3] != (n, n, n):
            self.net.g_a, self.net.g_s = narrow_transforms(self.widths)
        self.gain = gain
        self.register_buffer("spread", torch.ones(1, self.widths[3], 1, 1))

    def forward(self, x: Tensor, noisy: bool = False) -> Coded:
        """Code pictures (n, 3, h, w) in [0, 1], h and w multiples of 64; `noisy` latents reach the synthesis unrounded.

        In training mode the rate is that of latents with uniform noise (Balle et al. 2018, section 3); in evaluation
        mode that of rounded ones.
        """
        y = self.analyse(x)
        z = self.net.h_a(y.abs() / self.spread)
        z_hat, z_likelihoods = self._without_autocast(self.net.entropy_bottleneck, z.float())
        scales = self.net.h_s(z_hat).float() * self.spread
        y_noisy, y_likelihoods = self._without_autocast(self.net.gaussian_conditional, y, scales)
        pictures = self.synthesise(y_noisy if noisy else straight_through_round(y))
        return Coded(pictures, -(y_likelihoods.log2().sum() + z_likelihoods.log2().sum()), y)

    def analyse(self, x: Tensor) -> Tensor:
        """Pictures to latents in quantiser steps, float32, before rounding."""
        y: Tensor = self.net.g_a(x).float() * self.gain
        return y

    def synthesise(self, y_hat: Tensor) -> Tensor:
        """Latents to pictures, float32 and unclamped."""
        pictures: Tensor = self.net.g_s(y_hat / self.gain).float()
        return pictures

    def recompress(self, x: Tensor) -> Tensor:
        """The pictures a second pass makes of `x`, in [0, 1]: gradients pass both roundings straight through."""
        return self.synthesise(straight_through_round(self.analyse(x))).clamp(0, 1)

    @staticmethod
    def _without_autocast(module: nn.Module, *inputs: Tensor) -> tuple[Tensor, Tensor]:
        with torch.autocast(inputs[0].device.type, enabled=False):
            outputs: tuple[Tensor, Tensor] = module(*inputs)
        return outputs

    def quantile_loss(self) -> Tensor:
        """What moves the factorised prior's quantiles; its gradient reaches nothing else."""
        loss: Tensor = self.net.entropy_bottleneck.loss()
        return loss

    def folded(self) -> Arrays:
        """Plain CompressAI weights, float32, and `spread`."""
        state = {k: v.detach().float().cpu() for k, v in self.net.state_dict().items() if not k.endswith(_DERIVED)}
        for name, factor in self._factors().items():
            state[name] = state[name] * factor
        shapes = hyperprior_shapes(self.n, self.m)
        arrays = {name: _widened(np.asarray(tensor), shapes.get(name)) for name, tensor in state.items()}
        return arrays | {"spread": np.asarray(self.spread.detach().float().cpu().flatten())}

    def load_folded(self, arrays: Mapping[str, npt.NDArray[Any]], gain: float) -> None:
        """Take plain CompressAI weights; constants that vanish in half precision stay as they are made.

        Raises BadModelFile for weights of another architecture or size, or of more channels than `widths`.
        """
        self.gain = gain
        if "spread" in arrays:
            spread = np.full(self.widths[3], LEAST_SPREAD, np.float32)
            spread[: len(arrays["spread"])] = arrays["spread"][: len(spread)]
            self.spread.copy_(torch.from_numpy(spread).view(1, -1, 1, 1))
        state = self.net.state_dict()
        weights = {name for name, _ in self.net.named_parameters()}
        shapes = hyperprior_shapes(self.n, self.m)
        for name in weights:
            got = None if name not in arrays else tuple(arrays[name].shape)
            if got != shapes.get(name, tuple(state[name].shape)):
                expected = f"{name} of shape {shapes.get(name, tuple(state[name].shape))}"
                raise BadModelFile(f"expected bmshj2018-hyperprior weights with {expected}, got {got or 'none'}")
            state[name] = torch.from_numpy(_narrowed(name, arrays[name], state[name].shape))
        for name, factor in self._factors().items():
            state[name] = state[name] / factor
        self.net.load_state_dict(state)

    def _factors(self) -> dict[str, Tensor | float]:
        """What each weight is multiplied by on leaving."""
        spread = self.spread.detach().float().cpu()
        by_output = spread.view(-1, 1, 1, 1)
        return {
            "g_a.6.weight": self.gain,
            "g_a.6.bias": self.gain,
            "g_s.0.weight": 1 / self.gain,
            "h_a.0.weight": 1 / spread,
            "h_s.4.weight": by_output,
            "h_s.4.bias": by_output.flatten(),
        }


def _widened(array: npt.NDArray[Any], shape: Sequence[int] | None) -> npt.NDArray[Any]:
    """`array` with zeros for the channels it lacks of `shape`."""
    if shape is None or array.shape == tuple(shape):
        return array
    return np.pad(array, [(0, want - got) for want, got in zip(shape, array.shape, strict=True)])


def _narrowed(name: str, array: npt.NDArray[Any], shape: Sequence[int]) -> npt.NDArray[np.float32]:
    """The leading part of `array` that has `shape`; the rest must be zeros."""
    kept = np.array(array[tuple(slice(side) for side in shape)], np.float32)
    if np.count_nonzero(kept) != np.count_nonzero(array):
        raise BadModelFile(f"expected {name} to use channels {tuple(shape)} at most, got weights beyond them")
    return kept
