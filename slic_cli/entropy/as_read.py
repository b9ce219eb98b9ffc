"""Weights of integer networks as those read them: rounded before they are stored, so that files compress better.

What the integers leave out of a half-precision weight is noise to zlib. A weight that an integer stands for has at most
the 11 significant bits of the one it was rounded from, so half precision holds it exactly, and a reader finds the same
integers. Biases are whole multiples of what they are rounded to, but for the smallest of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from slic_cli.entropy.byte_network import HIDDEN_BITS, FixedWeights, to_fixed_weights
from slic_cli.entropy.hyper_latents import Tensors
from slic_cli.entropy.integer_network import WEIGHT_BITS, to_fixed_point
from slic_cli.entropy.latent_coder import LATENT_BITS
from slic_cli.entropy.phases import Kind
from slic_cli.entropy.wavefront import TAPS

Halves = dict[str, npt.NDArray[np.float16]]


def hyperprior_as_read(tensors: Tensors) -> Halves:
    """The weights of h_s in a bmshj2018-hyperprior, float16, with the bits that to_fixed_point keeps."""
    names = [f"h_s.{index}.weight" for index in (0, 2, 4)]
    fixed = {name: to_fixed_point(tensors[name], WEIGHT_BITS) for name in names}
    return {name: _half(np.ldexp(weight, -WEIGHT_BITS)) for name, weight in fixed.items()}


def autoregressive_as_read(tensors: Tensors, layers: Sequence[tuple[str, Kind]]) -> Halves:
    """The same for mbt2018 and cheng2020-anchor, whose h_s has `layers`; zeros for what the context's mask hides."""
    rounded: Halves = {}
    for name, kind in layers:
        turned = kind is Kind.TRANSPOSED
        weight, bias = tensors[f"{name}.weight"], tensors[f"{name}.bias"]
        rows, bias = _rows_as_read(weight.swapaxes(0, 1) if turned else weight, bias, HIDDEN_BITS)
        rounded |= {f"{name}.weight": np.ascontiguousarray(rows.swapaxes(0, 1)) if turned else rows}
        rounded |= {f"{name}.bias": bias}
    for name in (f"entropy_parameters.{index}" for index in (0, 2, 4)):
        weight, bias = _rows_as_read(tensors[f"{name}.weight"], tensors[f"{name}.bias"], HIDDEN_BITS)
        rounded |= {f"{name}.weight": weight, f"{name}.bias": bias}
    return rounded | _context_as_read(tensors)


def _context_as_read(tensors: Tensors) -> Halves:
    """The exponents follow from the 12 taps that count."""
    whole, bias = (tensors[f"context_prediction.{part}"] for part in ("weight", "bias"))
    flat = whole.reshape(*whole.shape[:2], -1)
    seen, bias = _rows_as_read(flat[:, :, :TAPS], bias, LATENT_BITS)
    weight = np.zeros_like(flat, np.float16)
    weight[:, :, :TAPS] = seen
    return {"context_prediction.weight": weight.reshape(whole.shape), "context_prediction.bias": bias}


def _rows_as_read(weight: npt.NDArray[Any], bias: npt.NDArray[Any], bits: int) -> list[npt.NDArray[np.float16]]:
    """`weight` (out, ...) and `bias` of a layer whose input has `bits` fraction bits.

    A row whose rounded weights would have another exponent stays as it is.
    """
    fixed = to_fixed_weights(weight, bias, bits)
    rounded = _floats(fixed, bits)
    same = to_fixed_weights(*rounded, bits).exponents == fixed.exponents
    pairs = zip(rounded, (weight, bias), strict=True)
    return [np.where(same.reshape(-1, *[1] * (new.ndim - 1)), new, old) for new, old in pairs]


def _floats(fixed: FixedWeights, bits: int) -> tuple[npt.NDArray[np.float16], npt.NDArray[np.float16]]:
    by_output = fixed.exponents.reshape(-1, *[1] * (fixed.weight.ndim - 1))
    return _half(np.ldexp(fixed.weight, -by_output)), _half(np.ldexp(fixed.bias, -(fixed.exponents + bits)))


def _half(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float16]:
    """Without negative zeros, which would be one more value to compress."""
    return (values + 0.0).astype(np.float16)
