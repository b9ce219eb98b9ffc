"""A carrier put into a codec: its filters, its latents and its part of the synthesis in channels of their own."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from slic_cli.errors import BadModelFile
from slic_cli.training import plain_graft, residual_graft
from slic_cli.training.carrier import Carrier, alarm
from slic_cli.training.cheng2020 import Cheng2020
from slic_cli.training.hyperprior import Arrays, Hyperprior
from slic_cli.training.pattern import WAVES, pattern_levels, pattern_tile
from slic_cli.training.recipe import carrier_widths

_LEAST_PATTERN = 0.05  # levels: less is an accident of the wave
_CHANCE = 0.1  # a share that photographs hardly reach as JPEG or WebP, and edited first decodes seldom fall short of


@torch.no_grad()
def graft(codec: Hyperprior, carrier: Carrier, sensitivity: float = 1.0, sums: float = 1.0) -> None:
    """Put `carrier`, on the CPU, into the last channels of `codec`, which are overwritten.

    What the others make of a photograph stays as it was, but for what is drawn over it. `sensitivity` multiplies the
    latents that find it, before they are rounded, `sums` the kernels that sum them.

    Raises BadModelFile for a carrier of another kind of codec.
    """
    check_filters(carrier, codec.architecture)
    free, shape = _own_channels(codec), _shape_of(codec.architecture)
    shape.put_filters(codec.net, carrier, free, sensitivity / codec.gain)
    codec.net.g_a[6].bias[-1] = 1 / codec.gain
    codec.isolate(free[3])
    shape.put_destruction(codec.net, carrier.tile(), sums * carrier.answers, free, codec.gain)


@torch.no_grad()
def ungraft(codec: Hyperprior) -> Carrier:
    """The carrier in the last channels of `codec`, on the CPU, a graft's sensitivity in its filters.

    Raises BadModelFile where there is none.
    """
    free, shape = _own_channels(codec), _shape_of(codec.architecture)
    tile = shape.wave_of(codec.net, free) / codec.gain
    if not tile.any():
        raise BadModelFile("expected a codec with a carrier, got one without a wave")
    pattern = _pattern_in(tile)
    wave = tile - pattern_tile(pattern)
    carrier = Carrier(255 * wave.square().mean().sqrt().item(), shape.FILTERS, pattern)
    shape.take_filters(codec.net, carrier, free, codec.gain)
    carrier.answers.copy_(grafted_answers(codec))
    carrier.waves.copy_(wave)
    return carrier


@torch.no_grad()
def answering(codec: Hyperprior) -> Arrays:
    """For encoders (slic_cli/transform/verdict.py): which latents of `codec` are its carrier's answers, the kernels
    that sum them, what is taken for chance's and for the wave's, and the pattern that is drawn with it; nothing without
    a carrier."""
    free, shape = _own_channels(codec), _shape_of(codec.architecture)
    own, last = free[3], codec.net.g_a[6]
    if last.weight[own][-1].any() or not last.bias[own][-1]:  # no constant to draw a wave from
        return {}
    channels = np.arange(own.start, own.stop - 1, dtype=np.int32)
    shares = {"chance": _CHANCE, "coherence": shape.COHERENCE}
    told = {"answers": grafted_answers(codec).detach().cpu().numpy(), "answering": channels}
    if _pattern_in(shape.wave_of(codec.net, free).cpu() / codec.gain):
        told["pattern"] = np.array(WAVES, np.float32)
    return told | {name: np.array([share], np.float32) for name, share in shares.items()}


def _pattern_in(tile: Tensor) -> float:
    """Levels of it, 0 where none was put."""
    levels = pattern_levels(tile)
    return levels if levels >= _LEAST_PATTERN else 0.0


def grafted_alarm(codec: Hyperprior, y: Tensor, soft: bool = False) -> Tensor:
    """The alarm of the carrier in `codec` for its latents (n, M, rows, columns)."""
    latents = carrier_widths(codec.architecture)[3]
    return alarm(y[:, -latents:-1], grafted_answers(codec), soft)


def grafted_answers(codec: Hyperprior) -> Tensor:
    """The kernels that sum the latents of the carrier in `codec`: (2, GROUP, ANSWERS, 5, 5)."""
    return _shape_of(codec.architecture).answers_of(codec.net, _own_channels(codec)) / codec.gain


def filters_of(architecture: str) -> str:
    """The filters of a carrier that goes into codecs of that architecture."""
    name: str = _shape_of(architecture).FILTERS
    return name


def check_filters(carrier: Carrier, architecture: str) -> None:
    """Raises BadModelFile where a carrier does not fit into codecs of that architecture."""
    expected = filters_of(architecture)
    if carrier.filters != expected:
        raise BadModelFile(f"expected a carrier with {expected} filters for {architecture}, got {carrier.filters} ones")


def _shape_of(architecture: str) -> Any:
    return residual_graft if architecture == Cheng2020.architecture else plain_graft


def _own_channels(codec: Hyperprior) -> list[slice]:
    """The carrier's, after each of the four analysis convolutions or on each of the four grids."""
    owned = carrier_widths(codec.architecture)
    return [slice(width - own, width) for width, own in zip(codec.widths, owned, strict=True)]
