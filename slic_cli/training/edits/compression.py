"""Edits that compress: JPEG, WebP, and any frozen codec."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from slic_cli.attacks import Attack
from slic_cli.errors import UsageError
from slic_cli.training.edits.base import Edit, Network, choice, choices, span, text
from slic_cli.training.jpeg_simulation import CHROMA, cubic_round, simulate_jpeg
from slic_cli.training.pixels import to_pixels, to_tensor
from slic_cli.training.rounding import straight_through_round
from slic_cli.training.unet_jpeg import UNetJpeg, load_unet
from slic_cli.training.webp_simulation import simulate_webp


@dataclass(frozen=True, kw_only=True)
class Jpeg(Edit):
    """JPEG; `simulation` says where the gradient comes from, `weights` is the file of a UNetJpeg for "unet".

    A UNetJpeg knows the chroma it was trained with, so that `chroma` does not concern it.
    """

    name: ClassVar[str] = "jpeg"
    quality: tuple[int, int] = span(70, 95, 1, 100, whole=True)
    chroma: tuple[str, ...] = choices(("4:2:0",), *CHROMA)
    simulation: str = choice("straight-through", "straight-through", "cubic", "unet")
    weights: str = text("")

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.simulation == "unet") != bool(self.weights):
            expected = "the path of UNetJPEG's weights" if self.simulation == "unet" else 'simulation = "unet" with it'
            raise UsageError(f"edit jpeg, weights: expected {expected}, got {self.weights!r}")
        if self.weights:
            _ = self._network  # a missing file is reported here, not an hour into training

    @cached_property
    def _network(self) -> UNetJpeg:
        return load_unet(Path(self.weights)).requires_grad_(False)

    def edited(self, x: Tensor, draw: random.Random) -> Tensor:
        quality, chroma = draw.randint(*self.quality), draw.choice(self.chroma)
        if self.simulation == "unet":
            imitated: Tensor = self._network.to(x.device)(x, torch.full((len(x),), float(quality), device=x.device))
            return imitated
        rounding = cubic_round if self.simulation == "cubic" else straight_through_round
        return simulate_jpeg(x, quality, chroma, rounding)


@dataclass(frozen=True, kw_only=True)
class Webp(Edit):
    """Lossy WebP: a rough "stand-in", or the pictures that "libwebp" makes, with the stand-in's gradient."""

    name: ClassVar[str] = "webp"
    quality: tuple[int, int] = span(60, 95, 1, 100, whole=True)
    simulation: str = choice("stand-in", "stand-in", "libwebp")

    def edited(self, x: Tensor, draw: random.Random) -> Tensor:
        quality = draw.randint(*self.quality)
        imitated = simulate_webp(x, quality)
        if self.simulation == "stand-in":
            return imitated
        libwebp = Attack("webp", {"quality": quality})
        decoded = torch.cat([to_tensor(libwebp.apply(to_pixels(picture)), x.device) for picture in x])
        return imitated + (decoded - imitated).detach()


@dataclass(frozen=True, kw_only=True)
class Codec(Edit):
    """A pass through a frozen codec, such as the one training began with; `model` is what the loader is asked for.

    `network` maps (n, 3, h, w), sides divisible by 16, to the same shape. Its parameters are frozen here, while the
    gradient goes through it to the picture.
    """

    name: ClassVar[str] = "codec"
    full_precision: ClassVar[bool] = False
    model: str = text("")
    network: Network | None = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.network is None:
            raise UsageError(f"edit codec, model: expected a codec that can be loaded here, got {self.model!r}")
        if isinstance(self.network, torch.nn.Module):
            self.network.eval().requires_grad_(False)

    def edited(self, x: Tensor, draw: random.Random) -> Tensor:  # noqa: ARG002 - the interface of all edits
        network: Any = self.network
        edited: Tensor = network(x).float()
        return edited
