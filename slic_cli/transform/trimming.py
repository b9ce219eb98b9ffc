"""Channels left out: those that are zero for every picture, or that wanted latents do not depend on.

A model that uses fewer than N of them runs the faster for it. Nothing that is computed changes: normalisation and leaky
ReLUs leave zeros zero.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from slic_cli.errors import BadModelFile
from slic_cli.transform.layers import Arrays

_LAST = "g_a.6"  # writes the latents
_LEAST_GAMMA = 1e-5  # of its roots, as files hold them: from here on a norm hears another channel
_LEVELS = (0, 1, 2)  # grids between pixels and latents, in the order in which a network comes to them


@dataclass(frozen=True)
class _Stream:
    """Channels that several convolutions write, added up, and others read.

    A weight holds outputs along axis `out`; those of `shuffled` convolutions lie four to a
    channel, for a pixel shuffle.
    """

    written: tuple[str, ...]
    read: tuple[str, ...]
    norm: str | None = None
    shuffled: tuple[str, ...] = ()
    out: int = 0


def trim_hyperprior(tensors: Arrays) -> Arrays:
    """bmshj2018-hyperprior and mbt2018 without inner channels of g_a, g_s and h_a whose weights and bias are all zero.

    At least one channel of each layer stays. Raises BadModelFile.
    """
    return _trim(tensors, [*_plain("g_a", 0), *_plain("g_s", 1), *_hyper_analysis(2)])


def trim_anchor(tensors: Arrays) -> Arrays:
    """The same for cheng2020-anchor: inside its residual blocks and along the paths that they add to."""
    return _trim(tensors, [*_anchor_analysis(), *_anchor_synthesis(), *_hyper_analysis(4)])


def hyperprior_part(tensors: Arrays, latents: npt.NDArray[np.int64]) -> Arrays:
    """bmshj2018-hyperprior or mbt2018 of which g_a makes `latents` alone and all else is zero."""
    return _part(tensors, list(_plain("g_a", 0)), latents)


def anchor_part(tensors: Arrays, latents: npt.NDArray[np.int64]) -> Arrays:
    """The same for cheng2020-anchor."""
    return _part(tensors, list(_anchor_analysis()), latents)


def _plain(net: str, out: int) -> Iterator[_Stream]:
    """Between the four convolutions of g_a or g_s."""
    for index in (0, 2, 4):
        yield _Stream((f"{net}.{index}",), (f"{net}.{index + 2}",), f"{net}.{index + 1}", out=out)


def _hyper_analysis(hidden: int) -> list[_Stream]:
    """h_a's inner channels: convolutions one after the other, without a norm."""
    return [_Stream((f"h_a.{2 * index}",), (f"h_a.{2 * index + 2}",)) for index in range(hidden)]


def _anchor_analysis() -> Iterator[_Stream]:
    """On each grid a block that halves it and one that keeps it."""
    for level in _LEVELS:
        first, second, following = (f"g_a.{2 * level + step}" for step in (0, 1, 2))
        for block in (first, second):
            yield _Stream((f"{block}.conv1",), (f"{block}.conv2",))
        added = (f"{first}.conv2", f"{first}.skip", f"{second}.conv2")
        after = (following,) if level == 2 else (f"{following}.conv1", f"{following}.skip")
        yield _Stream(added, (f"{second}.conv1", *after), f"{first}.gdn")


def _anchor_synthesis() -> Iterator[_Stream]:
    """A block on the latents' grid, then on each grid one that doubles it and one that keeps it."""
    yield _Stream(("g_s.0.conv1",), ("g_s.0.conv2",))
    for level in _LEVELS:
        first, second, following = (f"g_s.{2 * level + step}" for step in (1, 2, 3))
        subpel, skip = f"{first}.subpel_conv.0", f"{first}.upsample.0"
        yield _Stream((subpel,), (f"{first}.conv",), shuffled=(subpel,))
        yield _Stream((f"{second}.conv1",), (f"{second}.conv2",))
        added = (f"{first}.conv", skip, f"{second}.conv2")
        after = (f"{following}.0",) if level == 2 else (f"{following}.subpel_conv.0", f"{following}.upsample.0")
        yield _Stream(added, (f"{second}.conv1", *after), f"{first}.igdn", shuffled=(skip,))


def _trim(tensors: Arrays, streams: list[_Stream]) -> Arrays:
    trimmed = dict(tensors)
    for stream in streams:
        for name in _names(stream):
            if name not in tensors:
                raise BadModelFile(f"expected the tensor {name}, got a model without it")
        live = np.any([_live(trimmed, layer, stream) for layer in stream.written], axis=0)
        live[0] = True
        for layer in stream.written:
            kept = live.repeat(4) if layer in stream.shuffled else live
            trimmed[f"{layer}.weight"] = trimmed[f"{layer}.weight"].compress(kept, stream.out)
            trimmed[f"{layer}.bias"] = trimmed[f"{layer}.bias"][kept]
        for layer in stream.read:
            trimmed[f"{layer}.weight"] = trimmed[f"{layer}.weight"].compress(live, 1 - stream.out)
        if stream.norm:
            trimmed[f"{stream.norm}.beta"] = trimmed[f"{stream.norm}.beta"][live]
            trimmed[f"{stream.norm}.gamma"] = trimmed[f"{stream.norm}.gamma"][live][:, live]
    return trimmed


def _part(tensors: Arrays, streams: list[_Stream], latents: npt.NDArray[np.int64]) -> Arrays:
    part = {
        name: np.zeros_like(array) if name.startswith(("g_s.", "h_a.")) else array for name, array in tensors.items()
    }
    for name in (f"{_LAST}.weight", f"{_LAST}.bias"):
        part[name] = tensors[name][latents]
    for stream, wanted in zip(streams, _wanted(part, streams), strict=True):
        for layer in stream.written:
            for name in (f"{layer}.weight", f"{layer}.bias"):
                part[name] = part[name] * wanted.reshape(-1, *[1] * (part[name].ndim - 1))
    return part


def _wanted(tensors: Arrays, streams: list[_Stream]) -> list[npt.NDArray[np.bool_]]:
    """Which channels of each stream of g_a the latents depend on, by way of others, too."""
    wanted = [np.zeros(len(tensors[f"{stream.written[0]}.bias"]), np.bool_) for stream in streams]
    writes = {layer: mask for stream, mask in zip(streams, wanted, strict=True) for layer in stream.written}
    writes[_LAST] = np.ones(len(tensors[f"{_LAST}.bias"]), np.bool_)
    while True:
        before = sum(mask.sum() for mask in wanted)
        for stream, mask in zip(streams, wanted, strict=True):
            for layer in stream.read:
                mask |= tensors[f"{layer}.weight"][writes[layer]].any((0, 2, 3))
            if stream.norm:
                mask |= (tensors[f"{stream.norm}.gamma"][mask] > _LEAST_GAMMA).any(0)
        if sum(mask.sum() for mask in wanted) == before:
            return wanted


def _names(stream: _Stream) -> Iterator[str]:
    for layer in stream.written:
        yield from (f"{layer}.weight", f"{layer}.bias")
    if stream.norm:
        yield from (f"{stream.norm}.beta", f"{stream.norm}.gamma")
    yield from (f"{layer}.weight" for layer in stream.read)


def _live(tensors: dict[str, npt.NDArray[Any]], layer: str, stream: _Stream) -> npt.NDArray[np.bool_]:
    weight, bias = tensors[f"{layer}.weight"], tensors[f"{layer}.bias"]
    live: npt.NDArray[np.bool_] = weight.any(axis=tuple(axis for axis in range(4) if axis != stream.out)) | (bias != 0)
    return live.reshape(-1, 4).any(1) if layer in stream.shuffled else live
