"""Channels of the hyper-networks that sleep: found before a model leaves, and stored as zeros.

Rectified channels die in training: whatever the picture, some never come above zero, and many hyper-latents are always
their median. Their weights are noise that costs room and time. Zeros compress, and trimming.py and the integer networks
leave them out.

Weights alone prove little of this: a dead channel's are as large as another's, and latents have no bounds. So
candidates come from the latents of photographs, at their size and twice it, which a channel that is only just asleep
does not survive. A channel that some other photograph would have woken costs that one bits, nothing else: encoder and
decoder read the same weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F

from slic_cli.architectures import find_architecture
from slic_cli.entropy.byte_network import HIDDEN_BITS
from slic_cli.entropy.integer_network import ACTIVATION_BITS, IntegerLayer, to_fixed_point
from slic_cli.entropy.phases import Kind
from slic_cli.quantisation import quantise
from slic_cli.transform.minnen2018 import MAGNITUDES

Array = npt.NDArray[Any]
Arrays = dict[str, Array]
Mask = npt.NDArray[np.bool_]

_RECTIFIED = "bmshj2018-hyperprior"  # the others have leaky ReLUs: no channel of theirs is ever constant
_STRETCHES = (1.0, 2.0)
_STRIDES = {"h_a.0": 1, "h_a.2": 2, "h_a.4": 2}
# Hidden channels, from the last to the first: the layer that writes them, its axis of outputs, the one that reads them
# and its axis of inputs.
_HIDDEN = (("h_s.2", 1, "h_s.4", 1), ("h_s.0", 1, "h_s.2", 0), ("h_a.2", 0, "h_a.4", 1), ("h_a.0", 0, "h_a.2", 1))


def let_sleep(arrays: Arrays, architecture: str, latents: Sequence[Array]) -> Arrays:
    """Plain CompressAI weights with zeros for what sleeps on `latents`, float32 (M, rows, columns) before rounding.

    Hyper-latents that are always their median stay so: their row in h_a becomes that median, and what they add to
    h_s, in which they differ no more, comes from one of them. Of bmshj2018-hyperprior, hidden channels that are always
    0, and those that nothing reads, get no weights. On `latents` nothing but roundings changes.
    """
    kept = {name: array.copy() if name.startswith("h_") else array for name, array in arrays.items()}
    _still(kept, architecture, _always_median(kept, architecture, latents))
    if architecture == _RECTIFIED:
        asleep = _never_awake(kept, [factor * y for y in latents for factor in _STRETCHES])
        for writer, out, reader, into in _HIDDEN:
            unread = ~_axis_first(kept[f"{reader}.weight"], into).any((1, 2, 3))
            _silence(kept, writer, out, asleep[writer] | unread)
            _axis_first(kept[f"{reader}.weight"], into)[asleep[writer]] = 0
    return kept


def _axis_first(weight: Array, axis: int) -> Array:
    """A view: what is assigned to it is assigned to `weight`."""
    return np.moveaxis(weight, axis, 0)


def _silence(arrays: Arrays, layer: str, out: int, channels: Mask) -> None:
    _axis_first(arrays[f"{layer}.weight"], out)[channels] = 0
    arrays[f"{layer}.bias"][channels] = 0


def _half(arrays: Arrays) -> Arrays:
    """What a model file will hold of the weights."""
    return {name: array.astype(np.float16) for name, array in arrays.items()}


def _medians(arrays: Arrays) -> npt.NDArray[np.float32]:
    return arrays["entropy_bottleneck.quantiles"][:, 0, 1].astype(np.float16).astype(np.float32)


def _always_median(arrays: Arrays, architecture: str, latents: Sequence[Array]) -> Mask:
    """The hyper-latents that an encoder never finds to be another."""
    tensors = _half(arrays)
    if "hyper_magnitudes" in arrays:
        tensors[MAGNITUDES] = arrays["hyper_magnitudes"]
    transform = find_architecture(architecture).transform(tensors, torch.device("cpu"), torch.float32)
    medians = torch.from_numpy(_medians(arrays))[:, None, None]
    symbols = [quantise(transform.hyper_analysis(torch.from_numpy(y)) - medians) for y in latents]
    return ~np.any([channels.any((1, 2)) for channels in symbols], axis=0)


def _still(arrays: Arrays, architecture: str, still: Mask) -> None:
    """Make the hyper-latents `still` their medians for every picture.

    h_s pads with zeros, so a constant cannot go into its bias; but all of them are padded alike, and one can add what
    they all did.
    """
    last = max(name.removesuffix(".weight") for name in arrays if name.startswith("h_a.") and name.endswith(".weight"))
    _silence(arrays, last, 0, still)
    arrays[f"{last}.bias"][still] = _medians(arrays)[still]
    bits = ACTIVATION_BITS if architecture == _RECTIFIED else HIDDEN_BITS
    constants = np.where(still, to_fixed_point(_medians(arrays), bits), 0.0)
    heard = _axis_first(arrays["h_s.0.weight"], 1 if architecture == "cheng2020-anchor" else 0)
    added = np.tensordot(constants, heard, 1)
    heard[still] = 0
    if constants.any():
        loudest = int(np.abs(constants).argmax())
        heard[loudest] = added / constants[loudest]


def _never_awake(arrays: Arrays, latents: Sequence[Array]) -> dict[str, Mask]:
    """The channels of each hidden layer that stay 0: of h_a in floating point, of h_s in its integers."""
    half = _half(arrays)
    h_s = [IntegerLayer(half[f"{name}.weight"], half[f"{name}.bias"], Kind.TRANSPOSED) for name in ("h_s.0", "h_s.2")]
    awake: dict[str, list[Mask]] = {name: [] for name, *_ in _HIDDEN}
    for y in latents:
        for name, activations in _activations(half, h_s, y).items():
            awake[name].append(activations.any((1, 2)))
    return {name: ~np.any(masks, axis=0) for name, masks in awake.items()}


@torch.inference_mode()
def _activations(half: Arrays, h_s: Sequence[IntegerLayer], y: Array) -> Arrays:
    """Of each hidden layer, after its ReLU, for one picture's latents."""
    weights = {name: torch.from_numpy(array.astype(np.float32)) for name, array in half.items() if name[:4] == "h_a."}

    def convolve(x: torch.Tensor, layer: str) -> torch.Tensor:
        weight = weights[f"{layer}.weight"]
        return F.conv2d(x, weight, weights[f"{layer}.bias"], _STRIDES[layer], weight.shape[2] // 2)

    first = convolve(torch.from_numpy(np.abs(y))[None], "h_a.0").relu_()
    second = convolve(first, "h_a.2").relu_()
    medians = _medians(half)
    symbols = quantise(convolve(second, "h_a.4")[0] - torch.from_numpy(medians)[:, None, None])
    z_hat = to_fixed_point(symbols + medians[:, None, None], ACTIVATION_BITS)
    third = h_s[0](z_hat)
    return {"h_a.0": first[0].numpy(), "h_a.2": second[0].numpy(), "h_s.0": third, "h_s.2": h_s[1](third)}
