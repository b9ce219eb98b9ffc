"""Context model and entropy parameters of mbt2018 and cheng2020-anchor as exact integer networks.

Source: Minnen et al. 2018, 3.1 and figure 1: a masked 5 x 5 convolution over what is decoded already, then three 1 x 1
convolutions over it and the hyper-synthesis's output, to a scale and a mean for each latent. docs/format.md gives the
arithmetic.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from slic_cli.entropy.exact_product import ExactProduct, check_exact
from slic_cli.entropy.hyper_latents import Tensors
from slic_cli.entropy.integer_network import ACTIVATION_BITS, LEAKY_SLOPE, Array, Integers, rescale, to_fixed_point
from slic_cli.entropy.wavefront import TAPS

LATENT_BITS = 6  # fraction bits of means and of decoded latents
HIDDEN_BITS = 8  # fraction bits of activations
CONTEXT_BITS = 11  # fraction bits of the masked convolution's weights
WEIGHT_BITS = 10  # fraction bits of the 1 x 1 convolutions' weights
MEAN_MAX = float(1 << (15 + LATENT_BITS))
_CONTEXT_BLOCKS = 6  # of two taps each
_BAND_POSITIONS = 1024  # that the share of the hyper-synthesis is worked out for at a time
_BLOCKS = 4  # of the channels that the other layers see


@dataclass(frozen=True)
class Parameters:
    """Of the latents of n positions: scales and means, (n, M), integers in float64, ACTIVATION_BITS and LATENT_BITS."""

    scales: Array
    means: Array


class Dense:
    """A matrix product in fixed point: rows of integers (n, in), float32, to their sums (n, out), float64."""

    def __init__(self, weight: Array, bias: Array, blocks: int = _BLOCKS) -> None:
        self._bias, matrix = torch.from_numpy(bias), torch.from_numpy(np.ascontiguousarray(weight))
        check_exact(matrix, self._bias)
        self.outputs = len(matrix)
        self._product = ExactProduct(matrix, blocks)

    def __call__(self, x: Tensor) -> Tensor:
        return self._product(x).add_(self._bias)


class ContextModel:
    """context_prediction and entropy_parameters of one model.

    The first 1 x 1 convolution is linear in both of its inputs. Its product with the hyper-synthesis's output is made
    for a whole strip at once (`hyper_share`), that with the context front by front.
    """

    def __init__(self, tensors: Tensors) -> None:
        context = _masked(to_fixed_point(tensors["context_prediction.weight"], CONTEXT_BITS))
        bias = to_fixed_point(tensors["context_prediction.bias"], CONTEXT_BITS + LATENT_BITS)
        self._context = Dense(context, bias, _CONTEXT_BLOCKS)
        (first, b_0), (second, b_1), (third, b_2) = (_pointwise(tensors, index) for index in (0, 2, 4))
        check_exact(torch.from_numpy(first), torch.from_numpy(b_0))
        self.channels = len(context) // 2
        self._hyper_share = Dense(first[:, : 2 * self.channels], b_0)
        self._first = Dense(first[:, 2 * self.channels :], np.zeros(len(first)))
        self._second, self._third = Dense(second, b_1), Dense(third, b_2)

    def hyper_share(self, params: Integers) -> Tensor:
        """The first layer's sums from the hyper-synthesis's output (2 M, rows, columns): (rows, columns, out)."""
        _, rows, columns = params.shape
        share = torch.empty(rows, columns, self._hyper_share.outputs, dtype=torch.float64)
        for top in range(0, rows, max(1, _BAND_POSITIONS // columns)):
            band = slice(top, top + max(1, _BAND_POSITIONS // columns))
            flat = torch.from_numpy(params[:, band].reshape(len(params), -1)).t()
            share[band] = self._hyper_share(flat).view(-1, columns, self._hyper_share.outputs)
        return share

    def __call__(self, seen: Tensor, share: Tensor) -> Parameters:
        """From the neighbours of n positions, (n, 12 M), and their `hyper_share`, (n, out)."""
        x = _activations(self._context(seen), CONTEXT_BITS + LATENT_BITS - HIDDEN_BITS, 1.0)
        x = _activations(self._first(x).add_(share), WEIGHT_BITS, LEAKY_SLOPE)
        x = _activations(self._second(x), WEIGHT_BITS, LEAKY_SLOPE)
        sums = self._third(x).numpy()
        scales = rescale(sums[:, : self.channels], WEIGHT_BITS + HIDDEN_BITS - ACTIVATION_BITS, 0.0)
        means = rescale(sums[:, self.channels :], WEIGHT_BITS + HIDDEN_BITS - LATENT_BITS, 1.0)
        return Parameters(scales, np.clip(means, -MEAN_MAX, MEAN_MAX, out=means))


def _activations(sums: Tensor, shift: int, slope: float) -> Tensor:
    return torch.from_numpy(rescale(sums.numpy(), shift, slope)).float()


def _masked(weight: Array) -> Array:
    """Type-A mask: of a kernel (out, in, 5, 5) the 12 taps before the centre, as (out, 12 in), tap by tap."""
    taps = weight.reshape(*weight.shape[:2], -1)[:, :, :TAPS]
    return taps.transpose(0, 2, 1).reshape(len(weight), -1)


def _pointwise(tensors: Tensors, index: int) -> tuple[Array, Array]:
    """Weight (out, in) and bias of a 1 x 1 convolution, in fixed point."""
    weight, bias = (tensors[f"entropy_parameters.{index}.{part}"] for part in ("weight", "bias"))
    return to_fixed_point(weight, WEIGHT_BITS)[:, :, 0, 0], to_fixed_point(bias, WEIGHT_BITS + HIDDEN_BITS)
