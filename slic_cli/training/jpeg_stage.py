"""The jpeg-sim stage: UNetJPEG learns to imitate the real encoder (Huang & Wu 2025, section 3.3 and Table A1)."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from slic_cli.metrics import psnr_db
from slic_cli.training.objectives import Terms
from slic_cli.training.photographs import Photographs
from slic_cli.training.pixels import to_pixels
from slic_cli.training.recipe import JpegSimTable, Recipe
from slic_cli.training.unet_jpeg import UNetJpeg, jpeg_pairs, unet_jpeg_step
from slic_cli.training.unet_start import start_near_identity
from slic_cli.training.validation import Validation


class JpegObjective(nn.Module):
    """The mean squared error against the real encoder."""

    def __init__(self, net: UNetJpeg, quality: tuple[int, int]) -> None:
        super().__init__()
        self.net, self.quality = net, quality

    def forward(self, x: Tensor, draw: random.Random, progress: float) -> Terms:
        """Terms for crops (n, 3, h, w) in [0, 1]."""
        del progress
        loss = unet_jpeg_step(self.net, x, draw, self.quality)
        return Terms(loss, {"loss": loss.detach(), "mse": loss.detach()})


@dataclass
class JpegStage:
    """A stage that trains UNetJPEG."""

    name: str
    table: JpegSimTable
    identity: Mapping[str, Any]
    trained: UNetJpeg
    objective: nn.Module
    photographs: Photographs
    patch: int

    def parameter_groups(self) -> list[dict[str, Any]]:
        """All weights alike."""
        return [{"params": list(self.trained.parameters()), "rate": 1.0, "clipped": True}]

    def batch(self, draw: random.Random, count: int) -> Tensor:
        """Crops of the training photographs."""
        return self.photographs.crops(draw, count, self.patch)

    @torch.inference_mode()
    def validate(self) -> Validation:
        """PSNR against real JPEG of the network and of the untouched picture, in the middle of the quality range.

        The picture shows a photograph, its JPEG and its imitation.
        """
        quality = sum(self.table.quality) // 2
        self.trained.eval()
        rows = [self._compare(photo, quality) for photo in self.photographs.validation]
        self.trained.train(not self.table.near_identity)
        imitated, untouched = (sum(row[key] for row in rows) / len(rows) for key in (0, 1))
        return Validation({"unet_db": imitated, "untouched_db": untouched}, -imitated, rows[0][2])

    def _compare(self, photo: Tensor, quality: int) -> tuple[float, float, Any]:
        x = photo[None].float() / 255
        real = to_pixels(jpeg_pairs(x, [quality])[0])
        imitation = to_pixels(self.trained(x, torch.tensor([quality], device=x.device))[0])
        original = to_pixels(x[0])
        return psnr_db(real, imitation), psnr_db(real, original), np.concatenate([original, real, imitation], 1)


def jpeg_stage(table: JpegSimTable, photographs: Photographs, recipe: Recipe, device: torch.device) -> JpegStage:
    """The stage of a recipe, its network freshly initialised."""
    torch.manual_seed(random.Random(f"{recipe.data.seed} jpeg-sim").getrandbits(63))
    net = UNetJpeg(table.width).to(device).to(memory_format=torch.channels_last)
    if table.near_identity:
        start_near_identity(net)
    net.train(not table.near_identity)  # the start holds with the statistics that it sets
    identity = {"architecture": "unet-jpeg", "width": table.width, "seed": recipe.data.seed}
    objective = JpegObjective(net, table.quality)
    return JpegStage("jpeg-sim", table, identity, net, objective, photographs, recipe.data.patch)
