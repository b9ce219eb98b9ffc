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

from slic_cli.entropy.byte_network import HIDDEN_BITS, LEAKY_SLOPE, ByteLayer, FixedWeights, Floats, to_fixed_weights
from slic_cli.entropy.byte_product import operand
from slic_cli.entropy.hyper_latents import Tensors
from slic_cli.entropy.latent_coder import LATENT_BITS
from slic_cli.entropy.wavefront import TAPS

SCALE_BITS = 12  # fraction bits of scales
PARAMETER_MAX = float(1 << 21)  # size of a scale or mean
_BAND_POSITIONS = 1024  # that the share of the hyper-synthesis is worked out for at a time


@dataclass(frozen=True)
class Parameters:
    """Of the latents of n positions: scales and means, (n, M), integers in float64, SCALE_BITS and LATENT_BITS."""

    scales: Tensor
    means: Tensor


class ContextModel:
    """context_prediction and entropy_parameters of one model.

    The first 1 x 1 convolution is linear in both of its inputs. Its product with the hyper-synthesis's output is made
    for a whole strip at once (`hyper_share`), that with the context front by front.
    """

    def __init__(self, tensors: Tensors) -> None:
        masked = _masked(tensors["context_prediction.weight"])
        self._context = ByteLayer(
            to_fixed_weights(masked, tensors["context_prediction.bias"], LATENT_BITS), LATENT_BITS
        )
        self.channels = self._context.outputs // 2
        first, second, third = (_pointwise(tensors, index) for index in (0, 2, 4))
        params, context = np.split(first.weight, [2 * self.channels], 1)
        self._hyper_share = ByteLayer(FixedWeights(params, first.bias, first.exponents), HIDDEN_BITS)
        self._first = ByteLayer(FixedWeights(context, first.bias, first.exponents), HIDDEN_BITS, slope=LEAKY_SLOPE)
        self._second = ByteLayer(second, HIDDEN_BITS, slope=LEAKY_SLOPE)
        self._third = ByteLayer(third, HIDDEN_BITS, np.repeat([SCALE_BITS, LATENT_BITS], self.channels))

    def hyper_share(self, params: Tensor) -> Tensor:
        """What int16 (rows, columns, 2 M), from the hyper-synthesis, adds to the first layer: (rows, columns, out)."""
        rows, columns, channels = params.shape
        share = torch.empty(rows, columns, self._hyper_share.outputs, dtype=torch.float64)
        height = max(1, _BAND_POSITIONS // columns)
        for top in range(0, rows, height):
            band = params[top : top + height].reshape(-1, channels)
            share[top : top + height] = self._hyper_share.share(operand(band)).view(-1, columns, share.shape[2])
        return share

    def __call__(self, seen: Tensor, share: Tensor) -> Parameters:
        """From the neighbours of n positions, an operand (parts, n, 12 M), and their `hyper_share`, (n, out)."""
        x = self._first(operand(self._context(seen)), share)
        both = self._third(operand(self._second(operand(x))), limit=PARAMETER_MAX)
        return Parameters(both[:, : self.channels].clamp_(min=0), both[:, self.channels :])


def _masked(weight: Floats) -> Floats:
    """Type-A mask: of a kernel (out, in, 5, 5) the 12 taps before the centre, as (out, 12 in), tap by tap."""
    taps = weight.reshape(*weight.shape[:2], -1)[:, :, :TAPS]
    return taps.transpose(0, 2, 1).reshape(len(weight), -1)


def _pointwise(tensors: Tensors, index: int) -> FixedWeights:
    """A 1 x 1 convolution as a matrix."""
    weight, bias = (tensors[f"entropy_parameters.{index}.{part}"] for part in ("weight", "bias"))
    return to_fixed_weights(weight[:, :, 0, 0], bias, HIDDEN_BITS)
